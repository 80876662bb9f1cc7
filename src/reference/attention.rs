//! Causal attention of every head, and what its backward passes share.

use super::gemm::{Product, View, gemm_serial};
use super::{Real, random};
use crate::kernels::attention::Params;
use crate::kernels::state::{STATE_KEY0, STATE_KEY1};
use rayon::prelude::*;
use std::ops::Range;

/// Queries (or keys, where gradients of keys are computed) of a task: enough for efficient products, few enough that
/// little is computed above the diagonal.
pub(super) const BLOCK: usize = 64;

/// What the forward pass and both backward passes read.
#[derive(Clone, Copy)]
pub struct Inputs<'a, F> {
    /// Queries, (tokens, heads, nope + rope).
    pub q: &'a [F],
    /// Keys without position and values, (tokens, heads, nope + value).
    pub kv: &'a [F],
    /// Rotated key columns of all heads, (tokens, rope).
    pub k_rope: &'a [F],
    /// First visible key of each token, counted within the sequence. Shaders need that it never falls along one, which
    /// `kernels::contract` checks; what is computed here is right for any.
    pub document_start: &'a [u32],
    /// Words of the shared state; the dropout keys.
    pub state: &'a [u32],
}

/// What the next number of a slice belongs to.
#[derive(Clone, Copy)]
pub(super) enum Along {
    /// The next query and the same key.
    Queries,
    /// The next key and the same query.
    Keys,
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

    /// The keys of a head, its own columns before the shared ones: dense rows of nope + rope.
    pub(super) fn keys(&self, p: &Params, at: Head, keys: Range<usize>) -> Vec<F> {
        let (nope, rope) = (p.nope as usize, p.rope as usize);
        let (kv, stride) = self.keys_and_values(p, at, keys.start);
        let shared = &self.k_rope[(at.sequence * p.length as usize + keys.start) * rope..];
        let mut dense = Vec::with_capacity(keys.len() * (nope + rope));
        for row in 0..keys.len() {
            dense.extend_from_slice(&kv[row * stride..][..nope]);
            dense.extend_from_slice(&shared[row * rope..][..rope]);
        }
        dense
    }

    /// The first to the last of the ones among `queries` that see a key, counted from the first of `queries`. What
    /// stands in `scores`, one of each query, for a query between them that does not see it becomes minus infinity.
    pub(super) fn seeing(
        &self,
        p: &Params,
        at: Head,
        key: usize,
        queries: &Range<usize>,
        scores: &mut [F],
    ) -> Range<usize> {
        let tokens = at.sequence * p.length as usize;
        let starts = &self.document_start[tokens + queries.start..tokens + queries.end];
        let end = starts.iter().rposition(|&start| start as usize <= key).map_or(0, |last| last + 1);
        let seeing = key.saturating_sub(queries.start).min(end)..end;
        for (score, &start) in scores[seeing.clone()].iter_mut().zip(&starts[seeing.clone()]) {
            *score = if start as usize <= key { *score } else { F::neg_infinity() };
        }
        seeing
    }

    /// The visible ones among `keys` for a query, counted from the first of them.
    pub(super) fn visible(&self, p: &Params, at: Head, query: usize, keys: &Range<usize>) -> Range<usize> {
        let start = self.document_start[at.sequence * p.length as usize + query] as usize;
        let end = (query + 1).clamp(keys.start, keys.end);
        start.clamp(keys.start, end) - keys.start..end - keys.start
    }

