//! Gradient of attention's queries, and what it shares with the gradient of the keys and values.

use super::Real;
use super::attention::{Along, BLOCK, Head, Inputs};
use super::gemm::{Product, View, gemm_serial};
use crate::kernels::attention::Params;
use rayon::prelude::*;
use std::ops::Range;

/// What the backward passes read beside [`Inputs`].
#[derive(Clone, Copy)]
pub struct Gradients<'a, F> {
    /// Log of the softmax denominator and `sum(d_out * out)` of each query, (batch, heads, length, 2).
    pub row_stats: &'a [F],
    /// Gradient of attention's output, (tokens, heads, value).
    pub d_out: &'a [F],
}

impl<F: Real> Gradients<'_, F> {
    /// Rows of `d_out` from token `row` of the sequence on, and their stride.
    pub(super) fn rows(&self, p: &Params, at: Head, row: usize) -> (&[F], usize) {
        let (width, stride) = (p.value as usize, (p.heads * p.value) as usize);
        (&self.d_out[(at.sequence * p.length as usize + row) * stride + at.head * width..], stride)
    }

    /// Turns scores into dropped-out probabilities `P Z`, and `d_scores`, which holds `d_out value^T`, into the
    /// gradients of the scores `P (Z (d_out value^T) - D)`. Both are row-major and dense with a row a key or, unless
    /// `keys_first`, a row a query.
    pub(super) fn of_scores(
        &self,
        p: &Params,
        inputs: &Inputs<'_, F>,
        at: Head,
        [queries, keys]: [Range<usize>; 2],
        keys_first: bool,
        [scores, d_scores]: [&mut [F]; 2],
    ) {
        let (rows, columns) = if keys_first { (keys, queries.clone()) } else { (queries.clone(), keys) };
        let first = (at.sequence * p.heads as usize + at.head) * p.length as usize;
        let stats = |query: usize| [0, 1].map(|which| self.row_stats[2 * (first + query) + which]);
        let [mut lse, mut delta, mut factors] = [0; 3].map(|_| vec![F::one(); columns.len()]);
        if keys_first {
            for ((lse, delta), query) in lse.iter_mut().zip(&mut delta).zip(queries) {
                [*lse, *delta] = stats(query);
            }
        }
        let width = columns.len();
        for ((scores, d_scores), row) in scores.chunks_exact_mut(width).zip(d_scores.chunks_exact_mut(width)).zip(rows)
        {
            let (shown, place, along) = if keys_first {
                let shown = inputs.seeing(p, at, row, &columns, scores);
                (shown.clone(), [columns.start + shown.start, row], Along::Queries)
            } else {
                let shown = inputs.visible(p, at, row, &columns);
                let [row_lse, row_delta] = stats(row);
                lse.fill(row_lse);
                delta.fill(row_delta);
                (shown.clone(), [row, columns.start + shown.start], Along::Keys)
            };
            for values in [&mut *scores, &mut *d_scores] {
                values[..shown.start].fill(F::zero());
                values[shown.end..].fill(F::zero());
            }
            let (scores, d_scores) = (&mut scores[shown.clone()], &mut d_scores[shown.clone()]);
            scores.iter_mut().zip(&lse[shown.clone()]).for_each(|(score, &lse)| *score -= lse);
            F::exp_all(scores);
            let factors = &mut factors[shown.clone()];
            if p.dropout > 0.0 {
                factors.fill(F::one());
                inputs.drop_out(p, at, place, along, factors);
            }
            let columns = scores.iter_mut().zip(d_scores).zip(&*factors).zip(&delta[shown]);
            for (((weight, d_score), &factor), &delta) in columns {
                *d_score = *weight * (factor * *d_score - delta);
                *weight *= factor;
            }
        }
    }
}

/// Gradient of the queries: with P the probabilities, Z the dropout factors and D the second of `row_stats`,
/// `d_q = scale (P (Z (d_out value^T) - D)) k`.
///
/// Shapes: `d_q` (batch * length, heads, nope + rope); the others at [`Inputs`] and [`Gradients`].
/// Source: Dao 2023, algorithm 2, with the dropout of Dao and others 2022, appendix B.
pub fn attention_backward_q<F: Real>(p: &Params, inputs: &Inputs<'_, F>, gradients: &Gradients<'_, F>, d_q: &mut [F]) {
    let (length, row) = (p.length as usize, p.heads as usize * p.query_width());
    // A task owns some tokens of a sequence with all of their heads: its part of `d_q` is one slice.
    let sequences = d_q.par_chunks_mut(length * row).enumerate().filter(|(i, _)| !p.heads_of(*i).is_empty());
    sequences.for_each(|(sequence, d_q)| {
        d_q.par_chunks_mut(BLOCK * row).enumerate().for_each(|(block, d_q)| {
            let queries = block * BLOCK..(block * BLOCK + BLOCK).min(length);
            let mut scratch = vec![F::zero(); 2 * queries.len() * queries.end];
            for head in p.heads_of(sequence) {
                one_head(p, inputs, gradients, Head { sequence, head }, queries.clone(), &mut scratch, d_q);
            }
        });
    });
}

/// One head of the queries of a task: writes its columns of `d_q`.
fn one_head<F: Real>(
    p: &Params,
    inputs: &Inputs<'_, F>,
    gradients: &Gradients<'_, F>,
    at: Head,
    queries: Range<usize>,
    scratch: &mut [F],
    d_q: &mut [F],
) {
    let keys = inputs.first_visible(p, at, queries.clone())..queries.end;
    let (scores, d_scores) = scratch[..2 * queries.len() * keys.len()].split_at_mut(queries.len() * keys.len());
    let ((q, q_stride), (d_out, d_out_stride)) =
        (inputs.queries(p, at, queries.start), gradients.rows(p, at, queries.start));
    let (kv, kv_stride) = inputs.keys_and_values(p, at, keys.start);
    let dense_keys = inputs.keys(p, at, keys.clone());
    // One row a key, as in the forward pass.
    let product = Product {
        m: keys.len(),
        n: queries.len(),
        k: p.query_width(),
        alpha: F::of(f64::from(p.scale)),
        a: View::rows(&dense_keys, p.query_width()),
        b: View::transposed(q, q_stride),
        beta: F::zero(),
        c_stride: queries.len(),
    };
    gemm_serial(product, scores);
    let a = View::rows(&kv[p.nope as usize..], kv_stride);
    let b = View::transposed(d_out, d_out_stride);
    gemm_serial(Product { k: p.value as usize, alpha: F::one(), a, b, ..product }, d_scores);
    gradients.of_scores(p, inputs, at, [queries.clone(), keys.clone()], true, [scores, d_scores]);
    let product = Product {
        m: queries.len(),
        n: p.query_width(),
        k: keys.len(),
        a: View::transposed(&*d_scores, queries.len()),
        b: View::rows(&dense_keys, p.query_width()),
        c_stride: p.heads as usize * p.query_width(),
        ..product
    };
    gemm_serial(product, &mut d_q[at.head * p.query_width()..]);
}
