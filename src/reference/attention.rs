//! Causal attention of every head, and what its backward passes share.

use super::gemm::{Product, View, gemm_serial};
use super::{Real, random, vector};
use crate::kernels::attention::Params;
use crate::kernels::state::{STATE_KEY0, STATE_KEY1};
use rayon::prelude::*;
use std::ops::Range;

/// Queries (or keys, where gradients of keys are computed) of a task: enough for efficient products, few enough that
/// little is computed above the diagonal.
pub(super) const BLOCK: usize = 32;

/// What the forward pass and both backward passes read.
#[derive(Clone, Copy)]
pub struct Inputs<'a, F> {
    /// Queries, (tokens, heads, nope + rope).
    pub q: &'a [F],
    /// Keys without position and values, (tokens, heads, nope + value).
    pub kv: &'a [F],
    /// Rotated key columns of all heads, (tokens, rope).
    pub k_rope: &'a [F],
    /// First visible key of each token, counted within the sequence.
    pub document_start: &'a [u32],
    /// Words of the shared state; the dropout keys.
    pub state: &'a [u32],
}

/// One head of one sequence.
#[derive(Clone, Copy)]
pub(super) struct Head {
    pub sequence: usize,
    pub head: usize,
}

impl<F: Real> Inputs<'_, F> {
    /// Rows of q from token `row` of the sequence on, and their stride.
    pub(super) fn queries(&self, p: &Params, at: Head, row: usize) -> (&[F], usize) {
        let stride = p.heads as usize * p.query_width();
        (&self.q[(at.sequence * p.length as usize + row) * stride + at.head * p.query_width()..], stride)
    }

    /// Rows of kv from token `row` of the sequence on, and their stride.
    pub(super) fn keys_and_values(&self, p: &Params, at: Head, row: usize) -> (&[F], usize) {
        let stride = p.heads as usize * p.kv_width();
        (&self.kv[(at.sequence * p.length as usize + row) * stride + at.head * p.kv_width()..], stride)
    }

    /// Rows of `k_rope` from token `row` of the sequence on.
    pub(super) fn shared_keys(&self, p: &Params, at: Head, row: usize) -> &[F] {
        &self.k_rope[(at.sequence * p.length as usize + row) * p.rope as usize..]
    }

    /// Writes `scale * q k^T` for these queries and keys, row-major and dense.
    pub(super) fn scores(&self, p: &Params, at: Head, queries: Range<usize>, keys: Range<usize>, scores: &mut [F]) {
        let (nope, rope) = (p.nope as usize, p.rope as usize);
        let ((q, q_stride), (k, k_stride)) =
            (self.queries(p, at, queries.start), self.keys_and_values(p, at, keys.start));
        let product = Product {
            m: queries.len(),
            n: keys.len(),
            k: nope,
            alpha: F::of(f64::from(p.scale)),
            a: View::rows(q, q_stride),
            b: View::transposed(k, k_stride),
            beta: F::zero(),
            c_stride: keys.len(),
        };
        gemm_serial(product, scores);
        let a = View::rows(&q[nope..], q_stride);
        let b = View::transposed(self.shared_keys(p, at, keys.start), rope);
        gemm_serial(Product { k: rope, a, b, beta: F::one(), ..product }, scores);
    }

    /// The visible ones among `keys` for a query, counted from the first of `keys`.
    pub(super) fn visible(&self, p: &Params, at: Head, query: usize, keys: &Range<usize>) -> Range<usize> {
        let start = self.document_start[at.sequence * p.length as usize + query] as usize;
        let end = (query + 1).clamp(keys.start, keys.end);
        start.clamp(keys.start, end) - keys.start..end - keys.start
    }

    /// Multiplies the values of one query and `keys` by their dropout factors: 0 or 1 / (1 - rate).
    pub(super) fn drop_out(&self, p: &Params, at: Head, query: usize, keys: &Range<usize>, values: &mut [F]) {
        if p.dropout == 0.0 {
            return;
        }
        let key = random::random_key(self.state[STATE_KEY0], self.state[STATE_KEY1], p.site);
        let (threshold, kept) = (random::keep_threshold(p.dropout), F::one() / F::of(1.0 - f64::from(p.dropout)));
        let row = (at.sequence as u32).wrapping_mul(p.heads).wrapping_add(at.head as u32);
        let first = row.wrapping_mul(p.length).wrapping_add(query as u32).wrapping_mul(p.length);
        for (value, key_index) in values.iter_mut().zip(keys.start as u32..) {
            let keep = random::random_at(key, first.wrapping_add(key_index)) >= threshold;
            *value *= if keep { kept } else { F::zero() };
        }
    }

    /// The first key that any of `queries` sees.
    pub(super) fn first_visible(&self, p: &Params, at: Head, queries: Range<usize>) -> usize {
        let tokens = at.sequence * p.length as usize;
        let starts = &self.document_start[tokens + queries.start..tokens + queries.end];
        starts.iter().min().map_or(queries.start, |&start| (start as usize).min(queries.start))
    }
}

