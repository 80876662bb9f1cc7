//! Activation recompute: a part of the tape whose activations do not stay from forward to backward.
//!
//! The forward pass runs such a part as any other. What backward needs of it is made again right before the backward
//! steps of the part: [`again`] follows the needs from the activations that backward steps read, through the operations
//! that make them, to what was made outside of the part, which stays. Only operations on these ways are recorded once
//! more, with new tensors in place of their results; a block's last product, for one, is not, since no gradient reads
//! its result. The backward steps then read the new tensors. Nothing else has to know: the old tensors have their last
//! use in the forward pass, so the memory plan gives their buffers to others.
//!
//! Made once and kept: what routers choose, because a tie that fell the other way would be another network, with the
//! sort that follows from it; and whatever has effects besides its results, as the sums of the balance loss and of the
//! experts' loads. Everything else gives the same bits again: kernels sum in a fixed order, and dropout masks are
//! functions of a counter.

use super::op::Op;
use super::recording::Recorder;
use super::tensor::{Tensor, Tensors};
use std::collections::HashMap;

/// How an operation uses one of its activations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    /// Forward reads it.
    Read,
    /// Forward reads it, and so does backward.
    ReadTwice,
    /// Forward makes it.
    Made,
    /// Forward makes it, and backward reads it.
    MadeRead,
}

impl Use {
    fn in_backward(self) -> bool {
        matches!(self, Use::ReadTwice | Use::MadeRead)
    }

    fn made(self) -> bool {
        matches!(self, Use::Made | Use::MadeRead)
    }
}

impl Op {
    /// Whether running the operation again is allowed, and gives what it gave.
    fn repeats(&self) -> bool {
        let routes = matches!(self, Op::Router { .. } | Op::ExpertSort { .. });
        let counts = matches!(self, Op::BalanceLoss { .. } | Op::ExpertLoad { .. });
        let losses = matches!(self, Op::HeadLoss { .. } | Op::ScoreLoss { .. });
        !routes && !counts && !losses
    }

    /// Shows `f` each activation that the operation reads or makes. Backward also asks for shapes and gradients, which
    /// need no contents. A routing is not shown where it is read: its sort is never repeated.
    fn activations(&mut self, mut f: impl FnMut(&mut Tensor, Use)) {
        use Use::{Made, MadeRead, Read, ReadTwice};
        let mut all = |uses: &mut [(&mut Tensor, Use)]| uses.iter_mut().for_each(|(tensor, how)| f(tensor, *how));
        match self {
            Op::Embed { y, .. } => all(&mut [(y, Made)]),
            Op::RmsNorm { x, y, inverse_rms, .. } => all(&mut [(x, ReadTwice), (y, Made), (inverse_rms, MadeRead)]),
            Op::Linear { x, residual, y, .. } => {
                all(&mut [(x, ReadTwice), (y, Made)]);
                residual.iter_mut().for_each(|residual| all(&mut [(residual, Read)]));
            }
            Op::Split { x, left, right } => all(&mut [(x, Read), (left, Made), (right, Made)]),
            Op::Rope { x, y, .. } | Op::Dropout { x, y, .. } | Op::Scale { x, y, .. } => {
                all(&mut [(x, Read), (y, Made)])
            }
            Op::ExpertGather { x, y, .. } => all(&mut [(x, Read), (y, Made)]),
            Op::LinearExperts { x, y, .. } => all(&mut [(x, ReadTwice), (y, Made)]),
            Op::Attention { q, kv, k_rope, out, lse, .. } => {
                all(&mut [(q, ReadTwice), (kv, ReadTwice), (k_rope, ReadTwice), (out, MadeRead), (lse, MadeRead)]);
            }
            // Generation has no backward pass.
            Op::CachedAttention { .. } | Op::FewLinear { .. } | Op::FewExperts { .. } => {}
            Op::SwiGlu { gate, up, h } => all(&mut [(gate, ReadTwice), (up, ReadTwice), (h, Made)]),
            Op::Router { logits, probs, totals, chosen, weights, .. } => {
                all(&mut [(logits, Read), (probs, MadeRead), (totals, MadeRead), (chosen, MadeRead), (weights, Made)]);
            }
            Op::BalanceLoss { probs, chosen, slope, .. } => {
                all(&mut [(probs, Read), (chosen, Read), (slope, MadeRead)]);
            }
            Op::ExpertSort { chosen, .. } | Op::ExpertLoad { chosen, .. } => all(&mut [(chosen, Read)]),
            Op::ExpertCombine { residual, o, weights, y, .. } => {
                all(&mut [(residual, Read), (o, ReadTwice), (weights, ReadTwice), (y, Made)]);
            }
            Op::Add { a, b, y } => all(&mut [(a, Read), (b, Read), (y, Made)]),
            Op::HeadLoss { terms, .. } => terms.iter_mut().for_each(|term| all(&mut [(&mut term.h, Read)])),
            Op::ScoreLoss { scores, d_scores, .. } => all(&mut [(scores, Read), (d_scores, MadeRead)]),
        }
    }

