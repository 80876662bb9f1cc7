//! `d_x[t] = sum_j d_y[pair_slot[t * selected + j]]`.

use super::{Real, par_rows};
use crate::kernels::expert_gather_backward::Params;

/// Differentiates [`expert_gather`](super::expert_gather::expert_gather): adds up the gradients of a token's copies, in
/// the order of its experts.
///
/// Shapes: d_y (tokens * selected, width); pair_slot (tokens, selected); d_x (tokens, width).
pub fn expert_gather_backward<F: Real>(p: &Params, d_y: &[F], pair_slot: &[u32], d_x: &mut [F]) {
    let (width, selected) = (p.width as usize, p.selected as usize);
    par_rows(d_x, width, |token, d_x| {
        d_x.fill(F::zero());
        for &slot in &pair_slot[token * selected..(token + 1) * selected] {
            let d_y = &d_y[slot as usize * width..(slot as usize + 1) * width];
            d_x.iter_mut().zip(d_y).for_each(|(sum, &d)| *sum += d);
        }
    });
}
