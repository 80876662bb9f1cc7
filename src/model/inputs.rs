//! What the host writes before a replay, and where sums and states live.

use crate::config::model::ModelConfig;
use crate::graph::op::{LossSlots, Mask, Rotation};
use crate::graph::{Dtype, Role, Tensor, Tensors};
use crate::kernels::latent_attention::KEYS;
use crate::kernels::state::HISTORY_WORDS;

/// Most parts of a slot's keys.
const MOST_SPLITS: usize = 16;

/// Sizes of one micro-batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchSize {
    /// B: sequences.
    pub batch: usize,
    /// T: positions of each.
    pub length: usize,
}

impl BatchSize {
    /// N: tokens.
    pub fn tokens(self) -> usize {
        self.batch * self.length
    }
}

/// What generation keeps of the tokens so far: their latents and rope keys, and the tokens.
#[derive(Clone, Debug)]
pub struct LatentCache {
    /// Sequences that have room.
    pub slots: usize,
    /// Positions of each.
    pub capacity: usize,
    /// Of each layer.
    pub layers: Vec<Tensor>, // (slots, capacity, r + dr)
    /// The tokens.
    pub history: Tensor, // (slots, capacity)
    /// Rotation table: `model::positions`.
    pub rope_table: Tensor, // (capacity, dr / 2, 2)
}

impl LatentCache {
    /// Adds the tensors to the table; what products read is of type `stored`.
    pub fn new(t: &mut Tensors, config: &ModelConfig, slots: usize, capacity: usize, stored: Dtype) -> Self {
        let line = config.kv_lora_rank + config.qk_rope_head_dim;
        let layer = |i: usize| t.add(format!("cache.{i}"), &[slots, capacity, line], stored, Role::State);
        let layers = (0..config.num_hidden_layers).map(layer).collect();
        let history = t.index("history", &[slots, capacity], Role::State);
        let rope_table = t.real("rope_table", &[capacity, config.qk_rope_head_dim / 2, 2], Role::State);
        LatentCache { slots, capacity, layers, history, rope_table }
    }

    /// Parts of a slot's keys that are attended to at the same time: enough for a large card, fewer where slots are
    /// many. A function of the cache alone, so that results do not depend on how many sequences there are.
    pub fn splits(&self) -> usize {
        let wanted = (MOST_SPLITS * MOST_SPLITS / self.slots).clamp(1, MOST_SPLITS);
        self.capacity.div_ceil(KEYS as usize).min(wanted)
    }
}

/// The cache, and where in it each token of a pass belongs.
#[derive(Clone, Debug)]
pub struct Kept {
    /// The cache.
    pub cache: LatentCache,
    /// Slot of each token.
    pub slots: Tensor, // (N)
}

/// Tensors that are not weights and outlive a replay.
#[derive(Clone, Debug)]
pub struct Inputs {
    /// Sizes of the micro-batch.
    pub size: BatchSize,
    /// Token numbers.
    pub ids: Tensor, // (N)
    /// Token numbers sorted, for the embedding's gradient: see `data::batch`.
    pub token_order: Tensor, // (N)
    /// Where each distinct token begins in `token_order`.
    pub segments: Tensor, // (N + 2)
    /// Position of each token in its document.
    pub positions: Tensor, // (N)
    /// First key that each token sees.
    pub document_start: Tensor, // (N)
    /// 1 for tokens, 0 for padding.
    pub real: Tensor, // (N)
    /// Rotation table: `model::positions`.
    pub rope_table: Tensor, // (T, dr / 2, 2)
    /// Words that change from step to step: `kernels::state`.
    pub state: Tensor, // (8)
    /// Pairs that each expert got of tokens that are no padding in the window so far, one row a layer with experts;
    /// absent without such layers.
    pub expert_loads: Option<Tensor>, // (layers with experts, E)
    /// The last losses, for the spike guard: `kernels::state`.
    pub history: Tensor, // (130)
    /// Targets, loss weights, per-token results and their sums.
    pub loss: LossSlots,
    /// The latent cache of generation; absent where whole sequences are passed.
    pub kept: Option<Kept>,
}

impl Inputs {
    /// Adds the tensors to the table.
    pub fn new(t: &mut Tensors, config: &ModelConfig, size: BatchSize) -> Self {
        let n = size.tokens();
        let loads = [config.moe_layers(), config.n_routed_experts];
        let rope = [size.length, config.qk_rope_head_dim / 2, 2];
        Inputs {
            size,
            ids: t.index("ids", &[n], Role::Input),
            token_order: t.index("token_order", &[n], Role::Input),
            segments: t.index("segments", &[n + 2], Role::Input),
            positions: t.index("positions", &[n], Role::Input),
            document_start: t.index("document_start", &[n], Role::Input),
            real: t.index("real", &[n], Role::Input),
            rope_table: t.real("rope_table", &rope, Role::State),
            state: t.index("state", &[8], Role::State),
            expert_loads: (loads[0] > 0).then(|| t.real("expert_loads", &loads, Role::State)),
            history: t.real("history", &[HISTORY_WORDS], Role::State),
            loss: LossSlots {
                targets: t.index("targets", &[n], Role::Input),
                loss_weights: t.real("loss_weights", &[n], Role::Input),
                losses: t.real("losses", &[n], Role::State),
                correct: t.real("correct", &[n], Role::State),
                metrics: t.real("metrics", &[8], Role::State),
                result: t.real("result", &[8], Role::State),
            },
            kept: None,
        }
    }

    /// The same for `rows` tokens of any sequences that `cache` keeps.
    pub fn cached(t: &mut Tensors, config: &ModelConfig, rows: usize, cache: &LatentCache) -> Self {
        let slots = t.index("slots", &[rows], Role::Input);
        let rope_table = cache.rope_table;
        let kept = Some(Kept { cache: cache.clone(), slots });
        Inputs { kept, rope_table, ..Inputs::new(t, config, BatchSize { batch: rows, length: 1 }) }
    }

    /// What attention reads besides queries and keys.
    pub fn mask(&self) -> Mask {
        Mask { document_start: self.document_start, state: self.state }
    }

    /// Rotation of the last `rotated` columns of each of `heads` heads of `width` columns.
    pub fn rotation(&self, heads: usize, width: usize, rotated: usize) -> Rotation {
        Rotation { positions: self.positions, table: self.rope_table, heads, offset: width - rotated, rotated }
    }
}
