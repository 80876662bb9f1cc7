//! New lines of the latent cache.

use super::Real;
use crate::kernels::latent_append::Params;
use crate::kernels::latent_attention::NO_SLOT;

/// For each row with a slot, with `down[n] = c, k`: `cache[slots[n], positions[n]] = norm c / rms(c), turn(k)`; other
/// lines stay.
///
/// `rms(c) = sqrt(mean(c^2) + epsilon)`; pairs of k turn as in [`rope`](super::rope). Shapes: down (rows, latent +
/// rope); norm (latent); table (capacity, rope / 2, 2); slots, positions (rows); cache (slots, capacity, latent +
/// rope). No two rows share a place.
/// Source: DeepSeek-V2, section 2.1.2: what generation keeps of a token.
pub fn latent_append<F: Real>(
    p: &Params,
    [down, norm, table]: [&[F]; 3],
    [slots, positions]: [&[u32]; 2],
    cache: &mut [F],
) {
    let (latent, rope, width) = (p.latent as usize, p.rope as usize, p.width() as usize);
    for ((down, &slot), &position) in down.chunks_exact(width).zip(slots).zip(positions) {
        if slot == NO_SLOT {
            continue;
        }
        let line = &mut cache[(slot as usize * p.capacity as usize + position as usize) * width..][..width];
        let (c, k) = down.split_at(latent);
        let mean_square = c.iter().map(|&x| x * x).sum::<F>() / F::of(latent as f64);
        let inverse = (mean_square + F::of(p.epsilon.into())).sqrt().recip();
        line.iter_mut().zip(c).zip(norm).for_each(|((line, &c), &norm)| *line = norm * c * inverse);
        turn(k, &table[position as usize * rope..][..rope], &mut line[latent..]);
    }
}

/// `y[2i] = x[2i] cos - x[2i+1] sin`, `y[2i+1] = x[2i+1] cos + x[2i] sin` with cosines and sines in turns.
pub(super) fn turn<F: Real>(x: &[F], turns: &[F], y: &mut [F]) {
    for ((y, x), turn) in y.chunks_exact_mut(2).zip(x.chunks_exact(2)).zip(turns.chunks_exact(2)) {
        y[0] = x[0] * turn[0] - x[1] * turn[1];
        y[1] = x[1] * turn[0] + x[0] * turn[1];
    }
}