    /// The activations that `wanted` picks by their use.
    fn those(&self, wanted: impl Fn(Use) -> bool) -> Vec<Tensor> {
        let mut found = Vec::new();
        self.clone().activations(|tensor, how| found.extend(wanted(how).then_some(*tensor)));
        found
    }

    /// The activations that forward reads.
    pub(super) fn reads(&self) -> Vec<Tensor> {
        self.those(|how| !how.made())
    }

    /// The activations that forward makes.
    pub(super) fn makes(&self) -> Vec<Tensor> {
        self.those(Use::made)
    }

    /// The activations that backward reads: of a product with a frozen matrix none, since the gradient of its input
    /// needs the matrix alone.
    fn read_in_backward(&self, tensors: &Tensors) -> Vec<Tensor> {
        let product = matches!(self, Op::Linear { .. } | Op::LinearExperts { .. });
        if product && !self.is_trained(tensors) { Vec::new() } else { self.those(Use::in_backward) }
    }

    /// Floating-point operations of the forward pass, of matrix products and attention alone; a key counts half where
    /// a causal mask hides it from half of the queries.
    fn flops(&self, tensors: &Tensors) -> f64 {
        let size = |tensor: Tensor| tensors.elements(tensor) as f64;
        match self {
            Op::Linear { x, y, .. } => 2.0 * size(*x) * tensors.extent(*y, 1) as f64,
            Op::LinearExperts { x, y, .. } => 2.0 * size(*x) * tensors.extent(*y, 1) as f64,
            Op::Attention { sizes, .. } => {
                let queries = f64::from(sizes.batch) * f64::from(sizes.length) * f64::from(sizes.heads);
                let keys = (f64::from(sizes.length) + 1.0) / 2.0;
                2.0 * queries * keys * f64::from(sizes.nope + sizes.rope + sizes.value)
            }
            _ => 0.0,
        }
    }
}

/// Which of `ops` must run again for their own backward steps, which those have whose results are `wanted`.
fn needed(ops: &[Op], tensors: &Tensors, wanted: &dyn Fn(Tensor) -> bool) -> Vec<bool> {
    let mut maker: HashMap<Tensor, usize> = HashMap::new();
    for (i, op) in ops.iter().enumerate().filter(|(_, op)| op.repeats()) {
        maker.extend(op.makes().into_iter().map(|tensor| (tensor, i)));
    }
    let differentiated = ops.iter().filter(|op| op.makes().into_iter().any(wanted));
    let mut wanted: Vec<Tensor> = differentiated.flat_map(|op| op.read_in_backward(tensors)).collect();
    let mut needed = vec![false; ops.len()];
    while let Some(tensor) = wanted.pop() {
        // What nothing here makes was made outside, or may be made once only: it stays.
        let Some(&i) = maker.get(&tensor) else { continue };
        if !needed[i] {
            needed[i] = true;
            wanted.extend(ops[i].reads());
        }
    }
    needed
}

/// Records what the backward steps of `ops` need once more. Returns the operations with the new tensors, and, for each
/// new tensor, the one that it repeats. Nothing is needed for gradients of activations that are not `wanted`.
pub(super) fn again(
    ops: &[Op],
    r: &mut Recorder<'_>,
    wanted: &dyn Fn(Tensor) -> bool,
) -> (Vec<Op>, HashMap<Tensor, Tensor>) {
    let mut copies: HashMap<Tensor, Tensor> = HashMap::new();
    let mut renewed = Vec::with_capacity(ops.len());
    for (op, needed) in ops.iter().zip(needed(ops, r.tensors, wanted)) {
        if needed {
            for tensor in op.makes() {
                copies.insert(tensor, r.tensors.again(tensor));
            }
        }
        let mut op = op.clone();
        op.activations(|tensor, _| *tensor = copies.get(tensor).copied().unwrap_or(*tensor));
        if needed {
            op.forward(r);
            r.repeated_flops += op.flops(r.tensors);
        }
        renewed.push(op);
    }
    (renewed, copies.into_iter().map(|(old, new)| (new, old)).collect())
}
