//! `d_table[v] += sum of d_y[t] over the tokens t with id v`.

use super::Real;
use crate::kernels::embed_backward::Params;
use rayon::prelude::*;

/// Table rows of a task.
const ROWS: usize = 256;

/// Adds the gradients of all tokens to the table's rows, equal tokens in their order in the batch.
///
/// Shapes: ids, token_order (tokens) and segments (tokens + 2), see `kernels::embed_backward::segments`;
/// d_y (tokens, width); d_table (table_rows, width), whose first row is token `first_row`.
pub fn embed_backward<F: Real>(
    p: &Params,
    ids: &[u32],
    token_order: &[u32],
    segments: &[u32],
    d_y: &[F],
    d_table: &mut [F],
) {
    let (width, count) = (p.width as usize, segments[0] as usize);
    let starts = &segments[1..count + 2];
    let id_of = |start: u32| ids[token_order[start as usize] as usize];
    d_table[..p.table_rows as usize * width].par_chunks_mut(ROWS * width).enumerate().for_each(|(chunk, d_table)| {
        // Segments ascend by id: this task's are neighbours.
        let first_id = p.first_row as usize + chunk * ROWS;
        let first = starts[..count].partition_point(|&start| (id_of(start) as usize) < first_id);
        for segment in starts[first..].windows(2) {
            let row = id_of(segment[0]) as usize - first_id;
            let Some(d_row) = d_table.get_mut(row * width..(row + 1) * width) else { break };
            for &t in &token_order[segment[0] as usize..segment[1] as usize] {
                for (d, &d_y) in d_row.iter_mut().zip(&d_y[t as usize * width..][..width]) {
                    *d += d_y;
                }
            }
        }
    });
}
