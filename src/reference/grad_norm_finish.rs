//! `result = (norm, clip factor, finite flag)`.

use super::{Real, sum::pairwise};
use crate::kernels::grad_norm_finish::{CLIP_EPSILON, Params};
use crate::kernels::state::{RESULT_CLIP, RESULT_FINITE, RESULT_NORM};

/// `norm = sqrt(sum of partials)`, `clip = min(1, clip_norm / (norm + 1e-6))`, 1 without a `clip_norm`; the flag is 1
/// if the sum is finite, else 0.
///
/// Shapes: partials (partials), result (8). The other words of `result` stay.
pub fn grad_norm_finish<F: Real>(p: &Params, partials: &[F], result: &mut [F]) {
    let sum = pairwise(&partials[..p.partials as usize], |x| x);
    let norm = sum.sqrt();
    let limit = F::of(f64::from(p.clip_norm));
    let clipped = p.clip_norm > 0.0;
    result[RESULT_NORM] = norm;
    result[RESULT_CLIP] = if clipped { (limit / (norm + F::of(CLIP_EPSILON))).min(F::one()) } else { F::one() };
    result[RESULT_FINITE] = if sum.is_finite() { F::one() } else { F::zero() };
}
