//! The sum of a product's slices.

use super::{Real, par_rows};
use crate::kernels::matmul::{ADD, ADD_TO_RESIDUAL};
use crate::kernels::sum_slices::Params;

/// `C[r, i] = sum_s parts[s, r, i]`, s in ascending order.
///
/// Shapes: parts (slices, rows, columns); residual and c (rows, stride), from element `offset` on. Accumulate 0:
/// `c = C`; 1: `c += C`; 2: `c = residual + C`. Elements of c between its rows stay as they are.
pub fn sum_slices<F: Real>(p: &Params, parts: &[F], residual: &[F], c: &mut [F]) {
    let (rows, columns, stride) = (p.rows as usize, p.columns as usize, p.stride as usize);
    let offset = p.offset as usize;
    let end = offset + (rows - 1) * stride + columns;
    par_rows(&mut c[offset..end], stride, |r, c| {
        for (i, c) in c.iter_mut().take(columns).enumerate() {
            let slices = parts.iter().skip(r * columns + i).step_by(rows * columns);
            let sum = slices.take(p.slices as usize).fold(F::zero(), |sum, &part| sum + part);
            *c = match p.accumulate {
                ADD => *c + sum,
                ADD_TO_RESIDUAL => residual[offset + r * stride + i] + sum,
                _ => sum,
            };
        }
    });
}
