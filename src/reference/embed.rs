//! `y[t] = table[ids[t]]`.

use super::{Real, par_rows};
use crate::kernels::embed::Params;

/// Copies the table's row of each token that lies in this part of it; other rows of `y` stay as they are.
///
/// Shapes: ids (rows); table (table_rows, width), whose first row is token `first_row`; y (rows, width).
pub fn embed<F: Real>(p: &Params, ids: &[u32], table: &[F], y: &mut [F]) {
    let width = p.width as usize;
    par_rows(&mut y[..p.rows as usize * width], width, |t, y| {
        let row = ids[t].wrapping_sub(p.first_row);
        if row < p.table_rows {
            y.copy_from_slice(&table[row as usize * width..][..width]);
        }
    });
}
