//! `c = a W`, every expert's rows with its own weight.

use super::Real;
use super::gemm::{Product, View, gemm};
use crate::kernels::matmul::{ADD, NT};
use crate::kernels::matmul_experts::Params;
use rayon::prelude::*;
use std::ops::Range;

/// Multiplies rows with the weights of their experts: `c[s] = a[s] W_e` for s in `offsets[e]..offsets[e + 1]`, as far
/// as the tiles `first_tile..first_tile + tiles` of the table reach.
///
/// Shapes: a (rows, k); b (expert_count, n, k) in form 0, `W_e = b[e - first_expert]^T`, or (expert_count, k, n) in
/// form 1; tiles (tiles of the table, 2): an expert and the first of at most `tile_rows` of its rows, in ascending
/// order; offsets (experts + 1); c (rows, n). Accumulate 1 adds to c. Rows of experts without a weight in b keep their
/// values.
pub fn matmul_experts<F: Real>(p: &Params, a: &[F], b: &[F], tiles: &[u32], offsets: &[u32], c: &mut [F]) {
    let (n, k) = (p.n as usize, p.k as usize);
    // Rows of each expert that the tiles reach.
    let mut ranges: Vec<(usize, Range<usize>)> = Vec::new();
    for &[expert, row] in &tiles.as_chunks::<2>().0[p.first_tile as usize..][..p.tiles as usize] {
        let own = expert.wrapping_sub(p.first_expert); // an unused tile's expert wraps to a large number
        if own < p.expert_count {
            let end = (row + p.tile_rows).min(offsets[expert as usize + 1]) as usize;
            match ranges.last_mut() {
                Some((last, rows)) if *last == own as usize => rows.end = end,
                _ => ranges.push((own as usize, row as usize..end)),
            }
        }
    }
    let (mut rest, mut at) = (c, 0);
    let mut parts = Vec::with_capacity(ranges.len());
    for (expert, rows) in ranges {
        let (part, after) = rest[(rows.start - at) * n..].split_at_mut(rows.len() * n);
        parts.push((expert, rows.start, part));
        (rest, at) = (after, rows.end);
    }
    parts.into_par_iter().for_each(|(expert, row, c)| {
        let weight = &b[expert * n * k..(expert + 1) * n * k];
        let product = Product {
            m: c.len() / n,
            n,
            k,
            alpha: F::one(),
            a: View::rows(&a[row * k..], k),
            b: if p.form == NT { View::transposed(weight, k) } else { View::rows(weight, n) },
            beta: if p.accumulate == ADD { F::one() } else { F::zero() },
            c_stride: n,
        };
        gemm(product, c);
    });
}
