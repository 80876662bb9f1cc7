//! Backward: each operation's gradient dispatches. Gradients of activations are overwritten, gradients of parameters
//! accumulate, so gradient accumulation is replaying a micro-step without clearing. Operations whose activations did
//! not stay come as `recompute` made them anew.

use super::forward::{self, count, shape2, spans};
use super::op::{AttentionSizes, Mask, Op, Routing, Weight};
use super::recompute;
use super::recording::Recorder;
use super::tensor::{Dtype, Tensor};
use crate::kernels::matmul::{self, ADD, NN, OVERWRITE, TN};
use crate::kernels::{self, matmul_experts_weight_grad};
use std::collections::{HashMap, HashSet};
use std::ops::Range;

/// Gradients of activations found so far.
#[derive(Default)]
pub struct Gradients {
    of: HashMap<Tensor, Tensor>,
    /// Gradient tensors that stand for more than one activation: these may not be added to in place.
    shared: HashSet<Tensor>,
    /// Activations that were made again, with those that they repeat: both have one gradient.
    repeats: HashMap<Tensor, Tensor>,
    /// The activations whose gradients are of use; all of them, if it does not say.
    wanted: Option<HashSet<Tensor>>,
}

impl Gradients {
    /// None yet, and none ever but of the activations in `wanted`.
    pub(super) fn of(wanted: HashSet<Tensor>) -> Self {
        Gradients { wanted: Some(wanted), ..Gradients::default() }
    }

    /// Gradients that are given for some tensors, to start from.
    pub(super) fn from_seeds(seeds: &[(Tensor, Tensor)]) -> Self {
        let shared = seeds.iter().map(|seed| seed.1).collect(); // they belong to the caller
        Gradients { of: seeds.iter().copied().collect(), shared, ..Gradients::default() }
    }

    /// Whether a gradient of `x` is of use.
    fn wants(&self, x: Tensor) -> bool {
        self.wanted.as_ref().is_none_or(|wanted| wanted.contains(&self.first(x)))
    }

    /// The gradient of `x`, if anything that was recorded depends on it.
    pub fn get(&self, x: Tensor) -> Option<Tensor> {
        self.of.get(&self.first(x)).copied()
    }

    /// The activation that `x` repeats, or `x`.
    fn first(&self, x: Tensor) -> Tensor {
        self.repeats.get(&x).copied().unwrap_or(x)
    }

    /// Joins a contribution to the gradient of `x`, if that is of use.
    fn join(&mut self, r: &mut Recorder<'_>, x: Tensor, d_x: Tensor) {
        if !self.wants(x) {
            return;
        }
        let joined = match self.get(x) {
            None => d_x,
            Some(known) => {
                let sum = r.gradient_like("d_joined", x);
                forward::add(r, known, d_x, sum);
                sum
            }
        };
        self.of.insert(self.first(x), joined);
    }

    /// Where a product may put the gradient of `x`, and whether it overwrites or adds to what is there.
    fn target(&mut self, r: &mut Recorder<'_>, x: Tensor) -> (Tensor, u32) {
        match self.get(x).filter(|known| !self.shared.contains(known)) {
            Some(known) => (known, ADD),
            None => (r.gradient_like("d_x", x), OVERWRITE),
        }
    }

    /// Notes the outcome of [`Gradients::target`].
    fn placed(&mut self, r: &mut Recorder<'_>, x: Tensor, d_x: Tensor, accumulate: u32) {
        if accumulate == OVERWRITE {
            self.join(r, x, d_x);
        }
    }
}

/// Appends the backward dispatches of `ops` in reverse, starting from the gradients `g`. Before those of each range in
/// `repeated`, in ascending order, comes what they need of its activations.
pub(super) fn backward(ops: &[Op], repeated: &[Range<usize>], r: &mut Recorder<'_>, mut g: Gradients) -> Gradients {
    let mut end = ops.len();
    for range in repeated.iter().rev() {
        ops[range.end..end].iter().rev().for_each(|op| op.backward(r, &mut g));
        let (renewed, repeats) = recompute::again(&ops[range.clone()], r, &|x| g.wants(x));
        g.repeats.extend(repeats);
        renewed.iter().rev().for_each(|op| op.backward(r, &mut g));
        end = range.start;
    }
    ops[..end].iter().rev().for_each(|op| op.backward(r, &mut g));
    g
}

