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
    let sequences = d_heads.par_chunks_mut(length * row).enumerate().filter(|(i, _)| !p.heads_of(*i).is_empty());
    sequences.for_each(|(sequence, d_heads)| {
        d_heads.par_chunks_mut(BLOCK * row).enumerate().for_each(|(block, d_heads)| {
            let keys = block * BLOCK..(block * BLOCK + BLOCK).min(length);
            let starts = &inputs.document_start[sequence * length..(sequence + 1) * length];
            let sees = |&query: &usize| (starts[query] as usize) < keys.end;
            let end = (keys.start..length).rev().find(sees).map_or(keys.start, |query| query + 1);
            let queries = keys.start..end;
            let mut scratch = vec![F::zero(); 2 * queries.len() * keys.len()];
            for head in p.heads_of(sequence) {
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
    let ((q, q_stride), (d_out, d_out_stride)) =
        (inputs.queries(p, at, queries.start), gradients.rows(p, at, queries.start));
    let (kv, kv_stride) = inputs.keys_and_values(p, at, keys.start);
    let (nope, value, rope) = (p.nope as usize, p.value as usize, p.rope as usize);
    let dense_keys = inputs.keys(p, at, keys.clone());
    // One row a query: the products with the gradients below then pack fast.
    let product = Product {
        m: queries.len(),
        n: keys.len(),
        k: nope + rope,
        alpha: F::of(f64::from(p.scale)),
        a: View::rows(q, q_stride),
        b: View::transposed(&dense_keys, nope + rope),
        beta: F::zero(),
        c_stride: keys.len(),
    };
    gemm_serial(product, weights);
    let (a, b) = (View::rows(d_out, d_out_stride), View::transposed(&kv[nope..], kv_stride));
    gemm_serial(Product { k: value, alpha: F::one(), a, b, ..product }, d_scores);
    gradients.of_scores(p, inputs, at, [queries.clone(), keys.clone()], false, [weights, d_scores]);
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

#[cfg(test)]
mod tests {
    use super::super::attention::attention;
    use super::super::attention_backward_q::attention_backward_q;
    use super::super::attention_delta::attention_delta;
    use super::*;
    use crate::kernels::{attention_delta, case};

    const P: Params = Params {
        batch: 2,
        length: 41,
        heads: 2,
        nope: 3,
        rope: 2,
        value: 4,
        scale: 0.9,
        dropout: 0.3,
        site: 3,
        first_head: 0,
        head_count: 4,
    };

    /// q, kv, `k_rope` and `d_out`.
    fn data() -> [Vec<f64>; 4] {
        let n = P.tokens() * P.heads as usize;
        let sizes = [n * P.query_width(), n * P.kv_width(), P.tokens() * P.rope as usize, n * P.value as usize];
        [1, 2, 3, 4].map(|i: usize| case::uniform(i as u64, sizes[i - 1]))
    }

    fn starts() -> Vec<u32> {
        (0..P.batch * P.length).map(|t| if t % P.length < 18 { 0 } else { 18 }).collect()
    }

    fn forward([q, kv, k_rope, d_out]: &[Vec<f64>; 4]) -> (f64, Vec<f64>, Vec<f64>) {
        let (mut out, mut lse) = (vec![0.0; d_out.len()], vec![0.0; P.tokens() * P.heads as usize]);
        let inputs = Inputs { q, kv, k_rope, document_start: &starts(), state: &[7, 8] };
        attention(&P, &inputs, &mut out, &mut lse);
        (out.iter().zip(d_out).map(|(o, d)| o * d).sum(), out, lse)
    }

    /// Gradients of q, kv and `k_rope` in their own layouts.
    fn backward(data: &[Vec<f64>; 4]) -> [Vec<f64>; 3] {
        let (_, out, lse) = forward(data);
        let [q, kv, k_rope, d_out] = data;
        let mut row_stats = vec![0.0; 2 * lse.len()];
        let delta = attention_delta::Params { batch: P.batch, length: P.length, heads: P.heads, value: P.value };
        attention_delta(&delta, d_out, &out, &lse, &mut row_stats);
        let inputs = Inputs { q, kv, k_rope, document_start: &starts(), state: &[7, 8] };
        let gradients = Gradients { row_stats: &row_stats, d_out };
        let (mut d_q, mut d_heads) = (vec![0.0; q.len()], vec![0.0; kv.len() + q.len() / 5 * 2]);
        attention_backward_q(&P, &inputs, &gradients, &mut d_q);
        attention_backward_kv(&P, &inputs, &gradients, &mut d_heads);
        let d_kv = d_heads.chunks(9).flat_map(|row| row[..7].to_vec()).collect();
        let d_k_rope = d_heads.chunks(18).flat_map(|token| [token[7] + token[16], token[8] + token[17]]).collect();
        [d_q, d_kv, d_k_rope]
    }

    #[test]
    fn gradients_agree_with_finite_differences() {
        let data = data();
        for (which, gradient) in backward(&data).iter().enumerate() {
            assert_eq!(gradient.len(), data[which].len());
            for i in (0..gradient.len()).step_by(17) {
                let moved = |step: f64| {
                    let mut data = data.clone();
                    data[which][i] += step;
                    forward(&data).0
                };
                let numeric = (moved(1e-5) - moved(-1e-5)) / 2e-5;
                assert!((numeric - gradient[i]).abs() < 1e-8, "input {which}[{i}]: {numeric} and {}", gradient[i]);
            }
        }
    }

    #[test]
    fn an_output_is_the_weighted_mean_of_the_visible_values() {
        let (p, data) = (Params { dropout: 0.0, ..P }, data());
        let [q, kv, k_rope, _] = &data;
        let (mut out, mut lse) = (vec![0.0; data[3].len()], vec![0.0; P.tokens() * 2]);
        let inputs = Inputs { q, kv, k_rope, document_start: &starts(), state: &[7, 8] };
        attention(&p, &inputs, &mut out, &mut lse);
        // The last query of the second sequence, its second head; the document starts at 18.
        let (token, head) = (81, 1);
        let score = |key: usize| {
            let q = &q[(token * 2 + head) * 5..];
            let (k, shared) = (&kv[((41 + key) * 2 + head) * 7..], &k_rope[(41 + key) * 2..]);
            0.9f32 as f64 * (q[0] * k[0] + q[1] * k[1] + q[2] * k[2] + q[3] * shared[0] + q[4] * shared[1])
        };
        let sum: f64 = (18..41).map(|key| score(key).exp()).sum();
        assert!((lse[3 * 41 + 40] - sum.ln()).abs() < 1e-12);
        for c in 0..4 {
            let mean: f64 = (18..41).map(|key| score(key).exp() / sum * kv[((41 + key) * 2 + head) * 7 + 3 + c]).sum();
            assert!((out[(token * 2 + head) * 4 + c] - mean).abs() < 1e-12);
        }
    }
}
