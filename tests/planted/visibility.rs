//! Attention written out pair by pair beside the reference, for documents in any order: with the right rule of who sees
//! whom they agree, and with a mistake in it they do not.

use hadal::kernels::attention::Params;
use hadal::kernels::attention_delta;
use hadal::kernels::case::{indices, uniform};
use hadal::reference::attention::{Inputs, attention};
use hadal::reference::attention_backward_kv::attention_backward_kv;
use hadal::reference::attention_backward_q::{Gradients, attention_backward_q};
use hadal::reference::attention_delta::attention_delta;

/// Whether a query sees a key of its sequence, whose documents begin so.
type Visible = fn(&[u32], usize, usize) -> bool;

fn truth(starts: &[u32], query: usize, key: usize) -> bool {
    starts[query] as usize <= key && key <= query
}

/// The block of 64 queries that a query stands in.
fn block(starts: &[u32], query: usize) -> (usize, &[u32]) {
    let first = query / 64 * 64;
    (first, &starts[first..starts.len().min(first + 64)])
}

const BUGS: &[(&str, Visible)] = &[
    ("the last who sees a key found by bisection", |starts, query, key| {
        let (first, starts) = block(starts, query);
        key <= query && query < first + starts.partition_point(|&start| start as usize <= key)
    }),
    ("the first who does not see a key ends a block", |starts, query, key| {
        let (first, starts) = block(starts, query);
        let end = starts.iter().position(|&start| start as usize > key).unwrap_or(starts.len());
        key <= query && query < first + end
    }),
    ("all that its block's earliest document has", |starts, query, key| {
        key <= query && block(starts, query).1.iter().any(|&start| start as usize <= key)
    }),
    ("what its block's first query sees", |starts, query, key| key <= query && starts[query / 64 * 64] as usize <= key),
    ("documents see each other", |_, query, key| key <= query),
    ("no causal mask", |starts, query, key| starts[query] as usize <= key),
    ("the next key is seen", |starts, query, key| starts[query] as usize <= key && key <= query + 1),
    ("a key does not see itself", |starts, query, key| starts[query] as usize <= key && key < query),
    ("a document's first key is not seen", |starts, query, key| (starts[query] as usize) < key && key <= query),
    ("the key before a document is seen", |starts, query, key| starts[query] as usize <= key + 1 && key <= query),
    ("padding sees all before it", |starts, query, key| {
        key <= query && (starts[query] as usize <= key || starts[query] as usize == query)
    }),
    ("who sees nothing sees itself", |starts, query, key| key == query || truth(starts, query, key)),
];

const LENGTH: usize = 70;
/// Columns of queries and keys without and with a position, and of values.
const WIDTHS: [usize; 3] = [2, 2, 2];

/// Rows of a batch with these starts, and what the reference makes of them: out, lse, gradients of q and of heads.
struct Batch {
    p: Params,
    starts: Vec<u32>,
    data: [Vec<f64>; 4],
    found: [Vec<f64>; 4],
}

impl Batch {
    fn new(starts: Vec<u32>) -> Batch {
        let (batch, [nope, rope, value]) = ((starts.len() / LENGTH) as u32, WIDTHS.map(|width| width as u32));
        let (heads, scale, dropout, site, first_head) = (1, 1.5, 0.0, 0, 0);
        let length = LENGTH as u32;
        let p = Params { batch, length, heads, nope, rope, value, scale, dropout, site, first_head, head_count: batch };
        let n = starts.len();
        let data = [(1, 4), (2, 4), (3, 2), (4, 2)].map(|(seed, width)| uniform(seed, n * width));
        let [q, kv, k_rope, d_out] = &data;
        let inputs = Inputs { q, kv, k_rope, document_start: &starts, state: &[0; 8] };
        let (mut out, mut lse, mut row_stats) = (vec![9.0; 2 * n], vec![9.0; n], vec![9.0; 2 * n]);
        attention(&p, &inputs, &mut out, &mut lse);
        attention_delta(&attention_delta::Params { batch, length, heads, value }, d_out, &out, &lse, &mut row_stats);
        let gradients = Gradients { row_stats: &row_stats, d_out };
        let (mut d_q, mut d_heads) = (vec![9.0; 4 * n], vec![9.0; 6 * n]);
        attention_backward_q(&p, &inputs, &gradients, &mut d_q);
        attention_backward_kv(&p, &inputs, &gradients, &mut d_heads);
        Batch { p, starts, found: [out, lse, d_q, d_heads], data }
    }

