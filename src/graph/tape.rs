//! The tape: model code calls its methods, one line an equation, and gets tensor handles back.

use super::backward::Gradients;
use super::objective::Objective;
use super::op::{
    AttentionSizes, Balance, HeadTerm, Linear, LossSlots, Mask, Op, Rotation, RouterSizes, Routing, Weight,
};
use super::reach::reached;
use super::recording::{Recorder, Recording};
use super::tensor::{Dtype, Role, Tensor, Tensors};
use crate::kernels::matmul_experts::{HALF_TILE_ROWS, TILE_ROWS, fitting_tile_rows};
use std::ops::Range;

mod generation;
mod heads;
mod linear;

/// Bytes of logits that exist at once: the loss head works through the rows in chunks of this size.
pub const LOGITS_BYTES: u64 = 512 << 20;
/// The same where they are f16, for matrix units, which want more rows at once.
pub const HALF_LOGITS_BYTES: u64 = 1 << 30;

/// Records operations over the tensors of a program.
pub struct Tape<'t> {
    tensors: &'t mut Tensors,
    ops: Vec<Op>,
    repeated: Vec<Range<usize>>,
    training: bool,
    dropout_sites: u32,
    binding_limit: u64,
    stored: Dtype,
    rows_apart: bool,
}

impl<'t> Tape<'t> {
    /// A tape for training: dropout is on, the loss head also makes gradients.
    pub fn training(tensors: &'t mut Tensors, binding_limit: u64) -> Self {
        Self::new(tensors, binding_limit, true)
    }

    /// A tape for evaluation: dropout is off, nothing is kept for gradients.
    pub fn evaluation(tensors: &'t mut Tensors, binding_limit: u64) -> Self {
        Self::new(tensors, binding_limit, false)
    }

    fn new(tensors: &'t mut Tensors, binding_limit: u64, training: bool) -> Self {
        let (ops, repeated) = (Vec::new(), Vec::new());
        Tape {
            tensors,
            ops,
            repeated,
            training,
            dropout_sites: 0,
            binding_limit,
            stored: Dtype::F32,
            rows_apart: false,
        }
    }

    /// The same tape with activations stored as `dtype`, except where f32 is needed: the residual stream, the router,
    /// statistics.
    pub fn storing(self, dtype: Dtype) -> Self {
        Tape { stored: dtype, ..self }
    }

    /// The same tape with every row's sums in an order that does not depend on the number of rows, where they are
    /// stored in f32.
    pub fn rows_apart(self) -> Self {
        Tape { rows_apart: self.stored == Dtype::F32, ..self }
    }

    /// The program's tensors.
    pub fn tensors(&mut self) -> &mut Tensors {
        self.tensors
    }

    /// Whether the tape trains.
    pub fn is_training(&self) -> bool {
        self.training
    }

    /// Records what `part` records; when training and `again`, backward makes the part's activations again instead of
    /// keeping them. Such parts do not lie in one another: a broken invariant panics.
    pub fn repeat<R>(&mut self, again: bool, part: impl FnOnce(&mut Self) -> R) -> R {
        let (start, before) = (self.ops.len(), self.repeated.len());
        let result = part(self);
        if self.training && again {
            assert_eq!(self.repeated.len(), before, "a part that is made again lies in another");
            self.repeated.push(start..self.ops.len());
        }
        result
    }

    /// A number that no other dropout of this tape has.
    pub fn dropout_site(&mut self) -> u32 {
        self.dropout_sites += 1;
        self.dropout_sites
    }

    fn rows(&self, x: Tensor) -> usize {
        self.tensors.extent(x, 0)
    }

    fn width(&self, x: Tensor) -> usize {
        self.tensors.info(x).shape[1..].iter().product()
    }

    fn activation(&mut self, name: &str, shape: &[usize]) -> Tensor {
        self.tensors.real(name, shape, Role::Activation)
    }

