//! Gradient of [`router`](super::router::router)'s logits.

use super::{Real, par_rows};
use crate::kernels::router_backward::Params;

/// Differentiates the weights, adds the balance loss's gradient, and passes both through the softmax.
///
/// With the chosen experts `S` of a token and `D = sum_S p + epsilon`: `dp_e = scale * dw_e`, or normalised
/// `dp_e = scale / D * (dw_e - sum_S dw_j p_j / D)`; zero outside `S`, since the selection is a constant. Then
/// `dl_e = p_e * (dp_e - sum_j p_j dp_j)` over all experts, where `dp` includes `d_probs` if `has_d_probs`.
/// Shapes: d_weights, chosen (rows, selected); d_probs, probs, d_logits (rows, experts).
pub fn router_backward<F: Real>(
    p: &Params,
    d_weights: &[F],
    d_probs: &[F],
    probs: &[F],
    chosen: &[u32],
    d_logits: &mut [F],
) {
    let (experts, selected) = (p.experts as usize, p.selected as usize);
    let scale = F::of(p.scale.into());
    par_rows(d_logits, experts, |row, d_p| {
        let all = row * experts..(row + 1) * experts;
        let own = row * selected..(row + 1) * selected;
        let (probs, chosen, d_weights) = (&probs[all.clone()], &chosen[own.clone()], &d_weights[own]);
        if p.has_d_probs != 0 {
            d_p.copy_from_slice(&d_probs[all]);
        } else {
            d_p.fill(F::zero());
        }
        let (mut divisor, mut mean) = (F::one(), F::zero());
        if p.normalise != 0 {
            divisor = chosen.iter().map(|&e| probs[e as usize]).sum::<F>() + F::of(p.epsilon.into());
            mean = chosen.iter().zip(d_weights).map(|(&e, &dw)| dw * probs[e as usize]).sum::<F>() / divisor;
        }
        for (&e, &dw) in chosen.iter().zip(d_weights) {
            d_p[e as usize] += scale / divisor * (dw - mean);
        }
        // From here on the row turns from d p into d logits, in place.
        let mean = probs.iter().zip(&*d_p).map(|(&prob, &d)| prob * d).sum::<F>();
        for (d, &prob) in d_p.iter_mut().zip(probs) {
            *d = prob * (*d - mean);
        }
    });
}
