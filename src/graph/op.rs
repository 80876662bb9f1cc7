//! The closed set of operations. Adding one: a variant here, then the compiler names the two matches that lack it,
//! `forward.rs` and `backward.rs`.

use super::objective::{Objective, ScoreGoal};
use super::tensor::{Dtype, Tensor, Tensors};

/// A weight whose rows may be spread over several tensors, because an adapter limits the size of a binding.
///
/// For a linear layer a row is an output; for experts it is a whole expert.
#[derive(Clone, Debug, PartialEq)]
pub struct Weight {
    /// First row and tensor of each part, in order.
    pub parts: Vec<(usize, Tensor)>,
    /// The parts' copies in f16, where products read these instead.
    pub copies: Option<Vec<Tensor>>,
    /// Rows of the whole.
    pub rows: usize,
}

impl Weight {
    /// A weight in one tensor.
    pub fn whole(tensors: &Tensors, tensor: Tensor) -> Self {
        Weight { parts: vec![(0, tensor)], copies: None, rows: tensors.extent(tensor, 0) }
    }

    /// First row, number of rows and tensor of each part.
    pub fn spans(&self) -> impl Iterator<Item = (usize, usize, Tensor)> + '_ {
        self.parts.iter().enumerate().map(|(i, &(first, tensor))| {
            let end = self.parts.get(i + 1).map_or(self.rows, |next| next.0);
            (first, end - first, tensor)
        })
    }

    /// What products read of a weight in one tensor. Panics if it is in parts: a broken invariant of the caller.
    pub fn single(&self) -> Tensor {
        assert_eq!(self.parts.len(), 1, "a weight is in parts where an operation takes one tensor");
        self.copies.as_ref().map_or(self.parts[0].1, |copies| copies[0])
    }

    /// Whether products read it as f16.
    pub fn is_half(&self, tensors: &Tensors) -> bool {
        self.factors().all(|factor| tensors.info(factor).dtype == Dtype::F16)
    }

    /// What products read of each part: its copy in f16, or the part itself.
    pub fn factors(&self) -> impl Iterator<Item = Tensor> + '_ {
        self.parts.iter().enumerate().map(|(i, part)| self.copies.as_ref().map_or(part.1, |copies| copies[i]))
    }
}

/// A linear layer: its matrix, and what is learnt beside it.
#[derive(Clone, Copy, Debug)]
pub struct Linear<'w> {
    /// W.
    pub weight: &'w Weight, // (out, in)
    /// The pair that learns while the matrix stays, where there is one.
    pub adapter: Option<Adapter<'w>>,
}

/// Two narrow matrices whose product, times a factor, is added to a matrix: `W + scale B A` (LoRA, arXiv 2106.09685).
#[derive(Clone, Copy, Debug)]
pub struct Adapter<'w> {
    /// A.
    pub a: &'w Weight, // (rank, in)
    /// B.
    pub b: &'w Weight, // (out, rank)
    /// The factor.
    pub scale: f32,
}

impl<'w> From<&'w Weight> for Linear<'w> {
    fn from(weight: &'w Weight) -> Self {
        Linear { weight, adapter: None }
    }
}

/// Which columns of each head are rotated, and by what.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rotation {
    /// Position of each token.
    pub positions: Tensor, // (N)
    /// Cosines and sines.
    pub table: Tensor, // (positions, rotated / 2, 2)
    /// Heads in a row.
    pub heads: usize,
    /// First rotated column of a head.
    pub offset: usize,
    /// Number of rotated columns.
    pub rotated: usize,
}

/// Sizes of an attention.
pub type AttentionSizes = crate::kernels::attention::Params;

/// What attention reads besides queries and keys.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mask {
    /// First key that each query sees.
    pub document_start: Tensor, // (N)
    /// Dropout keys.
    pub state: Tensor,
}

