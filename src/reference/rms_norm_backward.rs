//! `d_x` of `y = weight * x * inverse_rms`, row by row.

use super::{Real, par_rows};
use crate::kernels::rms_norm_backward::Params;

/// With `g = weight * d_y` and `i = inverse_rms[r]`: `d_x = i * g - x * i^3 * mean(g * x)`.
///
/// Shapes: d_y, x, d_x (rows, width); weight (width); inverse_rms (rows).
/// Derivation: `d(1/sqrt(u)) = -u^(-3/2) / 2` with `u = mean(x^2) + epsilon`, whose derivative by x is `2 x / width`.
pub fn rms_norm_backward<F: Real>(p: &Params, d_y: &[F], x: &[F], weight: &[F], inverse_rms: &[F], d_x: &mut [F]) {
    let width = p.width as usize;
    par_rows(&mut d_x[..p.rows as usize * width], width, |r, d_x| {
        let (d_y, x) = (&d_y[r * width..][..width], &x[r * width..][..width]);
        let inverse = inverse_rms[r];
        for ((g, &d), &w) in d_x.iter_mut().zip(d_y).zip(weight) {
            *g = w * d;
        }
        let mean = d_x.iter().zip(x).map(|(&g, &x)| g * x).sum::<F>() / F::of(width as f64);
        let slope = inverse * inverse * mean;
        for (g, &x) in d_x.iter_mut().zip(x) {
            *g = inverse * (*g - x * slope);
        }
    });
}
