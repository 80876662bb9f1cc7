//! What the backward passes of attention need of each row of probabilities.

use super::{Real, par_rows, vector};
use crate::kernels::attention_delta::Params;

/// Pairs each query's `lse` with `D = sum_c d_out[c] out[c]`, which equals the sum of probability times gradient of the
/// probability over the row, with dropout as without.
///
/// Shapes: `d_out`, out (batch * length, heads, value); lse (batch, heads, length); `row_stats` (batch, heads, length,
/// 2).
/// Source: Dao and others 2022, equation 4.
pub fn attention_delta<F: Real>(p: &Params, d_out: &[F], out: &[F], lse: &[F], row_stats: &mut [F]) {
    let (length, heads, value) = (p.length as usize, p.heads as usize, p.value as usize);
    par_rows(row_stats, 2 * length, |number, stats| {
        let (sequence, head) = (number / heads, number % heads);
        for (t, (stats, &lse)) in stats.chunks_exact_mut(2).zip(&lse[number * length..]).enumerate() {
            let row = ((sequence * length + t) * heads + head) * value;
            stats[0] = lse;
            stats[1] = vector::dot(&d_out[row..row + value], &out[row..row + value]);
        }
    });
}
