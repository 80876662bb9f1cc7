//! Gradient norm, clip factor and finite flag, and what they leave for the next update.

use super::{Real, sum::pairwise};
use crate::kernels::grad_norm_finish::{CLIP_EPSILON, Params};
use crate::kernels::state::{
    LARGEST_LOSS_SCALE, METRIC_GOAL, METRIC_LOSS, METRIC_SPIKE, RESULT_CLEAN, RESULT_CLIP, RESULT_CORRECTION1,
    RESULT_CORRECTION2, RESULT_FINITE, RESULT_LOSS_SCALE, RESULT_NORM, RESULT_SKIPPED,
};

/// Of a gradient that the loss scale S made too large: `norm = sqrt(sum of partials) / S`,
/// `clip = min(1, clip_norm / (norm + 1e-6)) / S`, 1 / S without a `clip_norm`; the flag is 1 if the sum and the
/// window's losses are finite and the loss is not marked as a spike.
///
/// Then, if it is: `c = beta c + (1 - beta)` takes both corrections `1 - beta^t` from t to t + 1, without the rounding
/// of a power; the count of clean updates grows, and at `growth_interval` S doubles and the count begins anew. If not:
/// the count of skipped updates grows, corrections stay, and S halves (not below 1) unless all was finite. An interval
/// of 0 leaves S alone.
///
/// Shapes: partials (partials), metrics and result (8).
pub fn grad_norm_finish<F: Real>(p: &Params, partials: &[F], metrics: &[F], result: &mut [F]) {
    let sum = pairwise(&partials[..p.partials as usize], |x| x);
    let (one, scale) = (F::one(), result[RESULT_LOSS_SCALE]);
    let norm = sum.sqrt() / scale;
    let limit = F::of(f64::from(p.clip_norm));
    let factor = if p.clip_norm > 0.0 { (limit / (norm + F::of(CLIP_EPSILON))).min(one) } else { one };
    (result[RESULT_NORM], result[RESULT_CLIP]) = (norm, factor / scale);
    let finite = [sum, metrics[METRIC_LOSS], metrics[METRIC_GOAL]].iter().all(|x| x.is_finite());
    if finite && metrics[METRIC_SPIKE] != one {
        result[RESULT_FINITE] = one;
        for (word, beta) in [(RESULT_CORRECTION1, p.beta1), (RESULT_CORRECTION2, p.beta2)] {
            let beta = F::of(f64::from(beta));
            result[word] = beta * result[word] + (one - beta);
        }
        result[RESULT_CLEAN] += one;
        if p.growth_interval > 0 && result[RESULT_CLEAN] >= F::of(f64::from(p.growth_interval)) {
            result[RESULT_CLEAN] = F::zero();
            result[RESULT_LOSS_SCALE] = (scale + scale).min(F::of(f64::from(LARGEST_LOSS_SCALE)));
        }
    } else {
        result[RESULT_FINITE] = F::zero();
        result[RESULT_SKIPPED] += one;
        if !finite {
            result[RESULT_CLEAN] = F::zero();
        }
        if !finite && p.growth_interval > 0 {
            result[RESULT_LOSS_SCALE] = (scale * F::of(0.5)).max(one);
        }
    }
}
