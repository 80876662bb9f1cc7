//! Which activations a trained parameter reaches: backward makes no gradient of the others. Where everything is trained
//! that is all of them; where adapters learn beside frozen weights, nothing before the first adapter has one.

use super::op::{Op, Weight};
use super::tensor::{Tensor, Tensors};
use std::collections::HashSet;

impl Op {
    /// The parameters that the operation reads, part by part.
    fn parameters(&self) -> Vec<Tensor> {
        let parts = |weight: &Weight| weight.parts.iter().map(|part| part.1).collect::<Vec<_>>();
        match self {
            Op::Embed { table: weight, .. } | Op::Linear { weight, .. } | Op::LinearExperts { weight, .. } => {
                parts(weight)
            }
            Op::HeadLoss { terms, .. } => terms.iter().flat_map(|term| parts(&term.weight)).collect(),
            Op::RmsNorm { weight, .. } => vec![*weight],
            _ => Vec::new(),
        }
    }

    /// Whether it reads a parameter that has a gradient.
    pub(super) fn is_trained(&self, tensors: &Tensors) -> bool {
        self.parameters().into_iter().any(|part| tensors.gradient_of(part).is_some())
    }
}

/// The activations of `ops`, in the order of the forward pass, that depend on a parameter with a gradient.
pub(super) fn reached(ops: &[Op], tensors: &Tensors) -> HashSet<Tensor> {
    let mut reached = HashSet::new();
    for op in ops {
        if op.is_trained(tensors) || op.reads().iter().any(|x| reached.contains(x)) {
            reached.extend(op.makes());
        }
    }
    reached
}
