//! Forward: each operation's dispatches.

use super::objective::Objective;
use super::op::{CachePlace, FewExperts, HeadTerm, LossSlots, Normed, Op, Routing, Weight};
use super::recording::Recorder;
use super::tensor::{Dtype, Role, Tensor};
use crate::kernels::matmul::{self, ADD, ADD_TO_RESIDUAL, NN, NT, OVERWRITE, TN};
use crate::kernels::{self, Halves, matmul_experts};

impl Op {
    /// Appends the operation's forward dispatches.
    pub(super) fn forward(&self, r: &mut Recorder<'_>) {
        match self {
            Op::Embed { ids, table, y, .. } => {
                let [rows, width] = shape2(r, *y);
                for (first_row, table_rows, part) in spans(table) {
                    let params = kernels::embed::Params { rows, width, first_row, table_rows };
                    r.step(&kernels::embed::KERNEL, &params, &[*ids, part, *y]);
                }
            }
            Op::RmsNorm { x, weight, epsilon, y, inverse_rms } => {
                let [rows, width] = shape2(r, *x);
                let params = kernels::rms_norm::Params { rows, width, epsilon: *epsilon };
                r.step(&kernels::rms_norm::KERNEL, &params, &[*x, *weight, *y, *inverse_rms]);
            }
            Op::Linear { x, weight, residual, y } => {
                let ([m, k], ldc) = (shape2(r, *x), shape2(r, *y)[1]);
                let accumulate = if residual.is_some() { ADD_TO_RESIDUAL } else { OVERWRITE };
                for ((c_offset, n, _), factor) in spans(weight).zip(weight.factors()) {
                    let params = matmul::Params { c_offset, ldc, ..matmul::Params::dense(NT, accumulate, m, n, k) };
                    product(r, params, [*x, factor, residual.unwrap_or(*x), *y]);
                }
            }
            Op::Split { x, left, right } => {
                let (rows, width) = (shape2(r, *x)[0], shape2(r, *x)[1]);
                let columns = shape2(r, *left)[1];
                copy(r, (*x, width, 0), (*left, columns, 0), [rows, columns]);
                copy(r, (*x, width, columns), (*right, width - columns, 0), [rows, width - columns]);
            }
            Op::Rope { x, rotation, y } => rope(r, *x, *rotation, *y, 1.0),
            Op::Attention { q, kv, k_rope, mask, sizes, out, lse } => {
                let tensors = [*q, *kv, *k_rope, mask.document_start, mask.state, *out, *lse];
                r.step(&kernels::attention::KERNEL, sizes, &tensors);
            }
            Op::CachedAttention { q, down, norm, weight, place, sizes, absorbed, parts: [sums, statistics], out } => {
                let CachePlace { cache, slots, positions, table } = *place;
                r.step(&kernels::latent_append::KERNEL, sizes, &[*down, *norm, table, slots, positions, cache]);
                r.step(&kernels::latent_query::KERNEL, sizes, &[*q, *weight, table, positions, *absorbed]);
                let attended = [*absorbed, cache, slots, positions, *sums, *statistics];
                r.step(&kernels::latent_attention::KERNEL, sizes, &attended);
                r.step(&kernels::latent_value::KERNEL, sizes, &[*sums, *statistics, *weight, *out]);
            }
            Op::FewLinear { x, norm, weight, residual, y } => {
                let ([rows, width], outputs) = (shape2(r, *x), shape2(r, *y)[1]);
                let (normed, residual_too) = (norm.is_some().into(), residual.is_some().into());
                let epsilon = norm.map_or(0.0, |(_, epsilon)| epsilon);
                let params =
                    kernels::few_linear::Params { rows, outputs, width, normed, residual: residual_too, epsilon };
                let norm = norm.map_or(*x, |(weight, _)| weight);
                r.step(&kernels::few_linear::KERNEL, &params, &[*x, norm, *weight, residual.unwrap_or(*x), *y]);
            }
            Op::FewExperts { x, layer, h, y } => few_experts(r, *x, *layer, *h, *y),
            Op::SwiGlu { gate, up, h } => {
                let params = kernels::swiglu::Params { count: count(r, *h) };
                r.step(&kernels::swiglu::KERNEL, &params, &[*gate, *up, *h]);
            }
            Op::Router { logits, bias, sizes, probs, totals, chosen, weights } => {
                let tensors = [*logits, bias.unwrap_or(*logits), *probs, *totals, *chosen, *weights];
                r.step(&kernels::router::KERNEL, sizes, &tensors);
            }
            Op::BalanceLoss { probs, chosen, balance, slope } => {
                let [tokens, experts] = shape2(r, *probs);
                let sequences = balance.sequences as u32;
                let selected = shape2(r, *chosen)[1];
                let length = tokens / sequences;
                let alpha = balance.alpha;
                let params = kernels::balance_loss::Params { sequences, length, experts, selected, alpha };
                let tensors = [*probs, *chosen, balance.real, balance.state, balance.result, *slope, balance.metrics];
                r.step(&kernels::balance_loss::KERNEL, &params, &tensors);
            }
            Op::ExpertSort { chosen, starts, routing } => expert_sort(r, *chosen, *starts, *routing),
            Op::ExpertLoad { chosen, real, loads, row } => {
                let ([tokens, selected], experts) = (shape2(r, *chosen), shape2(r, *loads)[1]);
                let params = kernels::expert_load::Params { row: *row as u32, experts, tokens, selected };
                r.step(&kernels::expert_load::KERNEL, &params, &[*chosen, *real, *loads]);
            }
            Op::ExpertGather { x, routing, y } => {
                let [pairs, width] = shape2(r, *y);
                let params = kernels::expert_gather::Params { pairs, selected: routing.selected as u32, width };
                r.step(&kernels::expert_gather::KERNEL, &params, &[*x, routing.slot_pair, *y]);
            }
            Op::LinearExperts { x, weight, routing, y } => {
                experts_product(r, NT, *x, weight, *routing, *y, OVERWRITE);
            }
            Op::ExpertCombine { residual, o, weights, routing, y } => {
                let [tokens, width] = shape2(r, *y);
                let params = kernels::expert_combine::Params { tokens, selected: routing.selected as u32, width };
                let tensors = [*residual, *o, *weights, routing.pair_slot, *y];
                r.step(&kernels::expert_combine::KERNEL, &params, &tensors);
            }
            Op::Dropout { x, state, site, rate, y } => dropout(r, *x, *state, *site, *rate, *y),
            Op::Scale { x, factor, y } => scale(r, *x, *factor, *y),
            Op::Add { a, b, y } => add(r, *a, *b, *y),
            Op::HeadLoss { terms, slots, objective, logits, training } => {
                let (slots, logits, training) = (*slots, *logits, *training);
                Head { terms, slots, logits, training }.loss(r, objective.as_ref());
            }
            Op::ScoreLoss { scores, goal, d_scores } => goal.judge(r, *scores, *d_scores),
        }
    }
}

