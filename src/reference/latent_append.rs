//! New lines of the latent cache.

use super::Real;
use crate::kernels::latent_append::Params;
use crate::kernels::latent_attention::NO_SLOT;

/// `cache[slots[n], positions[n]] = c[n], k_rope[n]` for each row with a slot; other lines stay.
///
/// Shapes: c (rows, latent); k_rope (rows, rope), turned by its position; slots, positions (rows); cache (slots,
/// capacity, latent + rope). No two rows share a place.
/// Source: DeepSeek-V2, section 2.1.2: what generation keeps of a token.
pub fn latent_append<F: Real>(p: &Params, [c, k_rope]: [&[F]; 2], [slots, positions]: [&[u32]; 2], cache: &mut [F]) {
    let (latent, rope, width) = (p.latent as usize, p.rope as usize, p.width() as usize);
    for (n, (&slot, &position)) in slots.iter().zip(positions).enumerate() {
        if slot != NO_SLOT {
            let line = &mut cache[(slot as usize * p.capacity as usize + position as usize) * width..][..width];
            line[..latent].copy_from_slice(&c[n * latent..][..latent]);
            line[latent..].copy_from_slice(&k_rope[n * rope..][..rope]);
        }
    }
}
