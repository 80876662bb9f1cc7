//! The loss of direct preference optimisation, `-ln sigmoid(beta ((lp_w - ref_w) - (lp_l - ref_l)))`, smoothed.

use super::{Real, logistic, softplus};
use crate::kernels::preference_loss::Params;
use crate::kernels::state::{IGNORED, PAIR_COLUMNS, STATE_INVERSE_PAIRS};

/// Weights of tokens and results of pairs. Sequences 2i and 2i + 1 are pair i: chosen and rejected.
///
/// lp is the sum of a sequence's log-probabilities over its counted targets, reward = beta (lp - reference), z the
/// difference of the rewards, loss = -(1 - smoothing) ln sigmoid(z) - smoothing ln sigmoid(-z). With `state` holding
/// 1 / pairs of the window, G = d loss / dz / pairs * beta for each counted token of a chosen sequence and minus that
/// for each of a rejected one is the gradient in its log-probability; loss_weights = -G, as `cross_entropy` takes it.
/// A pair is padding if one of its sequences has no counted target: zeros.
///
/// Shapes: log_probs, entropies, targets, loss_weights (pairs, 2, length); reference (pairs, 2); state (8); results
/// (pairs, 8), of which `kernels::state` names the columns.
/// Source: Rafailov et al. 2023, "Direct Preference Optimization"; smoothing as in Mitchell 2023, "A note on DPO with
/// noisy preferences".
pub fn preference_loss<F: Real>(
    p: &Params,
    (log_probs, entropies, targets): (&[F], &[F], &[u32]),
    reference: &[F],
    state: &[u32],
    loss_weights: &mut [F],
    results: &mut [F],
) {
    let length = p.length as usize;
    let (beta, smoothing) = (F::of(p.beta.into()), F::of(p.smoothing.into()));
    let one_pair = F::of(f32::from_bits(state[STATE_INVERSE_PAIRS]).into());
    let outputs = loss_weights.chunks_exact_mut(2 * length).zip(results.chunks_exact_mut(PAIR_COLUMNS));
    for (pair, (weights, results)) in outputs.take(p.pairs as usize).enumerate() {
        let first = 2 * pair * length;
        let sums = |first: usize| {
            let counted = || (first..first + length).filter(|&t| targets[t] != IGNORED);
            (counted().map(|t| log_probs[t]).sum::<F>(), counted().map(|t| entropies[t]).sum::<F>(), counted().count())
        };
        let (chosen, entropy_chosen, some) = sums(first);
        let (rejected, entropy_rejected, others) = sums(first + length);
        weights.fill(F::zero());
        results.fill(F::zero());
        if some == 0 || others == 0 {
            continue;
        }
        let reward_chosen = beta * (chosen - reference[2 * pair]);
        let reward_rejected = beta * (rejected - reference[2 * pair + 1]);
        let z = reward_chosen - reward_rejected;
        let slope = (smoothing * logistic(z) - (F::one() - smoothing) * logistic(-z)) * one_pair;
        for (i, weight) in weights.iter_mut().enumerate().filter(|(i, _)| targets[first + i] != IGNORED) {
            *weight = if i < length { -beta * slope } else { beta * slope };
        }
        let loss = (F::one() - smoothing) * softplus(-z) + smoothing * softplus(z);
        let better = if reward_chosen > reward_rejected { F::one() } else { F::zero() };
        let entropy = entropy_chosen + entropy_rejected;
        results.copy_from_slice(&[loss, better, reward_chosen, reward_rejected, F::one(), chosen, rejected, entropy]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::state::{PAIR_ACCURACY, PAIR_COUNTED, PAIR_LOSS};

    /// Where policy and reference agree, the loss is ln 2 and every token's weight half of beta over the pairs; a pair
    /// half of which is empty is none.
    #[test]
    fn the_loss_at_the_reference_is_ln_2() {
        let p = Params { pairs: 2, length: 2, beta: 0.5, smoothing: 0.0 };
        let (log_probs, reference) = ([-1.0, -2.0, -0.5, 9.0, -1.0, -1.0, 9.0, 9.0f64], [-3.0, -0.5, -2.0, 0.0]);
        let targets = [1, 1, 1, IGNORED, 1, 1, IGNORED, IGNORED];
        let mut state = [0; 8];
        state[STATE_INVERSE_PAIRS] = 0.25f32.to_bits();
        let (mut weights, mut results) = ([7.0; 8], [7.0; 16]);
        preference_loss(&p, (&log_probs, &[0.0; 8], &targets), &reference, &state, &mut weights, &mut results);
        assert!((results[PAIR_LOSS] - 2f64.ln()).abs() < 1e-15);
        assert_eq!((results[PAIR_ACCURACY], results[PAIR_COUNTED]), (0.0, 1.0));
        assert_eq!(weights, [0.0625, 0.0625, -0.0625, 0.0, 0.0, 0.0, 0.0, 0.0]);
        assert_eq!(results[PAIR_COLUMNS..], [0.0; 8]);
    }
}
