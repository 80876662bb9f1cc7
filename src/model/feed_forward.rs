//! The gated feed-forward layer.

use super::weights::Weights;
use crate::graph::Tensor;
use crate::graph::tape::Tape;

/// `residual + (silu(x Wg^T) * x Wu^T) Wd^T`; `prefix` names the three matrices.
pub fn feed_forward(t: &mut Tape<'_>, weights: &Weights, prefix: &str, x: Tensor, residual: Tensor) -> Tensor {
    let w = |name: &str| weights.linear(&format!("{prefix}.{name}.weight"));
    let gate = t.linear(x, w("gate_proj")); // (N, I)
    let up = t.linear(x, w("up_proj")); // (N, I)
    let h = t.swiglu(gate, up); // (N, I)
    t.linear_residual(h, w("down_proj"), residual) // (N, d)
}