/// Where each (token, expert) pair went when pairs were sorted by expert.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Routing {
    /// First slot of each expert.
    pub offsets: Tensor, // (E + 1)
    /// Expert and first row of each tile.
    pub tiles: Tensor, // (tiles, 2)
    /// Pair of each slot.
    pub slot_pair: Tensor, // (N K)
    /// Slot of each pair.
    pub pair_slot: Tensor, // (N K)
    /// K: experts a token.
    pub selected: usize,
    /// Most rows of a tile.
    pub tile_rows: usize,
}

/// Where generation keeps what later tokens need of earlier ones, in one layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CachePlace {
    /// Latents and rope keys.
    pub cache: Tensor, // (slots, capacity, r + dr)
    /// Slot of each token.
    pub slots: Tensor, // (N)
    /// Position of each token in its slot.
    pub positions: Tensor, // (N)
    /// Rotation table.
    pub table: Tensor, // (capacity, dr / 2, 2)
}

/// Sizes of an attention over the latent cache.
pub type CachedSizes = crate::kernels::latent_attention::Params;

/// Rows, and the norm that they go through before they are multiplied.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Normed {
    /// The rows.
    pub x: Tensor, // (N, d)
    /// The norm's weight.
    pub weight: Tensor, // (d)
    /// Added to the mean square before the root.
    pub epsilon: f32,
}

/// The gated feed-forward layer of a few tokens: routed experts and what every token has, in whole tensors.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FewExperts {
    /// Experts of each token and their weights; absent in a dense layer.
    pub routed: Option<[Tensor; 2]>, // (N, K), (N, K)
    /// Gate, up and down matrices of the experts.
    pub experts: Option<[Tensor; 3]>, // (E, Im, d), (E, Im, d), (E, d, Im)
    /// Those of what every token has.
    pub shared: Option<[Tensor; 3]>, // (I, d), (I, d), (d, I)
}

/// How the router selects and weighs.
pub type RouterSizes = crate::kernels::router::Params;

/// Parameters of the balance loss.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Balance {
    /// Equal parts of the tokens that are counted each on its own.
    pub sequences: usize,
    /// Weight of the loss, as `kernels::balance_loss` takes it.
    pub alpha: f32,
    /// 1 for tokens, 0 for padding.
    pub real: Tensor, // (N)
    /// Window counts.
    pub state: Tensor,
    /// Holds the loss scale.
    pub result: Tensor,
    /// Where the loss is summed.
    pub metrics: Tensor,
}

/// What the loss head reads and writes besides hidden states and weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LossSlots {
    /// Class of each row, `IGNORED` to leave it out.
    pub targets: Tensor, // (N)
    /// Factor on each row's gradient: 1 over the window's targets, when tokens are averaged. An objective's goal
    /// overwrites what the host wrote.
    pub loss_weights: Tensor, // (N)
    /// Loss of each row, in nats.
    pub losses: Tensor, // (N)
    /// 1 where the most probable class is the target.
    pub correct: Tensor, // (N)
    /// Where sums are kept.
    pub metrics: Tensor,
    /// Holds the loss scale.
    pub result: Tensor,
}

/// A product that goes into the logits.
#[derive(Clone, Debug)]
pub struct HeadTerm {
    /// Rows.
    pub h: Tensor, // (N, d)
    /// The matrix.
    pub weight: Weight, // (V, d)
    /// The gradient of the rows, where it is made.
    pub d_h: Option<Tensor>, // (N, d)
}

