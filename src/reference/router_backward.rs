//! Gradient of [`router`](super::router::router)'s logits.

use super::{Real, par_rows};
use crate::kernels::router::SIGMOID;
use crate::kernels::router_backward::Params;

/// Differentiates the weights, adds the balance loss's gradient, and passes both through the scores.
///
/// With the chosen experts `S` of a token, the scores `s = probs * totals` and `D = sum_S s + epsilon`:
/// `ds_e = scale * dw_e`, or normalised `ds_e = scale / D * (dw_e - sum_S dw_j s_j / D)`; zero outside `S`, since the
/// selection is a constant. Through the softmax, whose totals are 1, `dl_e = p_e * (dp_e - sum_j p_j dp_j)` over all
/// experts, where `dp = ds + d_probs`. Through the sigmoid `dl_e = s_e * (1 - s_e) * ds_e`, where `ds_e` includes
/// `(d_probs_e - sum_j p_j d_probs_j) / totals`, since there `p = s / totals`. `d_probs` is read if `has_d_probs`.
/// Shapes: d_weights, chosen (rows, selected); d_probs, probs, d_logits (rows, experts); totals (rows).
pub fn router_backward<F: Real>(
    p: &Params,
    d_weights: &[F],
    d_probs: &[F],
    [probs, totals]: [&[F]; 2],
    chosen: &[u32],
    d_logits: &mut [F],
) {
    let (experts, selected) = (p.experts as usize, p.selected as usize);
    par_rows(d_logits, experts, |row, d| {
        let all = row * experts..(row + 1) * experts;
        let own = row * selected..(row + 1) * selected;
        let (probs, total, chosen, d_weights) =
            (&probs[all.clone()], totals[row], &chosen[own.clone()], &d_weights[own]);
        if p.has_d_probs != 0 {
            d.copy_from_slice(&d_probs[all]);
        } else {
            d.fill(F::zero());
        }
        // The row turns from d p into d logits, in place.
        if p.scoring == SIGMOID {
            let mean = dot(probs, d);
            d.iter_mut().for_each(|d| *d = (*d - mean) / total);
            add_scores(p, d_weights, |e| probs[e as usize] * total, chosen, d);
            for (d, &prob) in d.iter_mut().zip(probs) {
                let score = prob * total;
                *d *= score * (F::one() - score);
            }
        } else {
            add_scores(p, d_weights, |e| probs[e as usize], chosen, d);
            let mean = dot(probs, d);
            d.iter_mut().zip(probs).for_each(|(d, &prob)| *d = prob * (*d - mean));
        }
    });
}

/// Adds the gradient of the chosen experts' scores, which came by their weights, to `d`.
fn add_scores<F: Real>(p: &Params, d_weights: &[F], score: impl Fn(u32) -> F, chosen: &[u32], d: &mut [F]) {
    let (mut divisor, mut mean) = (F::one(), F::zero());
    if p.normalise != 0 {
        divisor = chosen.iter().map(|&e| score(e)).sum::<F>() + F::of(p.epsilon.into());
        mean = chosen.iter().zip(d_weights).map(|(&e, &dw)| dw * score(e)).sum::<F>() / divisor;
    }
    for (&e, &dw) in chosen.iter().zip(d_weights) {
        d[e as usize] += F::of(p.scale.into()) / divisor * (dw - mean);
    }
}

fn dot<F: Real>(a: &[F], b: &[F]) -> F {
    a.iter().zip(b).map(|(&a, &b)| a * b).sum()
}
