//! Multi-head latent attention, DeepSeek-V2 section 2.1, with the expanded keys and values of training.

use super::{Batch, Params, Real, linear, rms_norm, softmax, weight};
use crate::config::model::ModelConfig;

/// The latent norms' epsilon, whatever `rms_norm_eps` says: so in the original code and in transformers.
const LATENT_EPSILON: f64 = 1e-6;

/// The attention of one block on its normalised input. x (N, d), result (N, d)
pub(super) fn attention<F: Real>(
    c: &ModelConfig,
    params: &Params<F>,
    prefix: &str,
    batch: &Batch<'_>,
    x: &[F],
) -> Vec<F> {
    let get = |name: &str| weight(params, &format!("{prefix}.{name}.weight"));
    let (d, heads, r) = (c.hidden_size, c.num_attention_heads, c.kv_lora_rank);
    let (d_nope, d_rope, d_value, d_query) = (c.qk_nope_head_dim, c.qk_rope_head_dim, c.v_head_dim, c.qk_head_dim());

    // Queries, (N, H, nope + rope).
    let mut q = match c.q_lora_rank {
        None => linear(x, get("q_proj"), d, heads * d_query),
        Some(rank) => {
            let latent = rms_norm(&linear(x, get("q_a_proj"), d, rank), get("q_a_layernorm"), LATENT_EPSILON);
            linear(&latent, get("q_b_proj"), rank, heads * d_query)
        }
    };
    // The latent of keys and values, (N, r), and the one rotated key of all heads, (N, rope).
    let joint = linear(x, get("kv_a_proj_with_mqa"), d, r + d_rope);
    let mut latent = Vec::new();
    let mut k_rope = Vec::new();
    for row in joint.chunks(r + d_rope) {
        latent.extend_from_slice(&row[..r]);
        k_rope.extend_from_slice(&row[r..]);
    }
    let latent = rms_norm(&latent, get("kv_a_layernorm"), LATENT_EPSILON);
    // Keys and values of each head, (N, H, nope + value).
    let kv = linear(&latent, get("kv_b_proj"), r, heads * (d_nope + d_value));

    for b in 0..batch.batch {
        for t in 0..batch.length {
            let (token, position) = (b * batch.length + t, t - batch.start(b, t));
            rotate(&mut k_rope[token * d_rope..][..d_rope], position, c.rope_theta);
            for head in 0..heads {
                let query = &mut q[(token * heads + head) * d_query..][..d_query];
                rotate(&mut query[d_nope..], position, c.rope_theta);
            }
        }
    }

    let scale = F::of(1.0 / (d_query as f64).sqrt());
    let mut out = vec![F::zero(); batch.ids.len() * heads * d_value]; // (N, H, value)
    for b in 0..batch.batch {
        for t in 0..batch.length {
            let token = b * batch.length + t;
            let seen: Vec<usize> = (batch.start(b, t)..=t).map(|j| b * batch.length + j).collect();
            for head in 0..heads {
                let query = &q[(token * heads + head) * d_query..][..d_query];
                let kv_of = |j: usize| &kv[(j * heads + head) * (d_nope + d_value)..][..d_nope + d_value];
                let score = |&j: &usize| {
                    let without_position = dot(&query[..d_nope], &kv_of(j)[..d_nope]);
                    scale * (without_position + dot(&query[d_nope..], &k_rope[j * d_rope..][..d_rope]))
                };
                let p = softmax(&seen.iter().map(score).collect::<Vec<F>>());
                let out = &mut out[(token * heads + head) * d_value..][..d_value];
                for (&p, &j) in p.iter().zip(&seen) {
                    out.iter_mut().zip(&kv_of(j)[d_nope..]).for_each(|(out, &v)| *out += p * v);
                }
            }
        }
    }
    linear(&out, get("o_proj"), heads * d_value, d)
}

fn dot<F: Real>(a: &[F], b: &[F]) -> F {
    a.iter().zip(b).map(|(&a, &b)| a * b).sum()
}

/// Turns the adjacent pairs of `x` by `position * base^(-2 i / width)`, i the number of the pair.
fn rotate<F: Real>(x: &mut [F], position: usize, base: f64) {
    let width = x.len() as f64;
    for (i, pair) in x.chunks_mut(2).enumerate() {
        let angle = position as f64 * base.powf(-2.0 * i as f64 / width);
        let (sin, cos) = (F::of(angle.sin()), F::of(angle.cos()));
        (pair[0], pair[1]) = (pair[0] * cos - pair[1] * sin, pair[1] * cos + pair[0] * sin);
    }
}