    fn like(&mut self, name: &str, x: Tensor) -> Tensor {
        let (shape, dtype) = (self.tensors.info(x).shape.clone(), self.dtype(x));
        self.tensors.add(name, &shape, dtype, Role::Activation)
    }

    fn dtype(&self, x: Tensor) -> Dtype {
        self.tensors.info(x).dtype
    }

    /// The result of a product with `weight`: f16 where its factors are.
    fn product(&mut self, name: &str, shape: &[usize], weight: &Weight) -> Tensor {
        let dtype = if weight.is_half(self.tensors) { self.stored } else { Dtype::F32 };
        self.tensors.add(name, shape, dtype, Role::Activation)
    }

    /// Rows of `table` by `ids`: (N) and (V, d) to (N, d).
    pub fn embed(&mut self, ids: Tensor, table: &Weight, token_order: Tensor, segments: Tensor) -> Tensor {
        let shape = [self.rows(ids), self.width(table.parts[0].1)];
        let rows = self.tensors.info(table.parts[0].1);
        // The residual stream is f32 also where the table is not.
        let dtype = if matches!(rows.role, Role::Parameter | Role::Copy) { Dtype::F32 } else { rows.dtype };
        let y = self.tensors.add("embedded", &shape, dtype, Role::Activation);
        self.ops.push(Op::Embed { ids, table: table.clone(), token_order, segments, y });
        y
    }

    /// RMS normalisation of the rows of `x`, times `weight`: (N, d) and (d) to (N, d).
    pub fn rms_norm(&mut self, x: Tensor, weight: Tensor, epsilon: f64) -> Tensor {
        let rows = self.rows(x);
        let shape = self.tensors.info(x).shape.clone();
        let y = self.tensors.add("normed", &shape, self.stored, Role::Activation);
        self.tensors.widen_gradient(y);
        let inverse_rms = self.activation("inverse_rms", &[rows]);
        self.ops.push(Op::RmsNorm { x, weight, epsilon: epsilon as f32, y, inverse_rms });
        y
    }

    /// `factor * x`.
    pub fn scale(&mut self, x: Tensor, factor: f32) -> Tensor {
        let y = self.like("scaled", x);
        self.ops.push(Op::Scale { x, factor, y });
        y
    }

    /// The first `columns` columns and the rest: (N, a + b) to (N, a) and (N, b).
    pub fn split(&mut self, x: Tensor, columns: usize) -> (Tensor, Tensor) {
        let (rows, width) = (self.rows(x), self.width(x));
        let dtype = self.dtype(x);
        let left = self.tensors.add("split_left", &[rows, columns], dtype, Role::Activation);
        let right = self.tensors.add("split_right", &[rows, width - columns], dtype, Role::Activation);
        self.ops.push(Op::Split { x, left, right });
        (left, right)
    }

    /// Rotates a part of each head by its token's position; the shape stays.
    pub fn rope(&mut self, x: Tensor, rotation: Rotation) -> Tensor {
        let y = self.like("rotated", x);
        self.ops.push(Op::Rope { x, rotation, y });
        y
    }

    /// Causal attention: q (N, H (dn + dr)), kv (N, H (dn + dv)), k_rope (N, dr) to (N, H dv).
    pub fn attention(
        &mut self,
        q: Tensor,
        kv: Tensor,
        k_rope: Tensor,
        mask: Mask,
        mut sizes: AttentionSizes,
    ) -> Tensor {
        if self.training && sizes.dropout > 0.0 {
            sizes.site = self.dropout_site();
        } else {
            sizes.dropout = 0.0;
        }
        let heads = sizes.heads as usize;
        let shape = [self.tensors.extent(q, 0), heads * sizes.value as usize];
        let out = self.tensors.add("attended", &shape, self.dtype(q), Role::Activation);
        let lse = self.activation("log_sum_exp", &[sizes.batch as usize, heads, sizes.length as usize]);
        self.ops.push(Op::Attention { q, kv, k_rope, mask, sizes, out, lse });
        out
    }

