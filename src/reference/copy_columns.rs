//! `destination[r, target_offset + i] = source[r, source_offset + i]`.

use super::{Real, par_rows};
use crate::kernels::copy_columns::Params;

/// Copies columns; the other columns of `destination` stay as they are.
///
/// Shapes: source (rows, source_stride), destination (rows, target_stride).
pub fn copy_columns<F: Real>(p: &Params, source: &[F], destination: &mut [F]) {
    let (columns, stride, from) = (p.columns as usize, p.source_stride as usize, p.source_offset as usize);
    let (to_stride, to) = (p.target_stride as usize, p.target_offset as usize);
    par_rows(&mut destination[..p.rows as usize * to_stride], to_stride, |r, row| {
        row[to..to + columns].copy_from_slice(&source[r * stride + from..][..columns]);
    });
}
