//! Products with weights, each with the adapter that may stand beside its matrix.

use super::Tape;
use crate::graph::op::{Adapter, Linear, Op, Routing, Weight};
use crate::graph::tensor::{Role, Tensor};

impl Tape<'_> {
    /// `x W^T`, and with an adapter `+ scale (x A^T) B^T`: (N, in) and (out, in) to (N, out).
    pub fn linear<'w>(&mut self, x: Tensor, layer: impl Into<Linear<'w>>) -> Tensor {
        let Linear { weight, adapter } = layer.into();
        let y = self.push_linear(x, weight, None);
        self.adapted(x, adapter, y)
    }

    /// `residual + x W^T`, in one product; the adapter as in [`Tape::linear`].
    pub fn linear_residual<'w>(&mut self, x: Tensor, layer: impl Into<Linear<'w>>, residual: Tensor) -> Tensor {
        let Linear { weight, adapter } = layer.into();
        let y = self.push_linear(x, weight, Some(residual));
        self.adapted(x, adapter, y)
    }

    /// `y + scale (x A^T) B^T`, if there is an adapter.
    fn adapted(&mut self, x: Tensor, adapter: Option<Adapter<'_>>, y: Tensor) -> Tensor {
        let Some(adapter) = adapter else { return y };
        let low = self.low(x, adapter); // (N, rank)
        self.push_linear(low, adapter.b, Some(y))
    }

    /// `scale x A^T`: (N, in) to (N, rank).
    pub(super) fn low(&mut self, x: Tensor, adapter: Adapter<'_>) -> Tensor {
        let low = self.push_linear(x, adapter.a, None);
        self.scale(low, adapter.scale)
    }

    fn push_linear(&mut self, x: Tensor, weight: &Weight, residual: Option<Tensor>) -> Tensor {
        assert_eq!(self.width(x), self.width(weight.parts[0].1), "linear: widths differ");
        let shape = [self.rows(x), weight.rows];
        let y = match residual {
            Some(residual) => self.like("linear", residual),
            None => self.product("linear", &shape, weight),
        };
        self.ops.push(Op::Linear { x, weight: weight.clone(), residual, y });
        y
    }

    /// Each slot's row times its expert's matrix, and with an adapter `+ scale (x A^T) B^T` of that expert: (N K, in)
    /// and (E, out, in) to (N K, out).
    pub fn linear_experts<'w>(&mut self, x: Tensor, layer: impl Into<Linear<'w>>, routing: Routing) -> Tensor {
        let Linear { weight, adapter } = layer.into();
        let y = self.push_experts(x, weight, routing);
        let Some(Adapter { a, b, scale }) = adapter else { return y };
        let low = self.push_experts(x, a, routing); // (N K, rank)
        let low = self.scale(low, scale);
        let z = self.push_experts(low, b, routing); // (N K, out)
        self.add(y, z)
    }

    fn push_experts(&mut self, x: Tensor, weight: &Weight, routing: Routing) -> Tensor {
        let out = self.tensors.extent(weight.parts[0].1, 1);
        let shape = [self.rows(x), out];
        let y = self.product("linear_experts", &shape, weight);
        self.ops.push(Op::LinearExperts { x, weight: weight.clone(), routing, y });
        y
    }

    /// `h W^T`, the adapter as in [`Tape::linear`], into a tensor that outlives the replay: (S, d) and (V, d) to
    /// (S, V).
    pub fn logits<'w>(&mut self, h: Tensor, layer: impl Into<Linear<'w>>) -> Tensor {
        let Linear { weight, adapter } = layer.into();
        let low = adapter.map(|adapter| (self.low(h, adapter), adapter.b));
        let residual = low.map(|(low, b)| self.push_linear(low, b, None)); // (S, V)
        let shape = [self.rows(h), weight.rows];
        let y = self.tensors.real("logits_out", &shape, Role::State);
        self.ops.push(Op::Linear { x: h, weight: weight.clone(), residual, y });
        y
    }
}
