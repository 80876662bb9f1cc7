//! Gradients of attention's keys and values, head by head.

use super::Real;
use super::attention::{BLOCK, Head, Inputs};
use super::attention_backward_q::Gradients;
use super::gemm::{Product, View, gemm_serial};
use crate::kernels::attention::Params;
use rayon::prelude::*;
use std::ops::Range;

/// Gradients of the keys and values: with P the probabilities, Z the dropout factors and D the second of `row_stats`,
/// `d_value = (P Z)^T d_out` and `d_k = scale (P (Z (d_out value^T) - D))^T q`.
///
/// A row of `d_heads` is `d_k`'s first nope columns, `d_value`, `d_k`'s rope columns: the last are what the head
/// contributes to the gradient of `k_rope`.
/// Shapes: `d_heads` (batch * length, heads, nope + value + rope); the others at [`Inputs`] and [`Gradients`].
/// Source: Dao 2023, algorithm 2, with the dropout of Dao and others 2022, appendix B.
pub fn attention_backward_kv<F: Real>(
    p: &Params,
    inputs: &Inputs<'_, F>,
    gradients: &Gradients<'_, F>,
    d_heads: &mut [F],
) {
    let (length, row) = (p.length as usize, p.heads as usize * (p.kv_width() + p.rope as usize));
    // A task owns some tokens of a sequence with all of their heads: its part of `d_heads` is one slice.
    d_heads.par_chunks_mut(length * row).enumerate().for_each(|(sequence, d_heads)| {
        d_heads.par_chunks_mut(BLOCK * row).enumerate().for_each(|(block, d_heads)| {
            let keys = block * BLOCK..(block * BLOCK + BLOCK).min(length);
            let starts = &inputs.document_start[sequence * length..(sequence + 1) * length];
            let sees = |&query: &usize| (starts[query] as usize) < keys.end;
            let end = (keys.start..length).rev().find(sees).map_or(keys.start, |query| query + 1);
            let queries = keys.start..end;
            let mut scratch = vec![F::zero(); 2 * queries.len() * keys.len()];
            for head in 0..p.heads as usize {
                let ranges = [queries.clone(), keys.clone()];
                one_head(p, inputs, gradients, Head { sequence, head }, ranges, &mut scratch, d_heads);
            }
        });
    });
}

/// One head of the keys of a task: writes its columns of `d_heads`.
fn one_head<F: Real>(
    p: &Params,
    inputs: &Inputs<'_, F>,
    gradients: &Gradients<'_, F>,
    at: Head,
    [queries, keys]: [Range<usize>; 2],
    scratch: &mut [F],
    d_heads: &mut [F],
) {
    let (weights, d_scores) = scratch.split_at_mut(queries.len() * keys.len());
    gradients.of_scores(p, inputs, at, [queries.clone(), keys.clone()], [weights, d_scores]);
    let ((q, q_stride), (d_out, d_out_stride)) =
        (inputs.queries(p, at, queries.start), gradients.rows(p, at, queries.start));
    let (nope, value, rope) = (p.nope as usize, p.value as usize, p.rope as usize);
    let d_key = Product {
        m: keys.len(),
        n: nope,
        k: queries.len(),
        alpha: F::of(f64::from(p.scale)),
        a: View::transposed(&*d_scores, keys.len()),
        b: View::rows(q, q_stride),
        beta: F::zero(),
        c_stride: p.heads as usize * (nope + value + rope),
    };
    let a = View::transposed(&*weights, keys.len());
    let d_value = Product { n: value, alpha: F::one(), a, b: View::rows(d_out, d_out_stride), ..d_key };
    let first = at.head * (nope + value + rope);
    gemm_serial(d_key, &mut d_heads[first..]);
    gemm_serial(d_value, &mut d_heads[first + nope..]);
    let b = View::rows(&q[nope..], q_stride);
    gemm_serial(Product { n: rope, b, ..d_key }, &mut d_heads[first + nope + value..]);
}
