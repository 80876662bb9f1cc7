//! `y[t] = residual[t] + sum_j weights[t, j] * o[pair_slot[t * selected + j]]`.

use super::{Real, par_rows};
use crate::kernels::expert_combine::Params;

/// Adds the weighted outputs of a token's experts to its residual, in the order of the experts.
///
/// Shapes: residual, y (tokens, width); o (tokens * selected, width), sorted by expert; weights, pair_slot (tokens,
/// selected).
/// Source: DeepSeek-V2, equation 20, with the shared experts in the residual.
pub fn expert_combine<F: Real>(p: &Params, residual: &[F], o: &[F], weights: &[F], pair_slot: &[u32], y: &mut [F]) {
    let (width, selected) = (p.width as usize, p.selected as usize);
    par_rows(y, width, |token, y| {
        y.copy_from_slice(&residual[token * width..(token + 1) * width]);
        let pairs = token * selected..(token + 1) * selected;
        for (&weight, &slot) in weights[pairs.clone()].iter().zip(&pair_slot[pairs]) {
            let o = &o[slot as usize * width..(slot as usize + 1) * width];
            y.iter_mut().zip(o).for_each(|(sum, &o)| *sum += weight * o);
        }
    });
}
