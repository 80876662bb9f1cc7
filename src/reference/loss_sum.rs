//! `metrics += (sum of losses, hits, counted targets)`.

use super::{Real, sum::pairwise};
use crate::kernels::loss_sum::Params;
use crate::kernels::state::{IGNORED, METRIC_CORRECT, METRIC_COUNTED, METRIC_LOSS};

/// Adds up what the loss left for every token; ignored ones hold zeros.
///
/// Shapes: losses, correct, targets (rows); metrics (8).
pub fn loss_sum<F: Real>(p: &Params, losses: &[F], correct: &[F], targets: &[u32], metrics: &mut [F]) {
    let rows = p.rows as usize;
    metrics[METRIC_LOSS] += pairwise(&losses[..rows], |x| x);
    metrics[METRIC_CORRECT] += pairwise(&correct[..rows], |x| x);
    metrics[METRIC_COUNTED] += F::of(targets[..rows].iter().filter(|&&y| y != IGNORED).count() as f64);
}
