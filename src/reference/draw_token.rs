//! The next token of each row, drawn from its logits.

use super::Real;
use super::random::random_u32;
use crate::kernels::draw_token::{KEY, MIN_P, NO_TOKEN, Params, REPETITION, TEMPERATURE, TOP_K, TOP_P, WORDS};
use crate::kernels::latent_attention::NO_SLOT;
use rayon::prelude::*;

/// For each row with a slot, whose tokens so far are `history[slot, ..= position]`: the token, from 0 to `known`, that
/// [`draw`] draws goes to `tokens[row]` and, if there is room, to `history[slot, position + 1]`; the position grows.
///
/// First the logits of tokens in the history are penalised in place, once each: a positive one is divided by the
/// repetition penalty, another multiplied with it (Keskar and others, 2019). The random number is a function of the
/// row's key and position alone. Of logits that are not all finite nothing is drawn: the token is [`NO_TOKEN`].
/// Shapes: logits (rows, classes); settings (rows, [`WORDS`]); slots, positions, tokens (rows); history (slots,
/// capacity).
pub fn draw_token<F: Real>(
    p: &Params,
    logits: &mut [F],
    [settings, slots]: [&[u32]; 2],
    [history, positions, tokens]: [&mut [u32]; 3],
) {
    let capacity = p.capacity as usize;
    let rows = logits.par_chunks_mut(p.classes as usize).zip(settings.par_chunks(WORDS));
    let rows = rows.zip(slots).zip(positions.par_iter());
    let drawn: Vec<Option<u32>> = rows
        .map(|(((logits, settings), &slot), &position)| {
            (slot != NO_SLOT).then(|| {
                let position = position as usize;
                penalise(&mut logits[..p.known as usize], &history[slot as usize * capacity..][..=position], settings);
                if logits[..p.known as usize].iter().any(|z| !z.is_finite()) {
                    return NO_TOKEN;
                }
                let u = f64::from(random_u32(settings[KEY], settings[KEY + 1], position as u32, 0) >> 8);
                draw(&logits[..p.known as usize], settings, F::of(u / f64::from(1 << 24)))
            })
        })
        .collect();
    for (row, token) in drawn.into_iter().enumerate() {
        let Some(token) = token else { continue };
        let next = positions[row] as usize + 1;
        tokens[row] = token;
        if next < capacity {
            history[slots[row] as usize * capacity + next] = token;
        }
        positions[row] = next as u32;
    }
}

fn penalise<F: Real>(logits: &mut [F], history: &[u32], settings: &[u32]) {
    let penalty = f32::from_bits(settings[REPETITION]);
    if penalty == 1.0 {
        return;
    }
    let mut seen: Vec<u32> = history.iter().copied().filter(|&token| (token as usize) < logits.len()).collect();
    seen.sort_unstable();
    seen.dedup();
    for token in seen {
        let z = &mut logits[token as usize];
        let penalised = if *z > F::zero() { *z / F::of(penalty.into()) } else { *z * F::of(penalty.into()) };
        // A penalty makes no finite logit infinite, and hides none that is.
        let largest = F::of(f32::MAX.into());
        *z = if z.is_finite() { penalised.max(-largest).min(largest) } else { penalised };
    }
}

/// One token by the settings of its row: temperature, top-k, top-p of what that leaves, min-p; then the first token in
/// order of id at which the cumulative weight passes `u` of the whole. At temperature 0 the largest logit. Of equals
/// the lower id is kept. A weight is `exp((z - largest) / temperature)`.
pub fn draw<F: Real>(logits: &[F], settings: &[u32], u: F) -> u32 {
    let number = |word: usize| F::of(f32::from_bits(settings[word]).into());
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|&a, &b| logits[b].partial_cmp(&logits[a]).unwrap_or(std::cmp::Ordering::Equal).then(a.cmp(&b)));
    let largest = logits[order[0]];
    if number(TEMPERATURE) == F::zero() {
        return order[0] as u32;
    }
    if settings[TOP_K] > 0 {
        order.truncate(settings[TOP_K] as usize);
    }
    let inverse = number(TEMPERATURE).recip();
    let weight = |i: usize| ((logits[i] - largest) * inverse).exp();
    let bound = order.iter().map(|&i| weight(i)).sum::<F>() * number(TOP_P);
    let (mut before, mut kept) = (F::zero(), Vec::new());
    for &i in &order {
        if number(TOP_P) < F::one() && !kept.is_empty() && before >= bound {
            break;
        }
        kept.push(i);
        before += weight(i);
    }
    kept.retain(|&i| weight(i) >= number(MIN_P));
    kept.sort_unstable();
    let bound = kept.iter().map(|&i| weight(i)).sum::<F>() * u;
    let mut cumulative = F::zero();
    for &i in &kept {
        cumulative += weight(i);
        if cumulative > bound {
            return i as u32;
        }
    }
    kept.last().map_or(order[0], |&i| i) as u32
}
