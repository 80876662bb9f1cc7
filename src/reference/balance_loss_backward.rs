//! `d_probs[t, e] = slope[sequence of t, e]`, 0 for padding.

use super::{Real, par_rows};
use crate::kernels::balance_loss_backward::Params;

/// Differentiates [`balance_loss`](super::balance_loss::balance_loss), which is linear in the probabilities: the choice
/// counts carry no gradient.
///
/// Shapes: slope (sequences, experts); real (sequences, length), 0 for padding; d_probs (sequences, length, experts).
pub fn balance_loss_backward<F: Real>(p: &Params, slope: &[F], real: &[u32], d_probs: &mut [F]) {
    let (length, experts) = (p.length as usize, p.experts as usize);
    par_rows(d_probs, experts, |t, d_probs| {
        if real[t] == 0 {
            d_probs.fill(F::zero());
        } else {
            let b = t / length;
            d_probs.copy_from_slice(&slope[b * experts..(b + 1) * experts]);
        }
    });
}
