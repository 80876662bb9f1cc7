//! The second half of a feed-forward layer on a few tokens.

use super::vector::dot;
use super::{Real, par_rows};
use crate::kernels::few_experts_down::Params;

/// `y[n, o] = residual[n, o] + sum_j weights[n, j] (row o of the down matrix of expert chosen[n, j]) . h[n, j] + (row o
/// of the shared down matrix) . (the rest of h[n])`.
///
/// Shapes: h (rows, selected expert + shared); chosen, weights (rows, selected); down (experts, width, expert);
/// shared_down (width, shared); residual, y (rows, width).
/// Source: DeepSeek-V2, section 2.2.1.
pub fn few_experts_down<F: Real>(
    p: &Params,
    [h, weights, down, shared_down, residual]: [&[F]; 5],
    chosen: &[u32],
    y: &mut [F],
) {
    let [width, selected, expert, shared] = [p.width, p.selected, p.expert, p.dense].map(|x| x as usize);
    par_rows(y, 1, |at, y| {
        let (n, o) = (at / width, at % width);
        let h = &h[n * p.hidden() as usize..][..p.hidden() as usize];
        y[0] = residual[at];
        for j in 0..selected {
            let row = (chosen[n * selected + j] as usize * width + o) * expert;
            y[0] += weights[n * selected + j] * dot(&down[row..][..expert], &h[j * expert..][..expert]);
        }
        y[0] += dot(&shared_down[o * shared..][..shared], &h[selected * expert..]);
    });
}
