//! The sequence-level balance loss `alpha / S * sum_b sum_e f[b, e] P[b, e]`.

use super::Real;
use crate::kernels::balance_loss::Params;
use crate::kernels::state::{METRIC_BALANCE, RESULT_LOSS_SCALE, STATE_INVERSE_SEQUENCES};
use rayon::prelude::*;

/// Adds the balance loss to the metrics and keeps its slope in the probabilities.
///
/// For sequence `b` with `T` tokens that are no padding, `f[e] = experts / (selected * T) * (choices of e)` and
/// `P[e] = 1 / T * sum_t probs[t, e]`. With `S` the sequences of the whole accumulation window (`state` holds 1/S,
/// `result` the loss scale) `slope[b, e] = loss scale * alpha * f[e] / (S * T)`, and the balance word of `metrics`
/// grows by `alpha / S * sum_e f[e] P[e]`, without the loss scale. A sequence of padding has slope 0 and adds nothing.
/// Shapes: probs (sequences, length, experts); chosen (sequences, length, selected); real (sequences, length), 0 for
/// padding; state (8); slope (sequences, experts), overwritten; metrics (8), one word updated.
/// Source: DeepSeek-V2, section 2.1.3, with the mean over the window in place of the micro-step.
pub fn balance_loss<F: Real>(
    p: &Params,
    probs: &[F],
    chosen: &[u32],
    real: &[u32],
    (state, result): (&[u32], &[F]),
    slope: &mut [F],
    metrics: &mut [F],
) {
    let (length, experts, selected) = (p.length as usize, p.experts as usize, p.selected as usize);
    let one_sequence = F::of(p.alpha.into()) * F::of(f32::from_bits(state[STATE_INVERSE_SEQUENCES]).into());
    let loss_scale = result[RESULT_LOSS_SCALE];
    let sequences = slope.par_chunks_mut(experts).zip(real.par_chunks(length));
    let sequences = sequences.zip(probs.par_chunks(length * experts)).zip(chosen.par_chunks(length * selected));
    let losses: Vec<F> = sequences
        .map(|(((slope, real), probs), chosen)| {
            let mut tokens = F::zero();
            let mut sums = vec![F::zero(); experts];
            slope.fill(F::zero());
            let rows = real.iter().zip(probs.chunks(experts)).zip(chosen.chunks(selected));
            for ((_, probs), chosen) in rows.filter(|((real, _), _)| **real != 0) {
                tokens += F::one();
                sums.iter_mut().zip(probs).for_each(|(sum, &prob)| *sum += prob);
                chosen.iter().for_each(|&e| slope[e as usize] += F::one());
            }
            // Without tokens every count is zero, and so is every result.
            let tokens = tokens.max(F::one());
            let mut loss = F::zero();
            for (slope, sum) in slope.iter_mut().zip(sums) {
                let load = *slope * F::of(experts as f64) / (F::of(selected as f64) * tokens);
                *slope = loss_scale * one_sequence * load / tokens;
                loss += load * (sum / tokens);
            }
            loss
        })
        .collect();
    metrics[METRIC_BALANCE] += one_sequence * losses.into_iter().sum::<F>();
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The loss of uniform probabilities is alpha, whatever is chosen; of one certain expert, alpha times experts.
    #[test]
    fn the_loss_is_alpha_in_balance_and_alpha_times_experts_at_collapse() {
        let p = Params { sequences: 2, length: 5, experts: 4, selected: 1, alpha: 0.25 };
        let (state, result) = ([0, 0, 0.5f32.to_bits(), 0, 0, 0, 0, 0], [8.0; 8]);
        let loss = |probs: [f64; 4]| {
            let (mut slope, mut metrics) = ([0.0; 8], [0.0; 8]);
            balance_loss(&p, &probs.repeat(10), &[0; 10], &[1; 10], (&state, &result), &mut slope, &mut metrics);
            metrics[METRIC_BALANCE]
        };
        assert!((loss([0.25; 4]) - 0.25).abs() < 1e-12);
        assert!((loss([1.0, 0.0, 0.0, 0.0]) - 1.0).abs() < 1e-12);
    }
}
