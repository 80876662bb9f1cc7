//! Rotary position embedding on adjacent pairs of columns.

use super::{Real, par_rows};
use crate::kernels::rope::Params;

/// Rotates the columns `offset..offset + rotated` of every head and copies the others.
///
/// With `(cos, sin) = table[positions[r], i]` and sin times `direction`, for pair i:
/// `y[2i] = x[2i] cos - x[2i+1] sin`, `y[2i+1] = x[2i+1] cos + x[2i] sin`.
/// Shapes: x, y (rows, heads, width); positions (rows); table (longest, rotated / 2, 2).
/// Source: Su and others 2021, in the interleaved layout of DeepSeek-V2 checkpoints.
pub fn rope<F: Real>(p: &Params, x: &[F], positions: &[u32], table: &[F], y: &mut [F]) {
    let (heads, width, rotated) = (p.heads as usize, p.width as usize, p.rotated as usize);
    let columns = p.offset as usize..p.offset as usize + rotated;
    let direction = F::of(f64::from(p.direction));
    par_rows(y, heads * width, |r, y| {
        y.copy_from_slice(&x[r * heads * width..(r + 1) * heads * width]);
        let turns = &table[positions[r] as usize * rotated..][..rotated];
        for head in y.chunks_exact_mut(width) {
            for (pair, turn) in head[columns.clone()].chunks_exact_mut(2).zip(turns.chunks_exact(2)) {
                let (cos, sin) = (turn[0], turn[1] * direction);
                let (even, odd) = (pair[0], pair[1]);
                pair[0] = even * cos - odd * sin;
                pair[1] = odd * cos + even * sin;
            }
        }
    });
}
