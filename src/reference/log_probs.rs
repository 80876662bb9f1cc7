//! Log-probability of a row's target, `z[target] - logsumexp(z)`, and entropy of the row.

use super::{Real, cross_entropy::largest, sum::pairwise};
use crate::kernels::log_probs::Params;
use rayon::prelude::*;

/// Log-probabilities and entropies, in nats, of the rows of `logits`.
///
/// With m the largest logit, u = z - m and s = sum_k exp(u_k): log_prob = u_y - ln(s); entropy = -sum_k p_k ln(p_k) =
/// ln(s) - sum_k u_k exp(u_k) / s. A target from `classes` on is not counted: 0 in both.
///
/// Shapes: logits (rows, classes); targets, log_probs, entropies (tokens), of which the rows are those from `first_row`
/// on.
pub fn log_probs<F: Real>(p: &Params, logits: &[F], targets: &[u32], log_probs: &mut [F], entropies: &mut [F]) {
    let (rows, classes) = (p.rows as usize, p.classes as usize);
    let tokens = p.first_row as usize..p.first_row as usize + rows;
    let outputs = log_probs[tokens.clone()].par_iter_mut().zip(&mut entropies[tokens.clone()]);
    let rows = logits[..rows * classes].par_chunks(classes).zip(&targets[tokens]);
    rows.zip(outputs).for_each(|((z, &target), (log_prob, entropy))| {
        let target = target as usize;
        (*log_prob, *entropy) = (F::zero(), F::zero());
        if target < classes {
            let max = largest(z);
            let sum = pairwise(z, |v| (v - max).exp());
            let weighted = pairwise(z, |v| (v - max) * (v - max).exp());
            *log_prob = (z[target] - max) - sum.ln();
            *entropy = sum.ln() - weighted / sum;
        }
    });
}