/// Rows and the product of the other extents.
pub(super) fn shape2(r: &Recorder<'_>, x: Tensor) -> [u32; 2] {
    let shape = &r.tensors.info(x).shape;
    [shape[0] as u32, shape[1..].iter().product::<usize>() as u32]
}

/// Number of elements.
pub(super) fn count(r: &Recorder<'_>, x: Tensor) -> u32 {
    r.tensors.elements(x) as u32
}

/// The parts of a weight as kernels count them.
pub(super) fn spans(weight: &Weight) -> impl Iterator<Item = (u32, u32, Tensor)> + '_ {
    weight.spans().map(|(first, rows, tensor)| (first as u32, rows as u32, tensor))
}

/// Copies a block of rows and columns. Of source and target: the tensor, elements in a row, first column.
pub(super) fn copy(
    r: &mut Recorder<'_>,
    (source, source_stride, source_offset): (Tensor, u32, u32),
    (target, target_stride, target_offset): (Tensor, u32, u32),
    [rows, columns]: [u32; 2],
) {
    let params =
        kernels::copy_columns::Params { rows, columns, source_stride, source_offset, target_stride, target_offset };
    r.step(&kernels::copy_columns::KERNEL, &params, &[source, target]);
}

/// `x` as f16, for a product.
pub(super) fn narrow(r: &mut Recorder<'_>, x: Tensor) -> Tensor {
    let info = r.tensors.info(x).clone();
    if info.dtype == Dtype::F16 {
        return x;
    }
    let y = r.activation("narrowed", &info.shape, Dtype::F16);
    r.step(&kernels::cast::KERNEL, &kernels::cast::Params { count: count(r, x) }, &[x, y]);
    y
}

