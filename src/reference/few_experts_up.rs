//! The gated first half of a feed-forward layer on a few tokens.

use super::few_linear::normed;
use super::vector::dot;
use super::{Real, par_rows};
use crate::kernels::few_experts_up::Params;

/// With `x' = norm x / sqrt(mean(x^2) + epsilon)`: `h[n, j, i] = silu(g . x') (u . x')`, where g and u are rows i of
/// the gate and up matrices of expert `chosen[n, j]`; then the same with the rows of the shared matrices.
///
/// Shapes: x (rows, width); norm (width); chosen (rows, selected); gate, up (experts, expert, width); shared_gate,
/// shared_up (shared, width); h (rows, selected expert + shared).
/// Source: Shazeer 2020 for the gate.
pub fn few_experts_up<F: Real>(
    p: &Params,
    [x, norm]: [&[F]; 2],
    chosen: &[u32],
    [gate, up, shared_gate, shared_up]: [&[F]; 4],
    h: &mut [F],
) {
    let [width, selected, expert, hidden] = [p.width, p.selected, p.expert, p.hidden()].map(|x| x as usize);
    let xs: Vec<Vec<F>> = x.chunks_exact(width).map(|x| normed(x, norm, Some(p.epsilon))).collect();
    par_rows(h, 1, |at, h| {
        let (n, i) = (at / hidden, at % hidden);
        let (gate, up, row) = if i < selected * expert {
            (gate, up, chosen[n * selected + i / expert] as usize * expert + i % expert)
        } else {
            (shared_gate, shared_up, i - selected * expert)
        };
        let [g, u] = [gate, up].map(|matrix| dot(&matrix[row * width..][..width], &xs[n]));
        h[0] = g / (F::one() + (-g).exp()) * u;
    });
}
