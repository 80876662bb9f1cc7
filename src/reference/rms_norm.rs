//! `y = w * x / sqrt(mean(x^2) + epsilon)`, row by row.

use super::{Real, par_rows};
use crate::kernels::rms_norm::Params;

/// Normalises rows and keeps each row's inverse root mean square for the backward pass.
///
/// `inverse_rms[r] = 1 / sqrt(mean_i(x[r, i]^2) + epsilon)`, `y[r, i] = weight[i] * x[r, i] * inverse_rms[r]`.
/// Shapes: x, y (rows, width); weight (width); inverse_rms (rows).
/// Source: Zhang and Sennrich 2019; epsilon inside the root as in DeepSeek-V2.
pub fn rms_norm<F: Real>(p: &Params, x: &[F], weight: &[F], y: &mut [F], inverse_rms: &mut [F]) {
    let width = p.width as usize;
    let row_of = |r: usize| &x[r * width..(r + 1) * width];
    par_rows(inverse_rms, 1, |r, inverse| {
        let mean_square = row_of(r).iter().map(|&v| v * v).sum::<F>() / F::of(width as f64);
        inverse[0] = (mean_square + F::of(f64::from(p.epsilon))).sqrt().recip();
    });
    par_rows(y, width, |r, y| {
        for ((y, &x), &w) in y.iter_mut().zip(row_of(r)).zip(weight) {
            *y = w * x * inverse_rms[r];
        }
    });
}