    /// `silu(gate) * up`.
    pub fn swiglu(&mut self, gate: Tensor, up: Tensor) -> Tensor {
        let h = self.like("swiglu", gate);
        self.ops.push(Op::SwiGlu { gate, up, h });
        h
    }

    /// Scores over their sum (N, E), chosen experts (N, K) and their weights (N, K) from logits (N, E). With a `bias`
    /// (E) the largest scores plus bias are chosen.
    pub fn router(&mut self, logits: Tensor, bias: Option<Tensor>, sizes: RouterSizes) -> (Tensor, Tensor, Tensor) {
        assert_eq!(bias.is_some(), sizes.biased != 0, "router: a bias goes with a biased selection");
        let shape = [sizes.rows as usize, sizes.selected as usize];
        let probs = self.like("router_probs", logits);
        let totals = self.activation("router_totals", &shape[..1]);
        let chosen = self.tensors.index("chosen", &shape, Role::Activation);
        let weights = self.activation("router_weights", &shape);
        self.ops.push(Op::Router { logits, bias, sizes, probs, totals, chosen, weights });
        (probs, chosen, weights)
    }

    /// Adds the balance loss of one layer; nothing to do in evaluation or with weight 0.
    pub fn balance_loss(&mut self, probs: Tensor, chosen: Tensor, balance: Balance) {
        if self.training && balance.alpha != 0.0 {
            let slope = self.activation("balance_slope", &[balance.sequences, self.tensors.extent(probs, 1)]);
            self.ops.push(Op::BalanceLoss { probs, chosen, balance, slope });
        }
    }

    /// Sorts (token, expert) pairs by expert; order within an expert stays.
    pub fn expert_sort(&mut self, chosen: Tensor, experts: usize) -> Routing {
        let pairs = self.tensors.elements(chosen);
        let selected = self.tensors.extent(chosen, 1);
        let tile_rows = match self.stored {
            Dtype::F16 if self.training => HALF_TILE_ROWS,
            Dtype::F16 => fitting_tile_rows(pairs, experts),
            _ => TILE_ROWS,
        };
        let tiles = pairs / tile_rows + experts;
        let mut index = |name: &str, shape: &[usize]| self.tensors.index(name, shape, Role::Activation);
        let starts = index("expert_starts", &[pairs.div_ceil(crate::kernels::expert_count::BLOCK), experts]);
        let routing = Routing {
            offsets: index("expert_offsets", &[experts + 1]),
            tiles: index("expert_tiles", &[tiles, 2]),
            slot_pair: index("slot_pair", &[pairs]),
            pair_slot: index("pair_slot", &[pairs]),
            selected,
            tile_rows,
        };
        self.ops.push(Op::ExpertSort { chosen, starts, routing });
        routing
    }

    /// Adds how often each expert was `chosen` by tokens that are no padding to row `row` of `loads`; nothing to do in
    /// evaluation.
    pub fn expert_load(&mut self, chosen: Tensor, real: Tensor, loads: Tensor, row: usize) {
        if self.training {
            self.ops.push(Op::ExpertLoad { chosen, real, loads, row });
        }
    }

    /// Each slot's token row: (N, d) to (N K, d).
    pub fn expert_gather(&mut self, x: Tensor, routing: Routing) -> Tensor {
        let shape = [self.tensors.elements(routing.slot_pair), self.width(x)];
        let y = self.tensors.add("gathered", &shape, self.dtype(x), Role::Activation);
        self.tensors.widen_gradient(y);
        self.ops.push(Op::ExpertGather { x, routing, y });
        y
    }

    /// A residual plus the weighted sum of each token's expert rows: (N, d), (N K, d), (N, K) to (N, d).
    pub fn expert_combine(&mut self, residual: Tensor, o: Tensor, weights: Tensor, routing: Routing) -> Tensor {
        let y = self.like("combined", residual);
        self.ops.push(Op::ExpertCombine { residual, o, weights, routing, y });
        y
    }

