//! Multi-head latent attention, DeepSeek-V2 section 2.1.

use super::inputs::{Inputs, Kept};
use super::positions::score_scale;
use super::weights::Weights;
use crate::config::model::ModelConfig;
use crate::graph::Tensor;
use crate::graph::op::{AttentionSizes, CachePlace, CachedSizes};
use crate::graph::tape::Tape;

/// The latent norms ignore `rms_norm_eps` in every released model.
pub(super) const LATENT_EPSILON: f64 = 1e-6;

/// `residual + attention(x)`. Equation numbers: DeepSeek-V2, section 2.1. dq = dn + dr.
pub fn attention(
    t: &mut Tape<'_>,
    config: &ModelConfig,
    weights: &Weights,
    inputs: &Inputs,
    layer: usize,
    x: Tensor,
    residual: Tensor,
) -> Tensor {
    let w = |name: &str| weights.linear(&format!("model.layers.{layer}.self_attn.{name}.weight"));
    let norm = |name: &str| weights.vector(&format!("model.layers.{layer}.self_attn.{name}.weight"));
    let (heads, dq, dr) = (config.num_attention_heads, config.qk_head_dim(), config.qk_rope_head_dim);

    let q = match config.q_lora_rank {
        None => t.linear(x, w("q_proj")), // (N, H dq)
        Some(_) => {
            let c_q = t.linear(x, w("q_a_proj")); // (N, rq)           eq. 12
            let c_q = t.rms_norm(c_q, norm("q_a_layernorm"), LATENT_EPSILON);
            t.linear(c_q, w("q_b_proj")) // (N, H dq)         eqs. 13, 14
        }
    };
    let down = t.linear(x, w("kv_a_proj_with_mqa")); // (N, r + dr)       eqs. 9, 15
    let out = match &inputs.kept {
        Some(kept) => cached(t, config, weights, inputs, kept, layer, [q, down]), // (N, H dv)
        None => {
            let q = t.rope(q, inputs.rotation(heads, dq, dr)); // (N, H dq)         eq. 14
            let (c_kv, k_rope) = t.split(down, config.kv_lora_rank); // (N, r), (N, dr)
            let c_kv = t.rms_norm(c_kv, norm("kv_a_layernorm"), LATENT_EPSILON);
            let kv = t.linear(c_kv, w("kv_b_proj")); // (N, H (dn + dv))  eqs. 10, 11
            let k_rope = t.rope(k_rope, inputs.rotation(1, dr, dr)); // (N, dr), for all heads, eq. 15
            t.attention(q, kv, k_rope, inputs.mask(), sizes(config, inputs)) // (N, H dv)  eqs. 16 to 18
        }
    };
    if t.is_training() && config.resid_dropout > 0.0 {
        let out = t.linear(out, w("o_proj")); // (N, d)            eq. 19
        let out = t.dropout(out, inputs.state, config.resid_dropout);
        return t.add(residual, out);
    }
    t.linear_residual(out, w("o_proj"), residual) // (N, d)            eq. 19
}

fn sizes(config: &ModelConfig, inputs: &Inputs) -> AttentionSizes {
    AttentionSizes {
        batch: inputs.size.batch as u32,
        length: inputs.size.length as u32,
        heads: config.num_attention_heads as u32,
        nope: config.qk_nope_head_dim as u32,
        rope: config.qk_rope_head_dim as u32,
        value: config.v_head_dim as u32,
        scale: score_scale(config) as f32,
        dropout: config.attention_dropout as f32,
        site: 0, // the tape numbers the dropouts of a recording
        first_head: 0,
        head_count: (inputs.size.batch * config.num_attention_heads) as u32,
    }
}

/// The same over the latent cache: keys and values stay what they are made of, and `kv_b_proj` goes into queries and
/// sums instead ("absorbed", section 2.1.2). `q` (N, H dq), `down` (N, r + dr) to (N, H dv).
pub(super) fn cached(
    t: &mut Tape<'_>,
    config: &ModelConfig,
    weights: &Weights,
    inputs: &Inputs,
    kept: &Kept,
    layer: usize,
    [q, down]: [Tensor; 2],
) -> Tensor {
    let name = |name: &str| format!("model.layers.{layer}.self_attn.{name}.weight");
    let (norm, up) = (weights.vector(&name("kv_a_layernorm")), weights.get(&name("kv_b_proj")));
    let cache = &kept.cache;
    let sizes = CachedSizes {
        rows: inputs.size.tokens() as u32,
        heads: config.num_attention_heads as u32,
        nope: config.qk_nope_head_dim as u32,
        rope: config.qk_rope_head_dim as u32,
        value: config.v_head_dim as u32,
        latent: config.kv_lora_rank as u32,
        capacity: cache.capacity as u32,
        splits: cache.splits() as u32,
        scale: score_scale(config) as f32,
        epsilon: LATENT_EPSILON as f32,
    };
    let (slots, positions, table) = (kept.slots, inputs.positions, inputs.rope_table);
    let place = CachePlace { cache: cache.layers[layer], slots, positions, table };
    t.cached_attention(q, [down, norm], up, place, sizes) // eqs. 9 to 11, 14 to 18
}