/// Attention of every query to the visible keys of its sequence: with `s = scale q k^T`, `out = softmax(s) Z value` and
/// `lse = log sum exp s`; Z are dropout factors, which lse does not see.
///
/// A query at i sees the keys `document_start[i]..=i`; k = columns `0..nope` of a head of kv, then `k_rope`.
/// Shapes: out (batch * length, heads, value); lse (batch, heads, length); the others at [`Inputs`].
/// Source: `DeepSeek-V2` (2024), section 2.1; dropout on the probabilities as in its published model code.
pub fn attention<F: Real>(p: &Params, inputs: &Inputs<'_, F>, out: &mut [F], lse: &mut [F]) {
    let (length, heads) = (p.length as usize, p.heads as usize);
    let row = heads * p.value as usize;
    // A task owns some tokens of a sequence with all of their heads: its part of `out` is one slice.
    let task = |sequence: usize, block: usize, out: &mut [F]| {
        let first = block * BLOCK;
        let queries = first..(first + BLOCK).min(length);
        let mut lse = Vec::with_capacity(heads * queries.len());
        let mut scores = vec![F::zero(); queries.len() * queries.end];
        for head in 0..heads {
            one_head(p, inputs, Head { sequence, head }, queries.clone(), &mut scores, out, &mut lse);
        }
        (sequence, queries, lse)
    };
    let tasks = out.par_chunks_mut(length * row).enumerate().flat_map(|(sequence, out)| {
        let blocks = out.par_chunks_mut(BLOCK * row).enumerate();
        blocks.map(move |(block, out)| task(sequence, block, out))
    });
    for (sequence, queries, values) in tasks.collect::<Vec<_>>() {
        for (head, values) in values.chunks_exact(queries.len()).enumerate() {
            lse[(sequence * heads + head) * length..][queries.clone()].copy_from_slice(values);
        }
    }
}

/// One head of the queries of a task: writes its columns of `out`, appends to `lse`.
fn one_head<F: Real>(
    p: &Params,
    inputs: &Inputs<'_, F>,
    at: Head,
    queries: Range<usize>,
    scores: &mut [F],
    out: &mut [F],
    lse: &mut Vec<F>,
) {
    let keys = inputs.first_visible(p, at, queries.clone())..queries.end;
    let scores = &mut scores[..queries.len() * keys.len()];
    inputs.scores(p, at, queries.clone(), keys.clone(), scores);
    let mut inverse_sums = [F::zero(); BLOCK];
    for ((row, query), inverse_sum) in scores.chunks_exact_mut(keys.len()).zip(queries.clone()).zip(&mut inverse_sums) {
        let visible = inputs.visible(p, at, query, &keys);
        row[..visible.start].fill(F::zero());
        row[visible.end..].fill(F::zero());
        let row = &mut row[visible.clone()];
        let maximum = vector::max(row);
        row.iter_mut().for_each(|s| *s -= maximum);
        F::exp_all(row);
        let sum = vector::sum(row);
        lse.push(if row.is_empty() { maximum } else { maximum + sum.ln() });
        *inverse_sum = if row.is_empty() { F::zero() } else { sum.recip() };
        inputs.drop_out(p, at, query, &(keys.start + visible.start..keys.start + visible.end), row);
    }
    let (width, stride) = (p.value as usize, p.heads as usize * p.value as usize);
    let (kv, kv_stride) = inputs.keys_and_values(p, at, keys.start);
    let out = &mut out[at.head * width..];
    let product = Product {
        m: queries.len(),
        n: width,
        k: keys.len(),
        alpha: F::one(),
        a: View::rows(scores, keys.len()),
        b: View::rows(&kv[p.nope as usize..], kv_stride),
        beta: F::zero(),
        c_stride: stride,
    };
    gemm_serial(product, out);
    for (row, inverse_sum) in out.chunks_mut(stride).zip(inverse_sums) {
        row[..width].iter_mut().for_each(|o| *o *= inverse_sum);
    }
}
