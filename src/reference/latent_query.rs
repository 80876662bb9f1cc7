//! Queries that take the keys' up-projection in.

use super::latent_append::turn;
use super::{Real, par_rows};
use crate::kernels::latent_query::Params;

/// `y[n, h] = W_UK[h]^T q_nope[n, h], turn(q_rope[n, h])`, so that `y . (c, k_rope) = q . (W_UK c, k_rope)`.
///
/// `W_UK[h]` are rows `h (nope + value)` to `+ nope` of the weight. Shapes: q (rows, heads, nope + rope); weight (heads
/// (nope + value), latent); table (capacity, rope / 2, 2); positions (rows); y (rows, heads, latent + rope).
/// Source: DeepSeek-V2, section 2.1.2 ("absorbed").
pub fn latent_query<F: Real>(p: &Params, [q, weight, table]: [&[F]; 3], positions: &[u32], y: &mut [F]) {
    let [nope, rope, value, latent] = [p.nope, p.rope, p.value, p.latent].map(|x| x as usize);
    par_rows(y, latent + rope, |i, y| {
        let (q, head) = (&q[i * (nope + rope)..][..nope + rope], i % p.heads as usize);
        let (absorbed, turned) = y.split_at_mut(latent);
        absorbed.fill(F::zero());
        let up = &weight[head * (nope + value) * latent..][..nope * latent];
        for (&q, up) in q.iter().zip(up.chunks_exact(latent)) {
            absorbed.iter_mut().zip(up).for_each(|(y, &w)| *y += q * w);
        }
        let position = positions[i / p.heads as usize] as usize;
        turn(&q[nope..], &table[position * rope..][..rope], turned);
    });
}
