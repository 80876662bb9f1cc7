//! What the host writes before a replay, and where sums and states live.

use crate::config::model::ModelConfig;
use crate::graph::op::{LossSlots, Mask, Rotation};
use crate::graph::{Role, Tensor, Tensors};
use crate::kernels::state::HISTORY_WORDS;

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

/// Tensors that are not weights and outlive a replay.
#[derive(Clone, Copy, Debug)]
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
    /// Pairs that each expert got in the window so far, one row a layer with experts; absent without such layers.
    pub expert_loads: Option<Tensor>, // (layers with experts, E)
    /// The last losses, for the spike guard: `kernels::state`.
    pub history: Tensor, // (130)
    /// Targets, loss weights, per-token results and their sums.
    pub loss: LossSlots,
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
        }
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