    /// Multiplies `values` by dropout factors, 0 or 1 / (1 - rate): the first by that of this query and key, each next
    /// one by that of the next query or key, as `along` says. A row of the mask is a query of a head.
    pub(super) fn drop_out(&self, p: &Params, at: Head, [query, key]: [usize; 2], along: Along, values: &mut [F]) {
        if p.dropout == 0.0 {
            return;
        }
        let mask_key = random::random_key(self.state[STATE_KEY0], self.state[STATE_KEY1], p.site);
        let (threshold, kept) = (random::keep_threshold(p.dropout), F::one() / F::of(1.0 - f64::from(p.dropout)));
        let row = (at.sequence as u32).wrapping_mul(p.heads).wrapping_add(at.head as u32);
        let row = row.wrapping_mul(p.length).wrapping_add(query as u32);
        let mut row_key = random::random_row(mask_key, row);
        for (value, i) in values.iter_mut().zip(0..) {
            let column = match along {
                Along::Keys => key as u32 + i,
                Along::Queries => {
                    row_key = random::random_row(mask_key, row.wrapping_add(i));
                    key as u32
                }
            };
            let keep = random::random_at(row_key, column) >= threshold;
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

/// Attention of every query to the visible keys of its sequence, for the heads that `p` names: with
/// `s = scale q k^T`, `out = softmax(s) Z value` and `lse = log sum exp s`; Z are dropout factors, which lse does not
/// see.
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
        let mut lse = Vec::new();
        let mut scores = vec![F::zero(); queries.len() * queries.end];
        for head in p.heads_of(sequence) {
            one_head(p, inputs, Head { sequence, head }, queries.clone(), &mut scores, out, &mut lse);
        }
        (sequence, queries, lse)
    };
    let sequences = out.par_chunks_mut(length * row).enumerate().filter(|(i, _)| !p.heads_of(*i).is_empty());
    let tasks = sequences.flat_map(|(sequence, out)| {
        let blocks = out.par_chunks_mut(BLOCK * row).enumerate();
        blocks.map(move |(block, out)| task(sequence, block, out))
    });
    for (sequence, queries, values) in tasks.collect::<Vec<_>>() {
        for (head, values) in p.heads_of(sequence).zip(values.chunks_exact(queries.len())) {
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
    let scores = &mut scores[..keys.len() * queries.len()];
    let (q, q_stride) = inputs.queries(p, at, queries.start);
    let dense_keys = inputs.keys(p, at, keys.clone());
    // One row of scores a key: softmax then works on all queries at once, and the product with the values packs fast.
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
    let sums = softmax(p, inputs, at, queries.clone(), keys.clone(), scores, lse);
    let (width, stride) = (p.value as usize, p.heads as usize * p.value as usize);
    let (kv, kv_stride) = inputs.keys_and_values(p, at, keys.start);
    let out = &mut out[at.head * width..];
    let product = Product {
        m: queries.len(),
        n: width,
        k: keys.len(),
        alpha: F::one(),
        a: View::transposed(scores, queries.len()),
        b: View::rows(&kv[p.nope as usize..], kv_stride),
        beta: F::zero(),
        c_stride: stride,
    };
    gemm_serial(product, out);
    for (row, sum) in out.chunks_mut(stride).zip(sums) {
        let inverse = if sum > F::zero() { sum.recip() } else { F::zero() };
        row[..width].iter_mut().for_each(|o| *o *= inverse);
    }
}

/// Replaces scores, a row a key, by `exp(score - maximum) Z`, appends to `lse` and returns the sums without Z.
fn softmax<F: Real>(
    p: &Params,
    inputs: &Inputs<'_, F>,
    at: Head,
    queries: Range<usize>,
    keys: Range<usize>,
    scores: &mut [F],
    lse: &mut Vec<F>,
) -> [F; BLOCK] {
    let width = queries.len();
    let mut maxima = [F::of(-1e30); BLOCK];
    for (row, key) in scores.chunks_exact_mut(width).zip(keys.clone()) {
        let seeing = inputs.seeing(p, at, key, &queries, row);
        for (maximum, &score) in maxima[seeing.clone()].iter_mut().zip(&row[seeing]) {
            *maximum = if score > *maximum { score } else { *maximum };
        }
    }
    let mut sums = [F::zero(); BLOCK];
    for (row, key) in scores.chunks_exact_mut(width).zip(keys) {
        let seeing = inputs.seeing(p, at, key, &queries, row);
        row[..seeing.start].fill(F::zero());
        row[seeing.end..].fill(F::zero());
        let row = &mut row[seeing.clone()];
        row.iter_mut().zip(&maxima[seeing.clone()]).for_each(|(score, &maximum)| *score -= maximum);
        F::exp_all(row);
        sums[seeing.clone()].iter_mut().zip(&*row).for_each(|(sum, &e)| *sum += e);
        inputs.drop_out(p, at, [queries.start + seeing.start, key], Along::Queries, row);
    }
    lse.extend(maxima.iter().zip(&sums).take(width).map(|(&m, &s)| if s > F::zero() { m + s.ln() } else { m }));
    sums
}
