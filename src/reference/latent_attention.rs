//! Attention of new tokens over the latent cache, in parts of the keys.

use super::vector::dot;
use super::{Real, par_rows};
use crate::kernels::latent_attention::{KEYS, NO_SLOT, Params};
use rayon::prelude::*;

/// Of the keys of each row, positions 0 to `positions[n]` of its slot, part `s` has the tiles `t` of [`KEYS`] keys with
/// `t % splits = s`. With `score = scale q . line`:
/// `statistics[n, h, s] = m, sum over its keys of exp(score - m)`, where m is their largest score;
/// `sums[n, h, s] = sum over its keys of exp(score - m) line[..latent]`. A part without keys has m = -1e30 and zeros.
/// Shapes: q (rows, heads, latent + rope); cache (slots, capacity, latent + rope); slots, positions (rows); sums (rows,
/// heads, splits, latent); statistics (rows, heads, splits, 2).
/// Source: DeepSeek-V2, section 2.1.2; parts as in Flash-Decoding (Dao and others, 2023).
pub fn latent_attention<F: Real>(
    p: &Params,
    q: &[F],
    cache: &[F],
    [slots, positions]: [&[u32]; 2],
    [sums, statistics]: [&mut [F]; 2],
) {
    let (latent, width, splits) = (p.latent as usize, p.width() as usize, p.splits as usize);
    let (heads, tile, scale) = (p.heads as usize, KEYS as usize, F::of(p.scale.into()));
    let lines = |n: usize| match slots[n] {
        NO_SLOT => &[][..],
        slot => &cache[slot as usize * p.capacity as usize * width..][..(positions[n] as usize + 1) * width],
    };
    // The scores of all parts first: their largest are the statistics.
    let mut scores = vec![F::zero(); slots.len() * heads * p.capacity as usize];
    par_rows(&mut scores, p.capacity as usize, |i, scores| {
        let q = &q[i * width..][..width];
        scores.iter_mut().zip(lines(i / heads).chunks_exact(width)).for_each(|(s, line)| *s = scale * dot(q, line));
    });
    let outputs = sums.par_chunks_mut(splits * latent).zip(statistics.par_chunks_mut(splits * 2)).enumerate();
    outputs.for_each(|(i, (sums, statistics))| {
        let lines = lines(i / heads);
        let scores = &scores[i * p.capacity as usize..][..lines.len() / width];
        let parts = sums.chunks_exact_mut(latent).zip(statistics.chunks_exact_mut(2)).enumerate();
        for (part, (sum, statistics)) in parts {
            let of_part = || (part * tile..lines.len() / width).step_by(splits * tile);
            let keys = || of_part().flat_map(|first| first..(first + tile).min(lines.len() / width));
            let largest = keys().map(|k| scores[k]).fold(F::of(-1e30), F::max);
            sum.fill(F::zero());
            let mut total = F::zero();
            for k in keys() {
                let weight = (scores[k] - largest).exp();
                total += weight;
                let line = &lines[k * width..][..latent];
                sum.iter_mut().zip(line).for_each(|(s, &x)| *s += weight * x);
            }
            statistics.copy_from_slice(&[largest, total]);
        }
    });
}
