//! The clipped value loss `max((V - R)^2, (C - R)^2) / 2` of PPO.

use super::Real;
use crate::kernels::state::{RESULT_LOSS_SCALE, VALUE_COLUMNS};
use crate::kernels::value_loss::Params;

/// Gradients and results of tokens, from their values, old values, returns and factors.
///
/// With C = clamp(V, old - clip, old + clip) the loss of a token is factor / 2 * max((V - R)^2, (C - R)^2); d_value =
/// loss scale * coefficient * factor * (V - R), or 0 where the second square is the larger, since V is clipped there.
/// Zeros where the factor is 0.
///
/// Shapes: all (tokens) but result (8) and results (tokens, 4), of which `kernels::state` names the columns.
/// Source: the implementation of Schulman et al. 2017, "Proximal Policy Optimization Algorithms".
pub fn value_loss<F: Real>(
    p: &Params,
    [values, old, returns, factors]: [&[F]; 4],
    result: &[F],
    d_values: &mut [F],
    results: &mut [F],
) {
    let (clip, half) = (F::of(p.clip.into()), F::of(0.5));
    let scale = result[RESULT_LOSS_SCALE] * F::of(p.coefficient.into());
    let outputs = d_values.iter_mut().zip(results.chunks_exact_mut(VALUE_COLUMNS));
    for (t, (d_value, results)) in outputs.take(p.tokens as usize).enumerate() {
        let (factor, value) = (factors[t], values[t]);
        *d_value = F::zero();
        results.fill(F::zero());
        if factor != F::zero() {
            let error = value - returns[t];
            let bounded = value.max(old[t] - clip).min(old[t] + clip) - returns[t];
            let clipped = bounded.abs() > error.abs();
            let worse = if clipped { bounded } else { error };
            *d_value = if clipped { F::zero() } else { scale * factor * error };
            let clipped = if clipped { F::one() } else { F::zero() };
            results.copy_from_slice(&[half * factor * worse * worse, clipped, value, F::one()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_clipped_where_it_came_nearer_than_allowed() {
        let p = Params { tokens: 4, clip: 0.5, coefficient: 0.25 };
        let (mut d_values, mut results) = ([9.0f64; 4], [9.0; 4 * VALUE_COLUMNS]);
        // Towards the return within the range, beyond it, away from it beyond the range, not counted.
        let (values, returns) = ([0.25, 1.0, -1.0, 1.0], [2.0; 4]);
        let inputs: [&[f64]; 4] = [&values, &[0.0; 4], &returns, &[1.0, 1.0, 1.0, 0.0]];
        value_loss(&p, inputs, &[0.0, 0.0, 0.0, 8.0, 0.0, 0.0, 0.0, 0.0], &mut d_values, &mut results);
        assert_eq!(d_values, [2.0 * -1.75, 0.0, 2.0 * -3.0, 0.0]);
        let losses: Vec<f64> = results.iter().copied().step_by(VALUE_COLUMNS).collect();
        assert_eq!(losses, [1.75 * 1.75 / 2.0, 1.5 * 1.5 / 2.0, 4.5, 0.0]);
        assert_eq!(results[VALUE_COLUMNS..][..VALUE_COLUMNS], [1.125, 1.0, 1.0, 1.0]);
        assert_eq!(results[3 * VALUE_COLUMNS..], [0.0; VALUE_COLUMNS]);
    }
}
