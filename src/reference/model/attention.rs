//! Multi-head latent attention, DeepSeek-V2 section 2.1, with the expanded keys and values of training.

use super::positions::{Turns, score_scale};
use super::{Batch, Params, Real, linear, rms_norm, softmax, weight};
use crate::config::model::ModelConfig;

/// The latent norms' epsilon, whatever `rms_norm_eps` says: so in the original code and in transformers.
const LATENT_EPSILON: f64 = 1e-6;

/// What the heads of one block work on.
struct Projected<F> {
    /// Queries, the last columns of each rotated. (N, H, nope + rope)
    q: Vec<F>,
    /// The rotated key that all heads share. (N, rope)
    k_rope: Vec<F>,
    /// Keys without position and values. (N, H, nope + value)
    kv: Vec<F>,
}

/// The attention of one block on its normalised input. x (N, d), result (N, d)
pub(super) fn attention<F: Real>(
    c: &ModelConfig,
    params: &Params<F>,
    prefix: &str,
    batch: &Batch<'_>,
    x: &[F],
) -> Vec<F> {
    let projected = project(c, params, prefix, batch, x);
    let (heads, d_value) = (c.num_attention_heads, c.v_head_dim);
    let mut out = Vec::with_capacity(batch.ids.len() * heads * d_value); // (N, H, value)
    for b in 0..batch.batch {
        for t in 0..batch.length {
            let seen: Vec<usize> = (batch.start(b, t)..=t).map(|j| b * batch.length + j).collect();
            for head in 0..heads {
                out.extend(one_head(c, &projected, head, b * batch.length + t, &seen));
            }
        }
    }
    linear(&out, weight(params, &format!("{prefix}.o_proj.weight")), heads * d_value, c.hidden_size)
}

/// Queries, keys and values from their latents. x (N, d)
fn project<F: Real>(c: &ModelConfig, params: &Params<F>, prefix: &str, batch: &Batch<'_>, x: &[F]) -> Projected<F> {
    let get = |name: &str| weight(params, &format!("{prefix}.{name}.weight"));
    let (d, heads, r, d_rope) = (c.hidden_size, c.num_attention_heads, c.kv_lora_rank, c.qk_rope_head_dim);
    let d_query = c.qk_head_dim();
    let mut q = match c.q_lora_rank {
        None => linear(x, get("q_proj"), d, heads * d_query),
        Some(rank) => {
            let latent = rms_norm(&linear(x, get("q_a_proj"), d, rank), get("q_a_layernorm"), LATENT_EPSILON);
            linear(&latent, get("q_b_proj"), rank, heads * d_query)
        }
    };
    // The latent of keys and values and the shared key stand side by side.
    let mut latent = Vec::new(); // (N, r)
    let mut k_rope = Vec::new(); // (N, rope)
    for row in linear(x, get("kv_a_proj_with_mqa"), d, r + d_rope).chunks(r + d_rope) {
        latent.extend_from_slice(&row[..r]);
        k_rope.extend_from_slice(&row[r..]);
    }
    let latent = rms_norm(&latent, get("kv_a_layernorm"), LATENT_EPSILON);
    let kv = linear(&latent, get("kv_b_proj"), r, heads * (c.qk_nope_head_dim + c.v_head_dim));
    let turns = Turns::new(c, batch.longest());
    for b in 0..batch.batch {
        for t in 0..batch.length {
            let (token, position) = (b * batch.length + t, t - batch.start(b, t));
            rotate(&mut k_rope[token * d_rope..][..d_rope], position, &turns);
            for head in 0..heads {
                let query = &mut q[(token * heads + head) * d_query..][..d_query];
                rotate(&mut query[c.qk_nope_head_dim..], position, &turns);
            }
        }
    }
    Projected { q, k_rope, kv }
}

/// One head's mean of the values that `token` sees, weighted by the softmax of its scores. (value)
fn one_head<F: Real>(c: &ModelConfig, p: &Projected<F>, head: usize, token: usize, seen: &[usize]) -> Vec<F> {
    let (heads, d_nope, d_rope, d_query) =
        (c.num_attention_heads, c.qk_nope_head_dim, c.qk_rope_head_dim, c.qk_head_dim());
    let width = d_nope + c.v_head_dim;
    let scale = F::of(score_scale(c));
    let query = &p.q[(token * heads + head) * d_query..][..d_query];
    let kv_of = |j: usize| &p.kv[(j * heads + head) * width..][..width];
    let score = |&j: &usize| {
        let content = dot(&query[..d_nope], &kv_of(j)[..d_nope]);
        scale * (content + dot(&query[d_nope..], &p.k_rope[j * d_rope..][..d_rope]))
    };
    let shares = softmax(&seen.iter().map(score).collect::<Vec<F>>());
    let mut out = vec![F::zero(); c.v_head_dim];
    for (&share, &j) in shares.iter().zip(seen) {
        out.iter_mut().zip(&kv_of(j)[d_nope..]).for_each(|(out, &v)| *out += share * v);
    }
    out
}

fn dot<F: Real>(a: &[F], b: &[F]) -> F {
    a.iter().zip(b).map(|(&a, &b)| a * b).sum()
}

/// Turns and stretches the adjacent pairs of `x` as `position` says.
fn rotate<F: Real>(x: &mut [F], position: usize, turns: &Turns) {
    for (i, pair) in x.chunks_mut(2).enumerate() {
        let (cos, sin) = turns.at(i, position);
        let (cos, sin) = (F::of(cos), F::of(sin));
        (pair[0], pair[1]) = (pair[0] * cos - pair[1] * sin, pair[1] * cos + pair[0] * sin);
    }
}
