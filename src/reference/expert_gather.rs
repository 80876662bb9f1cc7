//! `y[s] = x[slot_pair[s] / selected]`.

use super::{Real, par_rows};
use crate::kernels::expert_gather::Params;

/// Copies tokens into the order sorted by expert, once for each of their experts.
///
/// Shapes: x (tokens, width); slot_pair (pairs); y (pairs, width).
pub fn expert_gather<F: Real>(p: &Params, x: &[F], slot_pair: &[u32], y: &mut [F]) {
    let width = p.width as usize;
    par_rows(y, width, |slot, y| {
        let token = (slot_pair[slot] / p.selected) as usize;
        y.copy_from_slice(&x[token * width..(token + 1) * width]);
    });
}
