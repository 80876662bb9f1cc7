//! The experts' scores, the experts with the largest, and their weights.

use super::Real;
use crate::kernels::router::{Params, SIGMOID};
use rayon::prelude::*;

/// Added to the sum of sigmoids: a token whose scores all vanish is divided by it, and no other notices.
const SMALLEST_TOTAL: f64 = 1e-20;

/// Selects experts for every token.
///
/// Scores are `s[t, e] = softmax(logits[t])[e]` over all experts, or with [`SIGMOID`] `sigmoid(logits[t, e])`.
/// `totals[t] = sum_e s[t, e]` (and 1e-20 with sigmoid), which is 1 for softmax, and `probs = s / totals`.
/// `chosen[t, ..]` are the `selected` experts with the largest scores, `biased` with the largest `s + bias`, in
/// descending order, lower number first on ties; with `groups > 1` only experts of the `groups_kept` groups with the
/// largest maximum, `biased` with the largest sum of their two best.
/// `weights[t, j] = scale * s_j / (normalise ? sum_i s_i + epsilon : 1)` over the chosen; the bias is no part of them.
/// Shapes: logits, probs (rows, experts); bias (experts), not read unless `biased`; totals (rows); chosen, weights
/// (rows, selected).
///
/// Logits are compared in place of unbiased scores: both functions are monotone, and rounding makes no ties. Choices
/// are distinct and below `experts` even where logits are NaN.
/// Source: DeepSeek-V2, sections 2.1.2 and 2.1.3, and DeepSeek-V3, section 2.1.2; the order of ties is this project's.
pub fn router<F: Real>(
    p: &Params,
    [logits, bias]: [&[F]; 2],
    [probs, totals]: [&mut [F]; 2],
    chosen: &mut [u32],
    weights: &mut [F],
) {
    let (experts, selected) = (p.experts as usize, p.selected as usize);
    let outputs = probs.par_chunks_mut(experts).zip(totals).zip(chosen.par_chunks_mut(selected));
    let outputs = outputs.zip(weights.par_chunks_mut(selected)).with_min_len((4096 / experts).max(1));
    let rows = outputs.zip(logits.par_chunks(experts));
    rows.for_each_init(Vec::new, |biased, ((((probs, total), chosen), weights), logits)| {
        // Scores first; what they are divided by comes last.
        *total = if p.scoring == SIGMOID { sigmoid(logits, probs) } else { softmax(logits, probs) };
        if p.biased != 0 {
            biased.clear();
            biased.extend(probs.iter().zip(bias).map(|(&score, &bias)| score + bias));
            select(p, biased, chosen);
        } else {
            select(p, logits, chosen);
        }
        for (weight, &e) in weights.iter_mut().zip(&*chosen) {
            *weight = F::of(p.scale.into()) * probs[e as usize];
        }
        if p.normalise != 0 {
            let divisor = chosen.iter().map(|&e| probs[e as usize]).sum::<F>() + F::of(p.epsilon.into());
            weights.iter_mut().for_each(|weight| *weight /= divisor);
        }
        if p.scoring == SIGMOID {
            probs.iter_mut().for_each(|prob| *prob /= *total);
        }
    });
}

/// Fills `scores`; returns their sum, which is 1.
fn softmax<F: Real>(logits: &[F], scores: &mut [F]) -> F {
    let largest = logits.iter().fold(F::neg_infinity(), |m, &x| m.max(x));
    for (score, &logit) in scores.iter_mut().zip(logits) {
        *score = (logit - largest).exp();
    }
    let total = scores.iter().copied().sum::<F>();
    scores.iter_mut().for_each(|score| *score /= total);
    F::one()
}

/// Fills `scores`; returns their sum.
fn sigmoid<F: Real>(logits: &[F], scores: &mut [F]) -> F {
    for (score, &logit) in scores.iter_mut().zip(logits) {
        *score = F::one() / (F::one() + (-logit).exp());
    }
    scores.iter().copied().sum::<F>() + F::of(SMALLEST_TOTAL)
}

/// Fills `chosen` by insertion into a list sorted by descending key.
fn select<F: Real>(p: &Params, keys: &[F], chosen: &mut [u32]) {
    let group_size = (p.experts / p.groups) as usize;
    let mut length = 0;
    for (g, group) in keys.chunks(group_size).enumerate() {
        if p.groups > 1 && !is_kept(p, keys, g) {
            continue;
        }
        for (i, &key) in group.iter().enumerate() {
            let e = g * group_size + i;
            let place = chosen[..length].iter().position(|&other| key > keys[other as usize]).unwrap_or(length);
            if place < chosen.len() {
                length = (length + 1).min(chosen.len());
                chosen[place..length].rotate_right(1);
                chosen[place] = e as u32;
            }
        }
    }
}

/// Whether fewer than `groups_kept` groups have a larger score, or the same one and a lower number.
fn is_kept<F: Real>(p: &Params, keys: &[F], own: usize) -> bool {
    let group_size = (p.experts / p.groups) as usize;
    let score_of = |group: &[F]| {
        let [first, second] = two_largest(group);
        if p.biased != 0 { first + second } else { first }
    };
    let score = score_of(&keys[own * group_size..(own + 1) * group_size]);
    let ahead = |(g, group): &(usize, &[F])| score_of(group) > score || (score_of(group) == score && *g < own);
    keys.chunks(group_size).enumerate().filter(ahead).count() < p.groups_kept as usize
}

fn two_largest<F: Real>(keys: &[F]) -> [F; 2] {
    keys.iter().fold(
        [F::neg_infinity(); 2],
        |[first, second], &key| {
            if key > first { [key, first] } else { [first, second.max(key)] }
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::router::SOFTMAX;

    #[test]
    fn choices_are_distinct_experts_even_where_every_logit_is_nan() {
        let params = |groups, groups_kept, scoring, biased| Params {
            rows: 1,
            experts: 8,
            selected: 4,
            groups,
            groups_kept,
            normalise: 1,
            epsilon: 0.0,
            scale: 1.0,
            scoring,
            biased,
        };
        let kinds = [(SOFTMAX, 0), (SIGMOID, 0), (SIGMOID, 1)];
        let all = |(scoring, biased)| [params(1, 1, scoring, biased), params(4, 2, scoring, biased)];
        for p in kinds.into_iter().flat_map(all) {
            for logits in [[f32::NAN; 8], [0.0, f32::NAN, 1.0, 2.0, -1.0, f32::NAN, 3.0, 0.0]] {
                let (mut probs, mut totals, mut chosen, mut weights) = ([0.0; 8], [0.0], [99; 4], [0.0; 4]);
                router(&p, [&logits, &[0.5; 8]], [&mut probs, &mut totals], &mut chosen, &mut weights);
                chosen.sort_unstable();
                assert!(chosen.windows(2).all(|pair| pair[0] < pair[1]) && chosen[3] < 8, "{chosen:?}");
            }
        }
    }
}
