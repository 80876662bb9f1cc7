//! The network for a few tokens of generation: the equations of `attention`, `feed_forward` and `moe` in fewer and
//! larger operations. There, what a token costs is to start operations and to read the weights once.

use super::attention::{LATENT_EPSILON, cached};
use super::inputs::{Inputs, Kept};
use super::moe::{bias_name, sizes};
use super::transformer::head;
use super::weights::Weights;
use crate::config::model::ModelConfig;
use crate::graph::Tensor;
use crate::graph::op::{FewExperts, Normed};
use crate::graph::tape::Tape;

/// Whether all weights are in one tensor each, which these operations want.
pub fn fits(weights: &Weights) -> bool {
    weights.all.iter().all(|parameter| parameter.weight.parts.len() == 1)
}

/// Logits of every row, from ids to the head: (N, V).
pub fn logits(t: &mut Tape<'_>, config: &ModelConfig, weights: &Weights, inputs: &Inputs, kept: &Kept) -> Tensor {
    let table = weights.get("model.embed_tokens.weight");
    let mut h = t.embed(inputs.ids, table, inputs.token_order, inputs.segments); // (N, d)
    for layer in 0..config.num_hidden_layers {
        h = attention(t, config, weights, inputs, kept, layer, h); // (N, d)
        h = feed_forward(t, config, weights, inputs, layer, h); // (N, d)
    }
    t.few_logits(h, (weights.vector("model.norm.weight"), config.rms_norm_eps), head(config, weights).weight) // (N, V)
}

/// `h + attention(norm(h))`.
fn attention(
    t: &mut Tape<'_>,
    config: &ModelConfig,
    weights: &Weights,
    inputs: &Inputs,
    kept: &Kept,
    layer: usize,
    h: Tensor,
) -> Tensor {
    let w = |name: &str| weights.get(&format!("model.layers.{layer}.self_attn.{name}.weight"));
    let norm = |name: &str| weights.vector(&format!("model.layers.{layer}.{name}.weight"));
    let input = Some((norm("input_layernorm"), config.rms_norm_eps));
    let q = match config.q_lora_rank {
        None => t.few_linear(h, input, w("q_proj"), None), // (N, H dq)
        Some(_) => {
            let c_q = t.few_linear(h, input, w("q_a_proj"), None); // (N, rq)     eq. 12
            let latent = Some((norm("self_attn.q_a_layernorm"), LATENT_EPSILON));
            t.few_linear(c_q, latent, w("q_b_proj"), None) // (N, H dq)   eq. 13
        }
    };
    let down = t.few_linear(h, input, w("kv_a_proj_with_mqa"), None); // (N, r + dr) eqs. 9, 15
    let out = cached(t, config, weights, inputs, kept, layer, [q, down]); // (N, H dv)
    t.few_linear(out, None, w("o_proj"), Some(h)) // (N, d)      eq. 19
}

/// `h + feed_forward(norm(h))`, with experts where the layer has them.
fn feed_forward(
    t: &mut Tape<'_>,
    config: &ModelConfig,
    weights: &Weights,
    inputs: &Inputs,
    layer: usize,
    h: Tensor,
) -> Tensor {
    let norm = weights.vector(&format!("model.layers.{layer}.post_attention_layernorm.weight"));
    let x = Normed { x: h, weight: norm, epsilon: config.rms_norm_eps as f32 };
    let matrices = |of: &str| {
        let name = |matrix: &str| format!("model.layers.{layer}.mlp.{of}{matrix}_proj.weight");
        ["gate", "up", "down"].map(|matrix| weights.get(&name(matrix)).single())
    };
    if !config.is_moe(layer) {
        return t.few_experts(x, FewExperts { routed: None, experts: None, shared: Some(matrices("")) }); // (N, d)
    }
    let gate = weights.get(&format!("model.layers.{layer}.mlp.gate.weight"));
    let logits = t.few_linear(h, Some((norm, config.rms_norm_eps)), gate, None); // (N, E)
    let bias = config.has_expert_bias().then(|| weights.vector(&bias_name(layer))); // (E)
    let (_, chosen, gates) = t.router(logits, bias, sizes(config, inputs)); // (N, K), (N, K)  eqs. 20 to 22
    let shared = (config.n_shared_experts > 0).then(|| matrices("shared_experts."));
    let experts = Some(matrices("experts."));
    t.few_experts(x, FewExperts { routed: Some([chosen, gates]), experts, shared }) // (N, d)
}
