//! `p = softmax(logits)`, the experts with the largest logits, and their weights.

use super::Real;
use crate::kernels::router::Params;
use rayon::prelude::*;

/// Selects experts for every token.
///
/// `probs[t, e] = softmax(logits[t])[e]` over all experts. `chosen[t, ..]` are the `selected` experts with the largest
/// logits in descending order, lower number first on ties; with `groups > 1` only experts of the `groups_kept` groups
/// with the largest maximum. `weights[t, j] = scale * p_j / (normalise ? sum_i p_i + epsilon : 1)` over the chosen.
/// Shapes: logits, probs (rows, experts); chosen, weights (rows, selected).
///
/// Logits are compared in place of probabilities: softmax is monotone, and rounding makes no ties. Choices are distinct
/// and below `experts` even where logits are NaN.
/// Source: DeepSeek-V2, sections 2.1.2 and 2.1.3; the order of ties is this project's.
pub fn router<F: Real>(p: &Params, logits: &[F], probs: &mut [F], chosen: &mut [u32], weights: &mut [F]) {
    let (experts, selected) = (p.experts as usize, p.selected as usize);
    let outputs = probs.par_chunks_mut(experts).zip(chosen.par_chunks_mut(selected));
    let outputs = outputs.zip(weights.par_chunks_mut(selected)).with_min_len((4096 / experts).max(1));
    outputs.zip(logits.par_chunks(experts)).for_each(|(((probs, chosen), weights), logits)| {
        select(p, logits, chosen);
        softmax(logits, probs);
        for (weight, &e) in weights.iter_mut().zip(&*chosen) {
            *weight = F::of(p.scale.into()) * probs[e as usize];
        }
        if p.normalise != 0 {
            let divisor = chosen.iter().map(|&e| probs[e as usize]).sum::<F>() + F::of(p.epsilon.into());
            weights.iter_mut().for_each(|weight| *weight /= divisor);
        }
    });
}

fn softmax<F: Real>(logits: &[F], probs: &mut [F]) {
    let largest = logits.iter().fold(F::neg_infinity(), |m, &x| m.max(x));
    for (prob, &logit) in probs.iter_mut().zip(logits) {
        *prob = (logit - largest).exp();
    }
    let total = probs.iter().copied().sum::<F>();
    probs.iter_mut().for_each(|prob| *prob /= total);
}

/// Fills `chosen` by insertion into a list sorted by descending logit.
fn select<F: Real>(p: &Params, logits: &[F], chosen: &mut [u32]) {
    let group_size = (p.experts / p.groups) as usize;
    let mut length = 0;
    for (g, group) in logits.chunks(group_size).enumerate() {
        if p.groups > 1 && !is_kept(p, logits, g) {
            continue;
        }
        for (i, &logit) in group.iter().enumerate() {
            let e = g * group_size + i;
            let place = chosen[..length].iter().position(|&other| logit > logits[other as usize]).unwrap_or(length);
            if place < chosen.len() {
                length = (length + 1).min(chosen.len());
                chosen[place..length].rotate_right(1);
                chosen[place] = e as u32;
            }
        }
    }
}

/// Whether fewer than `groups_kept` groups have a larger maximum, or the same one and a lower number.
fn is_kept<F: Real>(p: &Params, logits: &[F], own: usize) -> bool {
    let maximum = |group: &[F]| group.iter().fold(F::neg_infinity(), |m, &x| m.max(x));
    let group_size = (p.experts / p.groups) as usize;
    let score = maximum(&logits[own * group_size..(own + 1) * group_size]);
    let ahead = |(g, group): &(usize, &[F])| maximum(group) > score || (maximum(group) == score && *g < own);
    logits.chunks(group_size).enumerate().filter(ahead).count() < p.groups_kept as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_distinct_experts_even_where_every_logit_is_nan() {
        let groups = |groups, groups_kept| Params {
            rows: 1,
            experts: 8,
            selected: 4,
            groups,
            groups_kept,
            normalise: 1,
            epsilon: 0.0,
            scale: 1.0,
        };
        for p in [groups(1, 1), groups(4, 2)] {
            for logits in [[f32::NAN; 8], [0.0, f32::NAN, 1.0, 2.0, -1.0, f32::NAN, 3.0, 0.0]] {
                let (mut probs, mut chosen, mut weights) = ([0.0; 8], [99; 4], [0.0; 4]);
                router(&p, &logits, &mut probs, &mut chosen, &mut weights);
                chosen.sort_unstable();
                assert!(chosen.windows(2).all(|pair| pair[0] < pair[1]) && chosen[3] < 8, "{chosen:?}");
            }
        }
    }
}
