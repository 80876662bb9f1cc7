//! `metrics[c] += sum over rows of results[row, c]`.

use super::{Real, sum::pairwise};
use crate::kernels::metric_sum::Params;

/// Adds up what a loss left of every pair or token; those that do not count hold zeros.
///
/// Shapes: results (rows, columns); metrics (columns), updated.
pub fn metric_sum<F: Real>(p: &Params, results: &[F], metrics: &mut [F]) {
    let columns = p.columns as usize;
    for (column, metric) in metrics[..columns].iter_mut().enumerate() {
        let values: Vec<F> = results.chunks_exact(columns).take(p.rows as usize).map(|row| row[column]).collect();
        *metric += pairwise(&values, |x| x);
    }
}
