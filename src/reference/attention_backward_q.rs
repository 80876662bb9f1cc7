//! Gradient of attention's queries, and what it shares with the gradient of the keys and values.

use super::Real;
use super::attention::{BLOCK, Head, Inputs};
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

    /// Writes, for these queries and keys, the dropped-out probabilities `P Z` to `weights` and the gradients of the
    /// scores `P (Z (d_out value^T) - D)` to `d_scores`, both row-major and dense.
    pub(super) fn of_scores(
        &self,
        p: &Params,
        inputs: &Inputs<'_, F>,
        at: Head,
        [queries, keys]: [Range<usize>; 2],
        [weights, d_scores]: [&mut [F]; 2],
    ) {
        inputs.scores(p, at, queries.clone(), keys.clone(), weights);
        let ((d_out, d_out_stride), (kv, kv_stride)) =
            (self.rows(p, at, queries.start), inputs.keys_and_values(p, at, keys.start));
        let product = Product {
            m: queries.len(),
            n: keys.len(),
            k: p.value as usize,
            alpha: F::one(),
            a: View::rows(d_out, d_out_stride),
            b: View::transposed(&kv[p.nope as usize..], kv_stride),
            beta: F::zero(),
            c_stride: keys.len(),
        };
        gemm_serial(product, d_scores);
        let stats = (at.sequence * p.heads as usize + at.head) * p.length as usize;
        let mut factors = vec![F::one(); keys.len()];
        let rows = weights.chunks_exact_mut(keys.len()).zip(d_scores.chunks_exact_mut(keys.len()));
        for ((weights, d_scores), query) in rows.zip(queries) {
            let visible = inputs.visible(p, at, query, &keys);
            for row in [&mut *weights, &mut *d_scores] {
                row[..visible.start].fill(F::zero());
                row[visible.end..].fill(F::zero());
            }
            let (lse, delta) = (self.row_stats[2 * (stats + query)], self.row_stats[2 * (stats + query) + 1]);
            let (weights, d_scores) = (&mut weights[visible.clone()], &mut d_scores[visible.clone()]);
            weights.iter_mut().for_each(|s| *s -= lse);
            F::exp_all(weights);
            let factors = &mut factors[visible.clone()];
            if p.dropout > 0.0 {
                factors.fill(F::one());
                inputs.drop_out(p, at, query, &(keys.start + visible.start..keys.start + visible.end), factors);
            }
            for ((weight, d_score), &factor) in weights.iter_mut().zip(d_scores).zip(&*factors) {
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
    d_q.par_chunks_mut(length * row).enumerate().for_each(|(sequence, d_q)| {
        d_q.par_chunks_mut(BLOCK * row).enumerate().for_each(|(block, d_q)| {
            let queries = block * BLOCK..(block * BLOCK + BLOCK).min(length);
            let mut scratch = vec![F::zero(); 2 * queries.len() * queries.end];
            for head in 0..p.heads as usize {
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
    let (weights, d_scores) = scratch[..2 * queries.len() * keys.len()].split_at_mut(queries.len() * keys.len());
    gradients.of_scores(p, inputs, at, [queries.clone(), keys.clone()], [weights, d_scores]);
    let (kv, kv_stride) = inputs.keys_and_values(p, at, keys.start);
    let (nope, rope) = (p.nope as usize, p.rope as usize);
    let product = Product {
        m: queries.len(),
        n: nope,
        k: keys.len(),
        alpha: F::of(f64::from(p.scale)),
        a: View::rows(&*d_scores, keys.len()),
        b: View::rows(kv, kv_stride),
        beta: F::zero(),
        c_stride: p.heads as usize * p.query_width(),
    };
    let first = at.head * p.query_width();
    gemm_serial(product, &mut d_q[first..]);
    let b = View::rows(inputs.shared_keys(p, at, keys.start), rope);
    gemm_serial(Product { n: rope, b, ..product }, &mut d_q[first + nope..]);
}
