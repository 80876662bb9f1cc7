//! `d_weight` of `y = weight * x * inverse_rms`, summed over rows.

use super::Real;
use crate::kernels::rms_norm_weight_grad::Params;
use rayon::prelude::*;

/// Columns of a task: a few cache lines of a row.
const COLUMNS: usize = 64;
/// Rows summed apart before they join the total, so that f32 rounding grows with the square root of the rows.
const ROWS: usize = 64;

/// Adds `sum_r d_y[r, i] * x[r, i] * inverse_rms[r]` to `d_weight[i]`.
///
/// Shapes: d_y, x (rows, width); inverse_rms (rows); d_weight (width).
pub fn rms_norm_weight_grad<F: Real>(p: &Params, d_y: &[F], x: &[F], inverse_rms: &[F], d_weight: &mut [F]) {
    let (rows, width) = (p.rows as usize, p.width as usize);
    d_weight[..width].par_chunks_mut(COLUMNS).enumerate().for_each(|(chunk, d_weight)| {
        let mut sum = [F::zero(); COLUMNS];
        for first in (0..rows).step_by(ROWS) {
            let mut part = [F::zero(); COLUMNS];
            for (r, &inverse) in inverse_rms.iter().enumerate().take(rows).skip(first).take(ROWS) {
                let start = r * width + chunk * COLUMNS;
                let end = start + d_weight.len();
                for ((part, &d), &x) in part.iter_mut().zip(&d_y[start..end]).zip(&x[start..end]) {
                    *part += d * x * inverse;
                }
            }
            for (sum, part) in sum.iter_mut().zip(part) {
                *sum += part;
            }
        }
        for (d, sum) in d_weight.iter_mut().zip(sum) {
            *d += sum;
        }
    });
}
