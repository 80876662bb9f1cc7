//! The clipped policy loss `-min(q A, clamp(q) A) + beta (exp(d) - d - 1) - bonus H` of PPO and GRPO.

use super::Real;
use crate::kernels::policy_loss::{MOST_EXPONENT, Params};
use crate::kernels::state::TOKEN_COLUMNS;
use rayon::prelude::*;

/// Weights and results of tokens, from their log-probabilities now, entropies, log-probabilities then and by the
/// reference, advantages and factors.
///
/// With q = exp(lp - old) and d = reference - lp the loss of a token is factor * (-min(q A, clamp(q, 1 - clip_low,
/// 1 + clip_high) A) + beta (exp(d) - d - 1) - entropy_bonus * H), with the estimate k3 of the divergence and H the
/// token's entropy, whose derivative `cross_entropy` makes. The loss's derivative in lp is G = factor * (-A q +
/// beta (1 - exp(d))), without the first term where A > 0 and q > 1 + clip_high or A < 0 and q < 1 - clip_low;
/// loss_weights = -G, as `cross_entropy` takes it. Exponents count as [`MOST_EXPONENT`] at most. The factor is what
/// makes a mean of the sum: `rl::normalise`. Zeros where it is 0.
///
/// Shapes: all (tokens) but results (tokens, 8), of which `kernels::state` names the columns.
/// Source: Schulman et al. 2017, "Proximal Policy Optimization Algorithms"; Shao et al. 2024, "DeepSeekMath".
pub fn policy_loss<F: Real>(
    p: &Params,
    [log_probs, entropies, old, reference, advantages, factors]: [&[F]; 6],
    loss_weights: &mut [F],
    results: &mut [F],
) {
    let (lowest, highest) = (F::one() - F::of(p.clip_low.into()), F::one() + F::of(p.clip_high.into()));
    let [beta, bonus, half] = [p.beta, p.entropy_bonus, 0.5].map(|x| F::of(x.into()));
    let most = F::of(MOST_EXPONENT.into());
    let bounded = |exponent: F| if exponent > most { most } else { exponent }; // NaN stays NaN
    let indicator = |b: bool| if b { F::one() } else { F::zero() };
    let outputs = loss_weights.par_iter_mut().zip(results.par_chunks_exact_mut(TOKEN_COLUMNS));
    outputs.take(p.tokens as usize).enumerate().for_each(|(t, (weight, results))| {
        let (factor, advantage) = (factors[t], advantages[t]);
        *weight = F::zero();
        results.fill(F::zero());
        if factor == F::zero() {
            return;
        }
        let change = log_probs[t] - old[t];
        let ratio = bounded(change).exp();
        let low = ratio < lowest && advantage < F::zero();
        let high = ratio > highest && advantage > F::zero();
        let gain = (ratio * advantage).min(ratio.max(lowest).min(highest) * advantage);
        let d = bounded(reference[t] - log_probs[t]);
        let kl = d.exp_m1() - d;
        let through = if low || high { F::zero() } else { ratio * advantage };
        *weight = factor * (through + beta * d.exp_m1());
        let loss = factor * (beta * kl - gain - bonus * entropies[t]);
        let change = half * change * change;
        let (low, high) = (indicator(low), indicator(high));
        results.copy_from_slice(&[loss, kl, ratio, low, high, entropies[t], change, F::one()]);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::state::{
        TOKEN_CHANGE, TOKEN_CLIPPED_HIGH, TOKEN_CLIPPED_LOW, TOKEN_KL, TOKEN_LOSS, TOKEN_RATIO,
    };

    const P: Params = Params { tokens: 1, clip_low: 0.25, clip_high: 0.5, beta: 0.5, entropy_bonus: 0.25 };

    /// Weight and results of one token with factor 2, whose entropy is 0.
    fn one(lp: f64, old: f64, reference: f64, advantage: f64) -> (f64, [f64; TOKEN_COLUMNS]) {
        of_entropy(0.0, lp, old, reference, advantage)
    }

    fn of_entropy(entropy: f64, lp: f64, old: f64, reference: f64, advantage: f64) -> (f64, [f64; TOKEN_COLUMNS]) {
        let (mut weight, mut results) = ([9.0], [9.0; TOKEN_COLUMNS]);
        policy_loss(&P, [&[lp], &[entropy], &[old], &[reference], &[advantage], &[2.0]], &mut weight, &mut results);
        (weight[0], results)
    }

    #[test]
    fn before_the_first_update_the_ratio_is_1_and_the_weight_the_advantage() {
        let (weight, results) = one(-0.7, -0.7, -0.7, 3.0);
        assert_eq!((weight, results[TOKEN_LOSS]), (6.0, -6.0));
        assert_eq!([TOKEN_RATIO, TOKEN_KL, TOKEN_CHANGE].map(|c| results[c]), [1.0, 0.0, 0.0]);
    }

    #[test]
    fn entropy_lowers_the_loss_by_its_factor_and_leaves_the_weight() {
        let ((weight, results), (same, more)) = (one(-0.7, -0.6, -0.9, 3.0), of_entropy(2.0, -0.7, -0.6, -0.9, 3.0));
        assert_eq!((weight, results[TOKEN_LOSS] - 2.0 * 0.25 * 2.0), (same, more[TOKEN_LOSS]));
    }

    #[test]
    fn a_ratio_beyond_all_numbers_is_finite_and_costs_nothing_without_an_advantage() {
        let (mut weight, mut results) = ([9.0f32], [9.0; TOKEN_COLUMNS]);
        let one = |x: f32| [x];
        let [now, old, none, factor] = [one(-0.5), one(-200.0), one(0.0), one(2.0)];
        let p = Params { beta: 0.0, ..P };
        policy_loss(&p, [&now, &none, &old, &old, &none, &factor], &mut weight, &mut results);
        assert_eq!((weight[0], results[TOKEN_LOSS]), (0.0, 0.0));
        policy_loss(&p, [&old, &none, &now, &now, &none, &factor], &mut weight, &mut results);
        assert_eq!((weight[0], results[TOKEN_LOSS]), (0.0, 0.0), "a divergence that is not counted");
        policy_loss(&P, [&now, &none, &one(f32::NAN), &old, &none, &factor], &mut weight, &mut results);
        assert!(weight[0].is_nan());
    }

    #[test]
    fn without_an_advantage_only_the_divergence_has_a_gradient_and_it_is_never_negative() {
        for d in [-2.0, -0.1, 1e-9, 0.0, 0.1, 2.0f64] {
            let (weight, results) = one(-3.0 - d, -2.0, -3.0, 0.0);
            let d = -3.0 - (-3.0 - d); // as it was rounded
            assert!((weight - 2.0 * 0.5 * d.exp_m1()).abs() < 1e-15, "{d}");
            assert!(results[TOKEN_KL] >= 0.0 && (results[TOKEN_KL] == 0.0) == (d == 0.0), "{d}");
        }
    }

    #[test]
    fn a_ratio_is_clipped_where_the_advantage_has_pushed_it_and_nowhere_else() {
        let clipped = |ratio: f64, advantage| {
            let (weight, results) = one(ratio.ln(), 0.0, ratio.ln(), advantage);
            let found = [TOKEN_CLIPPED_LOW, TOKEN_CLIPPED_HIGH].map(|c| results[c] != 0.0);
            assert_eq!(found.contains(&true), weight == 0.0);
            found
        };
        assert_eq!(clipped(1.6, 1.0), [false, true]);
        assert_eq!(clipped(1.6, -1.0), [false, false]);
        assert_eq!(clipped(0.7, -1.0), [true, false]);
        assert_eq!(clipped(0.7, 1.0), [false, false]);
        assert_eq!(clipped(1.4, 1.0), [false, false]);
        assert_eq!(clipped(0.8, -1.0), [false, false]);
    }
}