pub(super) fn add(r: &mut Recorder<'_>, a: Tensor, b: Tensor, y: Tensor) {
    let params = kernels::add::Params { count: count(r, y) };
    r.step(&kernels::add::KERNEL, &params, &[a, b, y]);
}

pub(super) fn scale(r: &mut Recorder<'_>, x: Tensor, factor: f32, y: Tensor) {
    let params = kernels::scale::Params { count: count(r, y), factor };
    r.step(&kernels::scale::KERNEL, &params, &[x, y]);
}

pub(super) fn dropout(r: &mut Recorder<'_>, x: Tensor, state: Tensor, site: u32, rate: f32, y: Tensor) {
    let params = kernels::dropout::Params { count: count(r, y), rate, site };
    r.step(&kernels::dropout::KERNEL, &params, &[x, state, y]);
}

pub(super) fn rope(r: &mut Recorder<'_>, x: Tensor, rotation: super::op::Rotation, y: Tensor, direction: f32) {
    let [rows, columns] = shape2(r, x);
    let params = kernels::rope::Params {
        rows,
        heads: rotation.heads as u32,
        width: columns / rotation.heads as u32,
        offset: rotation.offset as u32,
        rotated: rotation.rotated as u32,
        direction,
    };
    r.step(&kernels::rope::KERNEL, &params, &[x, rotation.positions, rotation.table, y]);
}

fn expert_sort(r: &mut Recorder<'_>, chosen: Tensor, starts: Tensor, routing: Routing) {
    let pairs = count(r, chosen);
    let experts = count(r, routing.offsets) - 1;
    let tiles = count(r, routing.tiles) / 2;
    r.step(&kernels::expert_count::KERNEL, &kernels::expert_count::Params { pairs, experts }, &[chosen, starts]);
    let tile_rows = routing.tile_rows as u32;
    let params = kernels::expert_scan::Params { pairs, experts, tile_rows, tiles };
    r.step(&kernels::expert_scan::KERNEL, &params, &[starts, routing.offsets, routing.tiles]);
    let params = kernels::expert_scatter::Params { pairs, experts };
    let tensors = [chosen, starts, routing.slot_pair, routing.pair_slot];
    r.step(&kernels::expert_scatter::KERNEL, &params, &tensors);
}

/// A product of a and b into c, which `residual` may be added to. Long sums into few elements are made in slices of k,
/// which are then added up: the same on every device.
pub(super) fn product(r: &mut Recorder<'_>, params: matmul::Params, [a, b, residual, c]: [Tensor; 4]) {
    let halves = Halves::of([a, b].map(|factor| r.tensors.info(factor).dtype == Dtype::F16));
    let sliced = match r.rows_apart {
        false => params.sliced(halves),
        true => matmul::Params { m: 1, ..params }.sliced(halves).map(|of_one| matmul::Params { m: params.m, ..of_one }),
    };
    let Some(sliced) = sliced else {
        return r.step(&matmul::KERNEL, &params, &[a, b, residual, c]);
    };
    let (slices, rows, columns) = (sliced.slices(), params.m, params.n);
    let parts = r.activation("slices", &[slices, rows, columns].map(|x| x as usize), Dtype::F32);
    r.step(&matmul::KERNEL, &sliced, &[a, b, a, parts]);
    let (stride, offset, accumulate) = (params.ldc, params.c_offset, params.accumulate);
    let params = kernels::sum_slices::Params { slices, rows, columns, stride, offset, accumulate };
    let residual = if accumulate == ADD_TO_RESIDUAL { residual } else { parts };
    r.step(&kernels::sum_slices::KERNEL, &params, &[parts, residual, c]);
}