    /// The same by the formula, where `visible` says who sees whom.
    fn written_out(&self, visible: Visible) -> [Vec<f64>; 4] {
        let n = self.starts.len();
        let mut results = [vec![0.0; 2 * n], vec![0.0; n], vec![0.0; 4 * n], vec![0.0; 6 * n]];
        for (row, starts) in self.starts.chunks(LENGTH).enumerate() {
            (0..LENGTH).for_each(|query| self.one_query(row * LENGTH, starts, query, visible, &mut results));
        }
        results
    }

    fn one_query(&self, first: usize, starts: &[u32], query: usize, visible: Visible, results: &mut [Vec<f64>; 4]) {
        let ([q, kv, k_rope, d_out], [out, lse, d_q, d_heads]) = (&self.data, results);
        let at = first + query;
        let key = |key: usize| [kv[4 * key], kv[4 * key + 1], k_rope[2 * key], k_rope[2 * key + 1]];
        let value = |key: usize| &kv[4 * key + 2..4 * key + 4];
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let seen: Vec<usize> = (0..LENGTH).filter(|&key| visible(starts, query, key)).map(|key| first + key).collect();
        let scores: Vec<f64> =
            seen.iter().map(|&k| f64::from(self.p.scale) * dot(&q[4 * at..4 * at + 4], &key(k))).collect();
        let sum: f64 = scores.iter().map(|score| score.exp()).sum();
        lse[at] = if seen.is_empty() { -1e30 } else { sum.ln() };
        let weights: Vec<f64> = scores.iter().map(|score| (score - lse[at]).exp()).collect();
        for (&k, weight) in seen.iter().zip(&weights) {
            (0..2).for_each(|c| out[2 * at + c] += weight * value(k)[c]);
        }
        let d_out = &d_out[2 * at..2 * at + 2];
        let mean = dot(d_out, &out[2 * at..2 * at + 2]);
        for (&k, weight) in seen.iter().zip(&weights) {
            let d_score = f64::from(self.p.scale) * weight * (dot(d_out, value(k)) - mean);
            for c in 0..4 {
                d_q[4 * at + c] += d_score * key(k)[c];
                d_heads[6 * k + if c < 2 { c } else { c + 2 }] += d_score * q[4 * at + c];
            }
            (0..2).for_each(|c| d_heads[6 * k + 2 + c] += weight * d_out[c]);
        }
    }

    /// The first number that differs.
    fn difference(&self, visible: Visible) -> Option<String> {
        let expected = self.written_out(visible);
        let names = ["out", "lse", "d_q", "d_heads"];
        names.iter().zip(self.found.iter().zip(&expected)).find_map(|(name, (found, expected))| {
            let differs = |(a, b): (&f64, &f64)| (a - b).abs() > 1e-9 * b.abs().max(1.0);
            let at = found.iter().zip(expected).position(differs)?;
            Some(format!("{name}[{at}] is {}, written out {}", found[at], expected[at]))
        })
    }
}

/// Rows with documents that begin at drawn places and padding from each place of the row on; the same with padding that
/// sees the row's first document, as it once did; and starts in no order at all.
fn batches() -> [Batch; 3] {
    let row = |padding: usize, falls: bool| {
        let mut begins = indices(padding as u64, 4, LENGTH as u32);
        begins.sort_unstable();
        (0..LENGTH).map(move |t| match t < padding {
            true => begins.iter().copied().rfind(|&begin| begin as usize <= t).unwrap_or(0),
            false if falls => 0,
            false => t as u32,
        })
    };
    let rows = |falls: bool| (0..=LENGTH).flat_map(|padding| row(padding, falls)).collect();
    [rows(false), rows(true), indices(9, 24 * LENGTH, LENGTH as u32)].map(Batch::new)
}

/// Plants every mistake in turn.
pub fn outcomes() -> Vec<(String, Result<String, String>)> {
    let batches = batches();
    for (i, batch) in batches.iter().enumerate() {
        assert_eq!(batch.difference(truth), None, "rows of kind {i} without a mistake");
    }
    let plant = |(what, visible): &(&str, Visible)| {
        let report = batches.iter().find_map(|batch| batch.difference(*visible));
        ((*what).to_owned(), report.ok_or_else(|| "no number is off".to_owned()))
    };
    BUGS.iter().map(plant).collect()
}
