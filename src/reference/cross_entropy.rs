//! Row loss `logsumexp(z) - z[target]`, and its gradient.

use super::{Real, sum::pairwise};
use crate::kernels::cross_entropy::Params;
use crate::kernels::state::RESULT_LOSS_SCALE;
use rayon::prelude::*;

/// Losses and hits of the rows of `logits`; with `gradient` 1 the logits become the gradient.
///
/// With m the largest logit and s = sum_k exp(z_k - m): loss = log(s) + (m - z_y), in this order since logits may be
/// large; correct = 1 if y is the lowest class of the largest logit, else 0; with p = exp(z - m) / s gradient =
/// ((p - onehot(y)) * loss_weight + entropy_bonus * factor * p * (ln(p) + entropy)) * loss scale, whose second term is
/// that of -entropy_bonus * factor * entropy, for entropy = -sum_k p_k ln(p_k) as `log_probs` made it. A target from
/// `classes` on is not counted: 0 in all three.
///
/// Shapes: logits (rows, classes); result (8); targets, loss_weights, entropies, factors, losses, correct (tokens), of
/// which the rows are those from `first_row` on.
pub fn cross_entropy<F: Real>(
    p: &Params,
    logits: &mut [F],
    targets: &[u32],
    [loss_weights, result, entropies, factors]: [&[F]; 4],
    losses: &mut [F],
    correct: &mut [F],
) {
    let (rows, classes, scale) = (p.rows as usize, p.classes as usize, result[RESULT_LOSS_SCALE]);
    let tokens = p.first_row as usize..p.first_row as usize + rows;
    let inputs = targets[tokens.clone()].par_iter().zip(tokens.clone());
    let outputs = losses[tokens.clone()].par_iter_mut().zip(&mut correct[tokens]);
    let rows = logits[..rows * classes].par_chunks_mut(classes);
    rows.zip(inputs).zip(outputs).for_each(|((z, (&target, token)), (loss, correct))| {
        let (target, weight) = (target as usize, loss_weights[token]);
        (*loss, *correct) = (F::zero(), F::zero());
        if target < classes {
            let max = largest(z);
            *loss = max - z[target];
            *correct = if z.iter().position(|&v| v == max) == Some(target) { F::one() } else { F::zero() };
            if p.gradient == 0 {
                *loss += pairwise(z, |v| (v - max).exp()).ln();
            } else {
                z.iter_mut().for_each(|v| *v = (*v - max).exp());
                let sum = pairwise(z, |v| v);
                *loss += sum.ln();
                z.iter_mut().for_each(|v| *v /= sum);
                if p.entropy_bonus != 0.0 {
                    let bonus = F::of(p.entropy_bonus.into()) * factors[token];
                    let pull = |p: F| if p > F::zero() { p * (p.ln() + entropies[token]) } else { F::zero() };
                    z.iter_mut().for_each(|v| *v = (*v * weight + bonus * pull(*v)) * scale);
                    z[target] -= weight * scale;
                } else {
                    z[target] -= F::one();
                    z.iter_mut().for_each(|v| *v *= weight * scale);
                }
            }
        } else if p.gradient != 0 {
            z.fill(F::zero());
        }
    });
}

/// The largest of `z`: eight maxima side by side, which vectorise where one would not.
pub(super) fn largest<F: Real>(z: &[F]) -> F {
    let larger = |a: F, b: F| if b > a { b } else { a };
    let mut lanes = [F::neg_infinity(); 8];
    let groups = z.chunks_exact(lanes.len());
    let rest = groups.remainder().iter().fold(F::neg_infinity(), |m, &v| larger(m, v));
    for group in groups {
        for (m, &v) in lanes.iter_mut().zip(group) {
            *m = larger(*m, v);
        }
    }
    lanes.into_iter().fold(rest, larger)
}