impl Op {
    /// Appends the operation's backward dispatches. Nothing is recorded where no gradient reaches the outputs, nor for
    /// gradients that are of no use.
    fn backward(&self, r: &mut Recorder<'_>, g: &mut Gradients) {
        match self {
            Op::Embed { ids, table, token_order, segments, y } => {
                let Some(d_y) = g.get(*y) else { return };
                let [tokens, width] = shape2(r, *y);
                for (first_row, table_rows, part) in spans(table) {
                    let Some(d_table) = r.tensors.gradient_of(part) else { continue };
                    let params = kernels::embed_backward::Params { tokens, width, first_row, table_rows };
                    r.step(&kernels::embed_backward::KERNEL, &params, &[*ids, *token_order, *segments, d_y, d_table]);
                }
            }
            Op::RmsNorm { x, weight, y, inverse_rms, .. } => {
                let Some(d_y) = g.get(*y) else { return };
                let [rows, width] = shape2(r, *x);
                if let Some(d_weight) = r.tensors.gradient_of(*weight) {
                    let params = kernels::rms_norm_weight_grad::Params { rows, width };
                    r.step(&kernels::rms_norm_weight_grad::KERNEL, &params, &[d_y, *x, *inverse_rms, d_weight]);
                }
                if !g.wants(*x) {
                    return;
                }
                let d_x = r.gradient_like("d_x", *x);
                let params = kernels::rms_norm_backward::Params { rows, width };
                r.step(&kernels::rms_norm_backward::KERNEL, &params, &[d_y, *x, *weight, *inverse_rms, d_x]);
                g.join(r, *x, d_x);
            }
            Op::Linear { x, weight, residual, y } => {
                let Some(d_y) = g.get(*y) else { return };
                linear(r, g, *x, weight, d_y);
                if let Some(residual) = residual {
                    g.join(r, *residual, d_y); // nothing later reads d_y as the gradient of y
                }
            }
            Op::Split { x, left, right } if g.wants(*x) => {
                let (d_left, d_right) = (half(r, g, *left), half(r, g, *right));
                let ([rows, width], columns) = (shape2(r, *x), shape2(r, *left)[1]);
                let d_x = r.gradient_like("d_x", *x);
                forward::copy(r, (d_left, columns, 0), (d_x, width, 0), [rows, columns]);
                forward::copy(r, (d_right, width - columns, 0), (d_x, width, columns), [rows, width - columns]);
                g.join(r, *x, d_x);
            }
            Op::Rope { x, rotation, y } => {
                let Some(d_y) = g.get(*y) else { return };
                let d_x = r.gradient_like("d_x", *x);
                forward::rope(r, d_y, *rotation, d_x, -1.0);
                g.join(r, *x, d_x);
            }
            Op::Attention { q, kv, k_rope, mask, sizes, out, lse } => {
                let Some(d_out) = g.get(*out) else { return };
                attention(r, g, [*q, *kv, *k_rope], *mask, sizes, [*out, *lse, d_out]);
            }
            Op::SwiGlu { gate, up, h } => {
                let Some(d_h) = g.get(*h) else { return };
                let (d_gate, d_up) = (r.gradient_like("d_gate", *gate), r.gradient_like("d_up", *up));
                let params = kernels::swiglu_backward::Params { count: count(r, *h) };
                r.step(&kernels::swiglu_backward::KERNEL, &params, &[d_h, *gate, *up, d_gate, d_up]);
                g.join(r, *gate, d_gate);
                g.join(r, *up, d_up);
            }
            Op::Router { logits, sizes, probs, totals, chosen, weights, .. } => {
                let Some(d_weights) = g.get(*weights) else { return };
                let d_probs = g.get(*probs);
                let d_logits = r.gradient_like("d_logits", *logits);
                let params = kernels::router_backward::Params::new(sizes, d_probs.is_some());
                let tensors = [d_weights, d_probs.unwrap_or(*probs), *probs, *totals, *chosen, d_logits];
                r.step(&kernels::router_backward::KERNEL, &params, &tensors);
                g.join(r, *logits, d_logits);
            }
            Op::BalanceLoss { probs, balance, slope, .. } if g.wants(*probs) => {
                let [tokens, experts] = shape2(r, *probs);
                let sequences = balance.sequences as u32;
                let d_probs = r.gradient_like("d_probs", *probs);
                let params = kernels::balance_loss_backward::Params { sequences, length: tokens / sequences, experts };
                r.step(&kernels::balance_loss_backward::KERNEL, &params, &[*slope, balance.real, d_probs]);
                g.join(r, *probs, d_probs);
            }
            Op::CachedAttention { .. } | Op::FewLinear { .. } | Op::FewExperts { .. } => {
                panic!("generation has no gradient")
            }
            Op::Split { .. } | Op::BalanceLoss { .. } => {} // of no use
            Op::ExpertSort { .. } | Op::ExpertLoad { .. } => {} // whole numbers: a constant of the derivative
            Op::ExpertGather { x, routing, y } => {
                let Some(d_y) = g.get(*y) else { return };
                let [tokens, width] = shape2(r, *x);
                let d_x = r.gradient_like("d_x", *x);
                let selected = routing.selected as u32;
                let params = kernels::expert_gather_backward::Params { tokens, selected, width };
                r.step(&kernels::expert_gather_backward::KERNEL, &params, &[d_y, routing.pair_slot, d_x]);
                g.join(r, *x, d_x);
            }
            Op::LinearExperts { x, weight, routing, y } => {
                let Some(d_y) = g.get(*y) else { return };
                linear_experts(r, g, *x, weight, *routing, d_y);
            }
            Op::ExpertCombine { residual, o, weights, routing, y } => {
                let Some(d_y) = g.get(*y) else { return };
                let [tokens, width] = shape2(r, *y);
                let (d_o, d_weights) = (r.gradient_like("d_o", *o), r.gradient_like("d_weights", *weights));
                let selected = routing.selected as u32;
                let params = kernels::expert_combine_backward::Params { tokens, selected, width };
                let tensors = [d_y, *o, *weights, routing.slot_pair, d_o, d_weights];
                r.step(&kernels::expert_combine_backward::KERNEL, &params, &tensors);
                g.join(r, *o, d_o);
                g.join(r, *weights, d_weights);
                g.join(r, *residual, d_y); // nothing later reads d_y as the gradient of y
            }
            Op::Dropout { x, state, site, rate, y } => {
                let Some(d_y) = g.get(*y) else { return };
                let d_x = r.gradient_like("d_x", *x);
                forward::dropout(r, d_y, *state, *site, *rate, d_x);
                g.join(r, *x, d_x);
            }
            Op::Scale { x, factor, y } => {
                let Some(d_y) = g.get(*y) else { return };
                let d_x = r.gradient_like("d_x", *x);
                forward::scale(r, d_y, *factor, d_x);
                g.join(r, *x, d_x);
            }
            Op::Add { a, b, y } => {
                let Some(d_y) = g.get(*y) else { return };
                g.shared.insert(d_y);
                g.join(r, *a, d_y);
                g.join(r, *b, d_y);
            }
            Op::HeadLoss { terms, .. } => {
                terms.iter().for_each(|term| term.d_h.into_iter().for_each(|d_h| g.join(r, term.h, d_h)));
            }
            Op::ScoreLoss { scores, d_scores, .. } => g.join(r, *scores, *d_scores),
        }
    }
}

