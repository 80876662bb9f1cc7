//! The parts of an attention over the latent cache put together, and their values.

use super::vector::dot;
use super::{Real, par_rows};
use crate::kernels::latent_value::Params;

/// With (m, l) the statistics of each part and M the largest m: `o = sum of exp(m - M) sums / sum of exp(m - M) l` over
/// the parts, and `out[n, h] = W_UV[h] o`. A row whose parts all lack keys has zeros.
///
/// `W_UV[h]` are rows `h (nope + value) + nope` to `+ value` of the weight. Shapes: sums (rows, heads, splits, latent);
/// statistics (rows, heads, splits, 2); weight (heads (nope + value), latent); out (rows, heads value).
/// Source: DeepSeek-V2, section 2.1.2.
pub fn latent_value<F: Real>(p: &Params, [sums, statistics]: [&[F]; 2], weight: &[F], out: &mut [F]) {
    let [nope, value, latent, splits] = [p.nope, p.value, p.latent, p.splits].map(|x| x as usize);
    par_rows(out, value, |i, out| {
        let head = i % p.heads as usize;
        let statistics = statistics[i * splits * 2..][..splits * 2].chunks_exact(2);
        let largest = statistics.clone().map(|s| s[0]).fold(F::of(-1e30), F::max);
        let (mut o, mut total) = (vec![F::zero(); latent], F::zero());
        for (s, sum) in statistics.zip(sums[i * splits * latent..].chunks_exact(latent)) {
            let weight = (s[0] - largest).exp();
            total += weight * s[1];
            o.iter_mut().zip(sum).for_each(|(o, &x)| *o += weight * x);
        }
        let inverse = if total > F::zero() { total.recip() } else { F::zero() };
        o.iter_mut().for_each(|o| *o *= inverse);
        let up = &weight[(head * (nope + value) + nope) * latent..][..value * latent];
        out.iter_mut().zip(up.chunks_exact(latent)).for_each(|(out, up)| *out = dot(up, &o));
    });
}