/// One recorded operation with its inputs, outputs and what backward needs.
#[expect(missing_docs, reason = "fields carry the names of the tape's arguments, which are documented there")]
#[derive(Clone, Debug)]
pub enum Op {
    /// `y[t] = table[ids[t]]`; backward adds rows in the order that the host sorted them.
    Embed { ids: Tensor, table: Weight, token_order: Tensor, segments: Tensor, y: Tensor },
    /// `y = weight * x / rms(x)`.
    RmsNorm { x: Tensor, weight: Tensor, epsilon: f32, y: Tensor, inverse_rms: Tensor },
    /// `y = x W^T`, plus a residual.
    Linear { x: Tensor, weight: Weight, residual: Option<Tensor>, y: Tensor },
    /// Columns of `x` shared out, left to right.
    Split { x: Tensor, left: Tensor, right: Tensor },
    /// Rotates a part of each head by its position.
    Rope { x: Tensor, rotation: Rotation, y: Tensor },
    /// Causal softmax attention with a rope key that all heads share.
    Attention { q: Tensor, kv: Tensor, k_rope: Tensor, mask: Mask, sizes: AttentionSizes, out: Tensor, lse: Tensor },
    /// Normalises latents, turns rope keys and keeps both, then attends to all that is kept of each token's slot up to
    /// itself. The weight is the up-projection of keys and values, which is never applied to the cache. For generation:
    /// it has no gradient.
    CachedAttention {
        q: Tensor,
        down: Tensor,
        norm: Tensor,
        weight: Tensor,
        place: CachePlace,
        sizes: CachedSizes,
        absorbed: Tensor,
        parts: [Tensor; 2],
        out: Tensor,
    },
    /// `y = norm(x) W^T`, plus a residual, for a few rows; without a norm if it is absent. No gradient.
    FewLinear { x: Tensor, norm: Option<(Tensor, f32)>, weight: Tensor, residual: Option<Tensor>, y: Tensor },
    /// `y = residual + the feed-forward layer of norm(x)`, for a few rows. No gradient.
    FewExperts { x: Normed, layer: FewExperts, h: Tensor, y: Tensor },
    /// `h = silu(gate) * up`.
    SwiGlu { gate: Tensor, up: Tensor, h: Tensor },
    /// Scores of experts, selection and weights.
    Router {
        logits: Tensor,
        bias: Option<Tensor>,
        sizes: RouterSizes,
        probs: Tensor,
        totals: Tensor,
        chosen: Tensor,
        weights: Tensor,
    },
    /// Balance loss, sequence by sequence.
    BalanceLoss { probs: Tensor, chosen: Tensor, balance: Balance, slope: Tensor },
    /// Stable sort of (token, expert) pairs by expert; nothing to differentiate.
    ExpertSort { chosen: Tensor, starts: Tensor, routing: Routing },
    /// Adds how often each expert was chosen, padding left out, to row `row` of `loads`; nothing to differentiate.
    ExpertLoad { chosen: Tensor, real: Tensor, loads: Tensor, row: usize },
    /// `y[slot] = x[token of slot]`.
    ExpertGather { x: Tensor, routing: Routing, y: Tensor },
    /// Each slot's row times the transpose of its expert's matrix.
    LinearExperts { x: Tensor, weight: Weight, routing: Routing, y: Tensor },
    /// `y[t] = residual[t] + sum_j weights[t, j] * o[slot of (t, j)]`.
    ExpertCombine { residual: Tensor, o: Tensor, weights: Tensor, routing: Routing, y: Tensor },
    /// `y = x * mask / keep probability`.
    Dropout { x: Tensor, state: Tensor, site: u32, rate: f32, y: Tensor },
    /// `y = factor * x`.
    Scale { x: Tensor, factor: f32, y: Tensor },
    /// `y = a + b`.
    Add { a: Tensor, b: Tensor, y: Tensor },
    /// Head product, the sum of `terms`, and cross-entropy in row chunks; when `training`, gradients in the same sweep.
    /// A goal of the objective takes a sweep before that, since it makes the loss weights of the log-probabilities of
    /// all rows.
    HeadLoss { terms: Vec<HeadTerm>, slots: LossSlots, objective: Option<Objective>, logits: Tensor, training: bool },
    /// Loss of the outputs of a head of one output, and the gradient in them.
    ScoreLoss { scores: Tensor, goal: ScoreGoal, d_scores: Tensor },
}