/// The gradient of one half of a split; zeros where nothing depends on it.
fn half(r: &mut Recorder<'_>, g: &Gradients, x: Tensor) -> Tensor {
    g.get(x).unwrap_or_else(|| {
        let zeros = r.gradient_like("d_zero", x);
        let params = kernels::fill::Params { count: count(r, x), value: 0.0 };
        r.step(&kernels::fill::KERNEL, &params, &[zeros]);
        zeros
    })
}

/// `y = x W^T`: `dW += dy^T x`, `dx = dy W`.
fn linear(r: &mut Recorder<'_>, g: &mut Gradients, x: Tensor, weight: &Weight, d_y: Tensor) {
    let d_y = if weight.is_half(r.tensors) { forward::narrow(r, d_y) } else { d_y };
    let ([m, k], lda) = (shape2(r, x), shape2(r, d_y)[1]);
    for ((a_offset, n, part), factor) in spans(weight).zip(weight.factors()) {
        if let Some(d_weight) = r.tensors.gradient_of(part) {
            let params = matmul::Params { a_offset, lda, ..matmul::Params::dense(TN, ADD, n, k, m) };
            forward::product(r, params, [d_y, x, d_y, d_weight]);
        }
        if !g.wants(x) {
            continue;
        }
        let (d_x, accumulate) = g.target(r, x);
        let params = matmul::Params { a_offset, lda, ..matmul::Params::dense(NN, accumulate, m, k, n) };
        forward::product(r, params, [d_y, factor, d_y, d_x]);
        g.placed(r, x, d_x, accumulate);
    }
}

