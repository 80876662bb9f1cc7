//! `d_o[s] = weights[q] * d_y[t]` and `d_weights[q] = d_y[t] . o[s]`.

use super::{Real, par_rows};
use crate::kernels::expert_combine_backward::Params;
use rayon::prelude::*;

/// Differentiates [`expert_combine`](super::expert_combine::expert_combine), whose residual gets `d_y` as it is.
///
/// For slot `s`, its pair `q = slot_pair[s]` and token `t = q / selected`: `d_o[s] = weights[q] * d_y[t]` and
/// `d_weights[q] = sum_i d_y[t, i] * o[s, i]`.
/// Shapes: d_y (tokens, width); o, d_o (tokens * selected, width); weights, d_weights (tokens, selected); slot_pair
/// (tokens * selected).
pub fn expert_combine_backward<F: Real>(
    p: &Params,
    d_y: &[F],
    o: &[F],
    weights: &[F],
    slot_pair: &[u32],
    d_o: &mut [F],
    d_weights: &mut [F],
) {
    let width = p.width as usize;
    let d_y_of = |slot: usize| {
        let token = (slot_pair[slot] / p.selected) as usize;
        &d_y[token * width..(token + 1) * width]
    };
    par_rows(d_o, width, |slot, d_o| {
        let weight = weights[slot_pair[slot] as usize];
        d_o.iter_mut().zip(d_y_of(slot)).for_each(|(d_o, &d)| *d_o = weight * d);
    });
    // Slots run in parallel; their places among the weights are scattered, so those are filled afterwards.
    let slots = (0..slot_pair.len()).into_par_iter().with_min_len((4096 / width).max(1));
    let dots: Vec<F> = slots.map(|slot| dot(d_y_of(slot), &o[slot * width..(slot + 1) * width])).collect();
    slot_pair.iter().zip(dots).for_each(|(&pair, dot)| d_weights[pair as usize] = dot);
}

/// Dot product in eight interleaved sums, which a vector unit runs side by side.
fn dot<F: Real>(a: &[F], b: &[F]) -> F {
    let mut sums = [F::zero(); 8];
    for (a, b) in a.chunks(8).zip(b.chunks(8)) {
        for (sum, (&a, &b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += a * b;
        }
    }
    sums.into_iter().sum()
}
