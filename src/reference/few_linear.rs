//! A linear layer on a few tokens, with the norm before it.

use super::Real;
use super::vector::dot;
use crate::kernels::few_linear::Params;
use rayon::prelude::*;

/// `y[n, o] = sum_i W[o, i] x'[n, i]`, plus `residual[n, o]` if there is one; `x'` is x, or if `normed`
/// `norm[i] x[n, i] / sqrt(mean_i(x[n, i]^2) + epsilon)`.
///
/// Shapes: x (rows, width); norm (width), not read unless `normed`; W (outputs, width); residual, y (rows, outputs).
/// Source: Zhang and Sennrich 2019 for the norm.
pub fn few_linear<F: Real>(p: &Params, [x, norm, weight, residual]: [&[F]; 4], y: &mut [F]) {
    let (outputs, width) = (p.outputs as usize, p.width as usize);
    for (n, y) in y.chunks_exact_mut(outputs).enumerate() {
        let x = normed(&x[n * width..][..width], norm, (p.normed != 0).then_some(p.epsilon));
        y.par_iter_mut().with_min_len(1 + 4096 / width).enumerate().for_each(|(o, y)| {
            *y = dot(&x, &weight[o * width..][..width]);
            if p.residual != 0 {
                *y += residual[n * outputs + o];
            }
        });
    }
}

/// x, or x normalised with `epsilon`.
pub(super) fn normed<F: Real>(x: &[F], norm: &[F], epsilon: Option<f32>) -> Vec<F> {
    let Some(epsilon) = epsilon else { return x.to_vec() };
    let mean_square = x.iter().map(|&x| x * x).sum::<F>() / F::of(x.len() as f64);
    let inverse = (mean_square + F::of(epsilon.into())).sqrt().recip();
    x.iter().zip(norm).map(|(&x, &norm)| norm * x * inverse).collect()
}