    /// Zeroes a share `rate` of the elements and scales up the rest; the identity in evaluation.
    pub fn dropout(&mut self, x: Tensor, state: Tensor, rate: f64) -> Tensor {
        if !self.training || rate == 0.0 {
            return x;
        }
        let y = self.like("dropped", x);
        let site = self.dropout_site();
        self.ops.push(Op::Dropout { x, state, site, rate: rate as f32, y });
        y
    }

    /// `a + b`.
    pub fn add(&mut self, a: Tensor, b: Tensor) -> Tensor {
        let y = self.like("sum", a);
        self.ops.push(Op::Add { a, b, y });
        y
    }

    /// Cross-entropy of `h W^T`, the adapter as in [`Tape::linear`], against the targets, summed into the metrics.
    /// Logits exist for one chunk of rows at a time; when training, the chunk's gradients are made before the next
    /// chunk overwrites it. An `objective` also gets log-probabilities and entropies, and its goal takes the place of
    /// cross-entropy in the gradients: logits are then made twice, unless one chunk holds all rows.
    pub fn head_loss<'w>(
        &mut self,
        h: Tensor,
        layer: impl Into<Linear<'w>>,
        slots: LossSlots,
        objective: Option<Objective>,
    ) {
        let Linear { weight, adapter } = layer.into();
        let low = adapter.map(|adapter| (self.low(h, adapter), adapter.b));
        let rows = self.rows(h);
        let dtype = if weight.is_half(self.tensors) { self.stored } else { Dtype::F32 };
        let bytes = if dtype == Dtype::F16 { HALF_LOGITS_BYTES } else { LOGITS_BYTES };
        let row = dtype.bytes() * weight.rows as u64;
        let fit = (bytes.min(self.binding_limit) / row).max(1) as usize;
        // Whole tiles of the product, and chunks of one size, so that the last is not a sliver.
        let chunks = rows.div_ceil(if fit >= 128 { fit / 128 * 128 } else { fit });
        let chunk = rows.div_ceil(chunks);
        let chunk = if fit >= 128 { chunk.next_multiple_of(128).min(rows) } else { chunk };
        let logits = self.tensors.add("logits", &[chunk, weight.rows], dtype, Role::Activation);
        let term = |(h, weight): (Tensor, &Weight)| {
            let shape = self.tensors.info(h).shape.clone();
            let d_h = self.training.then(|| self.tensors.real("d_hidden", &shape, Role::Activation));
            HeadTerm { h, weight: weight.clone(), d_h }
        };
        let terms = [(h, weight)].into_iter().chain(low).map(term).collect();
        self.ops.push(Op::HeadLoss { terms, slots, objective, logits, training: self.training });
    }

    /// The recording: forward steps, then, when training, backward steps.
    pub fn finish(mut self, name: &'static str) -> Recording {
        let reached = reached(&self.ops, self.tensors);
        for op in &mut self.ops {
            if let Op::HeadLoss { terms, .. } = op {
                terms.iter_mut().for_each(|term| term.d_h = term.d_h.filter(|_| reached.contains(&term.h)));
            }
        }
        let mut recorder = Recorder::new(self.tensors);
        recorder.rows_apart = self.rows_apart;
        self.ops.iter().for_each(|op| op.forward(&mut recorder));
        if self.training {
            super::backward::backward(&self.ops, &self.repeated, &mut recorder, Gradients::of(reached));
        }
        recorder.finish(name)
    }

    /// The forward steps, then backward steps from given gradients of some tensors: for tests of single operations.
    pub fn finish_with_gradients(
        self,
        name: &'static str,
        seeds: &[(Tensor, Tensor)],
    ) -> (Recording, super::backward::Gradients) {
        let mut recorder = Recorder::new(self.tensors);
        self.ops.iter().for_each(|op| op.forward(&mut recorder));
        let gradients =
            super::backward::backward(&self.ops, &self.repeated, &mut recorder, Gradients::from_seeds(seeds));
        (recorder.finish(name), gradients)
    }
}