/// `y[slot] = x[slot] * matrix of the slot's expert`, transposed for NT.
pub(super) fn experts_product(
    r: &mut Recorder<'_>,
    form: u32,
    x: Tensor,
    weight: &Weight,
    routing: Routing,
    y: Tensor,
    accumulate: u32,
) {
    let ([rows, k], n) = (shape2(r, x), shape2(r, y)[1]);
    let (tiles, tile_rows) = (count(r, routing.tiles) / 2, routing.tile_rows as u32);
    for ((first_expert, expert_count, _), factor) in spans(weight).zip(weight.factors()) {
        let params = matmul_experts::Params {
            rows,
            n,
            k,
            form,
            first_expert,
            expert_count,
            first_tile: 0,
            tiles,
            tile_rows,
            accumulate,
        };
        r.step(&matmul_experts::KERNEL, &params, &[x, factor, routing.tiles, routing.offsets, y]);
    }
}

/// Both halves; what a layer lacks is bound by what it has, and not read.
fn few_experts(r: &mut Recorder<'_>, x: Normed, layer: FewExperts, h: Tensor, y: Tensor) {
    let [rows, width] = shape2(r, x.x);
    let some = layer.experts.or(layer.shared).unwrap_or_else(|| panic!("a feed-forward layer has matrices"));
    let selected = layer.routed.map_or(0, |[chosen, _]| shape2(r, chosen)[1]);
    let expert = layer.experts.map_or(0, |[gate, ..]| r.tensors.extent(gate, 1) as u32);
    let dense = layer.shared.map_or(0, |[gate, ..]| shape2(r, gate)[0]);
    let params = kernels::few_experts_up::Params { rows, width, selected, expert, dense, epsilon: x.epsilon };
    let [gate, up, down] = layer.experts.unwrap_or(some);
    let [shared_gate, shared_up, shared_down] = layer.shared.unwrap_or(some);
    let [chosen, weights] = match layer.routed {
        Some(routed) => routed,
        None => [r.tensors.index("no_experts", &[1], Role::State), x.weight],
    };
    let tensors = [x.x, x.weight, chosen, gate, up, shared_gate, shared_up, h];
    r.step(&kernels::few_experts_up::KERNEL, &params, &tensors);
    r.step(&kernels::few_experts_down::KERNEL, &params, &[h, chosen, weights, down, shared_down, x.x, y]);
}

/// The loss head, in chunks of rows: first row of a chunk and number of its rows.
struct Head<'a> {
    terms: &'a [HeadTerm],
    slots: LossSlots,
    logits: Tensor,
    training: bool,
}

