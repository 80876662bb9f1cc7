//! What the host computes for preference training, in f64: advantages of rewards, and the factors that make means of
//! sums. The losses themselves are kernels: `policy_loss`, `preference_loss`, `value_loss`, `pair_loss`.

pub mod advantage; // of groups of answers to one prompt
pub mod gae; // of every token, by a value function
pub mod estimate; // both, as a stage wants them
pub mod normalise; // factors on tokens' losses

/// Mean of `values`, exact where all are equal; 0 of none.
pub(crate) fn mean(values: &[f64]) -> f64 {
    let Some(first) = values.first() else { return 0.0 };
    first + values.iter().map(|x| x - first).sum::<f64>() / values.len() as f64
}

/// Unbiased standard deviation of `values`; 0 of fewer than two.
pub(crate) fn deviation(values: &[f64]) -> f64 {
    variance(values).sqrt()
}

/// Unbiased variance of `values`; 0 of fewer than two.
fn variance(values: &[f64]) -> f64 {
    let mean = mean(values);
    values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (values.len().max(2) - 1) as f64
}
