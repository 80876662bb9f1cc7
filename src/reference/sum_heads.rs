//! Sum over heads of some of their columns: the gradient of a vector that all heads share.

use super::{Real, par_rows};
use crate::kernels::sum_heads::Params;

/// `y[r, i] = sum_h source[r, h, offset + i]`, heads in ascending order.
///
/// Shapes: source (rows, heads, stride); y (rows, width).
pub fn sum_heads<F: Real>(p: &Params, source: &[F], y: &mut [F]) {
    let (heads, width, stride, offset) = (p.heads as usize, p.width as usize, p.stride as usize, p.offset as usize);
    par_rows(y, width, |r, y| {
        y.fill(F::zero());
        for head in source[r * heads * stride..(r + 1) * heads * stride].chunks_exact(stride) {
            for (y, &x) in y.iter_mut().zip(&head[offset..offset + width]) {
                *y += x;
            }
        }
    });
}
