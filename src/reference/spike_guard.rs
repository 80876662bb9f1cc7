//! Whether a loss is a spike among those of the last updates.

use super::{Real, sum::pairwise};
use crate::kernels::spike_guard::Params;
use crate::kernels::state::{
    HISTORY_COUNT, HISTORY_LOSSES, HISTORY_NEXT, LEAST_DEVIATION, METRIC_DEVIATIONS, METRIC_SPIKE, STATE_SPIKE_GUARD,
};

/// With x the window's loss, m and s mean and standard deviation (over n) of the n last ones: deviations =
/// (x - m) / s, and a spike where these exceed the threshold in `state`; neither before there are n. Then x takes the
/// place of the oldest, also if it is a spike. A threshold of 0 does nothing; an x that is not finite is not kept.
/// x is a sum over what it is a sum of, or with a `factor` one loss plus `factor` times another.
///
/// Shapes: state and metrics (8), history (2 + n).
/// Source: the outlier detector of llm.c, but that x is not among the n.
pub fn spike_guard<F: Real>(p: &Params, state: &[u32], history: &mut [F], metrics: &mut [F]) {
    let of = |x: f32| F::of(f64::from(x));
    let (threshold, n) = (of(f32::from_bits(state[STATE_SPIKE_GUARD])), F::of(f64::from(p.updates)));
    let (loss, other) = (metrics[p.loss as usize], metrics[p.other as usize]);
    let loss = if p.factor == 0.0 { loss / other.max(F::one()) } else { loss + of(p.factor) * other };
    if threshold <= F::zero() || !loss.is_finite() {
        return;
    }
    let losses = &history[HISTORY_LOSSES..][..p.updates as usize];
    let mean = pairwise(losses, |x| x) / n;
    let deviation = (pairwise(losses, |x| (x - mean) * (x - mean)) / n).sqrt();
    if history[HISTORY_COUNT] >= n {
        let deviations = (loss - mean) / deviation.max(of(LEAST_DEVIATION));
        metrics[METRIC_DEVIATIONS] = deviations;
        metrics[METRIC_SPIKE] = if deviations > threshold { F::one() } else { F::zero() };
    }
    let next = history[HISTORY_NEXT].wide() as usize;
    history[HISTORY_LOSSES + next] = loss;
    history[HISTORY_NEXT] = F::of(((next + 1) % p.updates as usize) as f64);
    history[HISTORY_COUNT] = (history[HISTORY_COUNT] + F::one()).min(n);
}
