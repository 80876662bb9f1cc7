//! The Bradley-Terry loss `-ln sigmoid(chosen - rejected - margin) + centring (chosen + rejected)^2`.

use super::{Real, logistic, softplus};
use crate::kernels::pair_loss::Params;
use crate::kernels::state::{IGNORED, RESULT_LOSS_SCALE, SCORED_PAIR_COLUMNS, STATE_INVERSE_PAIRS};

/// Gradients of scores and results of pairs. Sequences 2i and 2i + 1 are pair i: chosen and rejected.
///
/// The reward of a sequence is the score of its token number `end`. With u = chosen - rejected - margin and the loss
/// above, d chosen = -sigmoid(-u) + 2 centring (chosen + rejected) and d rejected = sigmoid(-u) + 2 centring (chosen +
/// rejected), times loss scale / pairs of the window (`result` and `state` hold them); other tokens' gradients are 0.
/// A pair is padding if one of its ends is `IGNORED`: zeros.
///
/// Shapes: scores, d_scores (pairs, 2, length); ends (pairs, 2); margins (pairs); state, result (8); results (pairs,
/// 5), of which `kernels::state` names the columns.
/// Source: Ouyang et al. 2022, "Training language models to follow instructions"; centring as in Eisenstein et al.
/// 2023, "Helping or Herding?".
pub fn pair_loss<F: Real>(
    p: &Params,
    (scores, ends, margins): (&[F], &[u32], &[F]),
    (state, result): (&[u32], &[F]),
    d_scores: &mut [F],
    results: &mut [F],
) {
    let (length, centring) = (p.length as usize, F::of(p.centring.into()));
    let one_pair = result[RESULT_LOSS_SCALE] * F::of(f32::from_bits(state[STATE_INVERSE_PAIRS]).into());
    let outputs = d_scores.chunks_exact_mut(2 * length).zip(results.chunks_exact_mut(SCORED_PAIR_COLUMNS));
    for (pair, (d_scores, results)) in outputs.take(p.pairs as usize).enumerate() {
        d_scores.fill(F::zero());
        results.fill(F::zero());
        let ends = &ends[2 * pair..2 * pair + 2];
        if ends.contains(&IGNORED) {
            continue;
        }
        let places = [ends[0] as usize, length + ends[1] as usize];
        let [chosen, rejected] = places.map(|place| scores[2 * pair * length + place]);
        let (u, sum) = (chosen - rejected - margins[pair], chosen + rejected);
        let (apart, centre) = (one_pair * logistic(-u), one_pair * (centring + centring) * sum);
        (d_scores[places[0]], d_scores[places[1]]) = (centre - apart, centre + apart);
        let better = if chosen > rejected { F::one() } else { F::zero() };
        results.copy_from_slice(&[softplus(-u) + centring * sum * sum, better, chosen, rejected, F::one()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_rewards_cost_ln_2_and_are_driven_apart_by_equal_forces() {
        let p = Params { pairs: 1, length: 3, centring: 0.0 };
        let (mut state, mut result) = ([0; 8], [0.0; 8]);
        (state[STATE_INVERSE_PAIRS], result[RESULT_LOSS_SCALE]) = (0.25f32.to_bits(), 2.0);
        let (mut d_scores, mut results) = ([9.0f64; 6], [9.0; 5]);
        let scores = [7.0, 1.5, 7.0, 1.5, 7.0, 7.0];
        pair_loss(&p, (&scores, &[1, 0], &[0.0]), (&state, &result), &mut d_scores, &mut results);
        assert_eq!(d_scores, [0.0, -0.25, 0.0, 0.25, 0.0, 0.0]);
        assert!((results[0] - 2f64.ln()).abs() < 1e-15);
        assert_eq!(results[1..], [0.0, 1.5, 1.5, 1.0]);
    }
}