/// As [`linear`], expert by expert.
fn linear_experts(r: &mut Recorder<'_>, g: &mut Gradients, x: Tensor, weight: &Weight, routing: Routing, d_y: Tensor) {
    let ([pairs, n], m) = (shape2(r, x), shape2(r, d_y)[1]);
    for (first_expert, expert_count, part) in spans(weight) {
        let Some(d_weight) = r.tensors.gradient_of(part) else { continue };
        let (first_row, row_count, accumulate) = (0, m, ADD);
        let params = matmul_experts_weight_grad::Params {
            m,
            n,
            pairs,
            first_expert,
            expert_count,
            first_row,
            row_count,
            accumulate,
        };
        r.step(&matmul_experts_weight_grad::KERNEL, &params, &[d_y, x, routing.offsets, d_weight]);
    }
    if !g.wants(x) {
        return;
    }
    let (d_x, accumulate) = g.target(r, x);
    forward::experts_product(r, NN, d_y, weight, routing, d_x, accumulate);
    g.placed(r, x, d_x, accumulate);
}

/// Joins the gradients of q, kv and k_rope, from probabilities made again out of the saved log-sum-exp.
fn attention(
    r: &mut Recorder<'_>,
    g: &mut Gradients,
    [q, kv, k_rope]: [Tensor; 3],
    mask: Mask,
    sizes: &AttentionSizes,
    [out, lse, d_out]: [Tensor; 3],
) {
    let AttentionSizes { batch, length, heads, nope, rope, value, .. } = *sizes;
    let rows = batch * length;
    let stats = [batch as usize, heads as usize, length as usize, 2];
    let row_stats = r.activation("row_stats", &stats, Dtype::F32);
    let params = kernels::attention_delta::Params { batch, length, heads, value };
    r.step(&kernels::attention_delta::KERNEL, &params, &[d_out, out, lse, row_stats]);
    let reads = [q, kv, k_rope, mask.document_start, mask.state, row_stats, d_out];
    let with = |d: Tensor| reads.iter().copied().chain([d]).collect::<Vec<_>>();
    if g.wants(q) {
        let d_q = r.gradient_like("d_q", q);
        r.step(&kernels::attention_backward_q::KERNEL, sizes, &with(d_q));
        g.join(r, q, d_q);
    }
    if !g.wants(kv) && !g.wants(k_rope) {
        return;
    }
    let (d_kv, d_k_rope) = (r.gradient_like("d_kv", kv), r.gradient_like("d_k_rope", k_rope));
    // Per head: d k_nope, d value, d k_rope; the last is summed over heads, since all share one rope key.
    let (own, stride) = (nope + value, nope + value + rope);
    let dtype = r.tensors.info(kv).dtype;
    let d_heads = r.activation("d_heads", &[rows as usize, (heads * stride) as usize], dtype);
    r.step(&kernels::attention_backward_kv::KERNEL, sizes, &with(d_heads));
    forward::copy(r, (d_heads, stride, 0), (d_kv, own, 0), [rows * heads, own]);
    let params = kernels::sum_heads::Params { rows, heads, width: rope, stride, offset: own };
    r.step(&kernels::sum_heads::KERNEL, &params, &[d_heads, d_k_rope]);
    g.join(r, kv, d_kv);
    g.join(r, k_rope, d_k_rope);
}
