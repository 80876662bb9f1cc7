//! Row loss `logsumexp(z) - z[target]`, and its gradient.

use super::{Real, sum::pairwise};
use crate::kernels::cross_entropy::Params;
use crate::kernels::state::RESULT_LOSS_SCALE;
use rayon::prelude::*;

/// Losses and hits of the rows of `logits`; with `gradient` 1 the logits become the gradient.
///
/// With m the largest logit and s = sum_k exp(z_k - m): loss = log(s) + (m - z_y), in this order since logits may be
/// large; correct = 1 if y is the lowest class of the largest logit, else 0; gradient = (exp(z - m) / s - onehot(y)) *
/// loss_weight * loss scale. A target from `classes` on is not counted: 0 in all three.
///
/// Shapes: logits (rows, classes); result (8); targets, loss_weights, losses, correct (tokens), of which the rows are
/// those from `first_row` on.
pub fn cross_entropy<F: Real>(
    p: &Params,
    logits: &mut [F],
    targets: &[u32],
    (loss_weights, result): (&[F], &[F]),
    losses: &mut [F],
    correct: &mut [F],
) {
    let (rows, classes, scale) = (p.rows as usize, p.classes as usize, result[RESULT_LOSS_SCALE]);
    let tokens = p.first_row as usize..p.first_row as usize + rows;
    let inputs = targets[tokens.clone()].par_iter().zip(&loss_weights[tokens.clone()]);
    let outputs = losses[tokens.clone()].par_iter_mut().zip(&mut correct[tokens]);
    let rows = logits[..rows * classes].par_chunks_mut(classes);
    rows.zip(inputs).zip(outputs).for_each(|((z, (&target, &weight)), (loss, correct))| {
        let target = target as usize;
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
                z[target] -= F::one();
                z.iter_mut().for_each(|v| *v *= weight * scale);
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