impl Head<'_> {
    /// Logits, their losses, and when training the gradients of hidden states and weights, before the next chunk takes
    /// the place of the logits. The gradient of each row is scaled by its loss weight, so the loss is the root.
    fn loss(&self, r: &mut Recorder<'_>, objective: Option<&Objective>) {
        let (rows, chunk) = (count(r, self.slots.targets), shape2(r, self.logits)[0]);
        let chunks = || (0..rows).step_by(chunk as usize).map(|first| (first, chunk.min(rows - first)));
        // A goal needs the log-probabilities of all rows before the first gradient.
        let before = objective.filter(|objective| self.training && objective.goal.is_some());
        if let Some(objective) = before {
            for (first, m) in chunks() {
                self.logits(r, first, m);
                self.log_probs(r, objective, first, m);
            }
            objective.weigh(r, self.slots);
        }
        for (first, m) in chunks() {
            if before.is_none() || chunk < rows {
                self.logits(r, first, m);
            }
            if let Some(objective) = objective.filter(|_| before.is_none()) {
                self.log_probs(r, objective, first, m);
            }
            self.cross_entropy(r, objective, first, m);
            if self.training {
                self.terms.iter().for_each(|term| self.gradients(r, term, first, m));
            }
        }
        if let Some(objective) = objective.filter(|_| before.is_none()) {
            objective.weigh(r, self.slots);
        }
        let slots = self.slots;
        let tensors = [slots.losses, slots.correct, slots.targets, slots.metrics];
        r.step(&kernels::loss_sum::KERNEL, &kernels::loss_sum::Params { rows }, &tensors);
    }

    fn logits(&self, r: &mut Recorder<'_>, first_row: u32, m: u32) {
        let ldc = shape2(r, self.logits)[1];
        for (i, HeadTerm { h, weight, .. }) in self.terms.iter().enumerate() {
            let width = shape2(r, *h)[1];
            for ((c_offset, n, _), factor) in spans(weight).zip(weight.factors()) {
                let p = matmul::Params::dense(NT, if i == 0 { OVERWRITE } else { ADD }, m, n, width);
                let params = matmul::Params { a_offset: first_row * width, c_offset, ldc, ..p };
                product(r, params, [*h, factor, *h, self.logits]);
            }
        }
    }

    fn log_probs(&self, r: &mut Recorder<'_>, objective: &Objective, first_row: u32, rows: u32) {
        let params = kernels::log_probs::Params { rows, classes: shape2(r, self.logits)[1], first_row };
        let tensors = [self.logits, self.slots.targets, objective.log_probs, objective.entropies];
        r.step(&kernels::log_probs::KERNEL, &params, &tensors);
    }

    fn cross_entropy(&self, r: &mut Recorder<'_>, objective: Option<&Objective>, first_row: u32, rows: u32) {
        let (classes, slots) = (shape2(r, self.logits)[1], self.slots);
        let gradient = self.training.into();
        let bonus = objective.filter(|_| self.training).and_then(Objective::entropy_bonus);
        // Without a bonus no entropies are read.
        let (entropy_bonus, [entropies, factors]) = bonus.unwrap_or((0.0, [slots.loss_weights; 2]));
        let params = kernels::cross_entropy::Params { rows, classes, first_row, gradient, entropy_bonus };
        let tensors = [
            self.logits,
            slots.targets,
            slots.loss_weights,
            slots.result,
            entropies,
            factors,
            slots.losses,
            slots.correct,
        ];
        r.step(&kernels::cross_entropy::KERNEL, &params, &tensors);
    }

    /// Of a term's rows and matrix, from that of the logits, which stands in their place.
    fn gradients(&self, r: &mut Recorder<'_>, HeadTerm { h, weight, d_h }: &HeadTerm, first_row: u32, m: u32) {
        let (width, lda) = (shape2(r, *h)[1], shape2(r, self.logits)[1]);
        let (hidden, d_logits) = (first_row * width, self.logits);
        for ((a_offset, k, part), factor) in spans(weight).zip(weight.factors()) {
            if let Some(d_h) = *d_h {
                let p = matmul::Params::dense(NN, if a_offset == 0 { OVERWRITE } else { ADD }, m, width, k);
                let params = matmul::Params { a_offset, lda, c_offset: hidden, ..p };
                product(r, params, [d_logits, factor, d_logits, d_h]);
            }
            if let Some(d_weight) = r.tensors.gradient_of(part) {
                let p = matmul::Params::dense(TN, ADD, k, width, m);
                let params = matmul::Params { a_offset, lda, b_offset: hidden, ..p };
                product(r, params, [d_logits, *h, d_logits, d_weight]);
            }
        }
    }
}
