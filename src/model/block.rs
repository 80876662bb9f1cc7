//! One transformer block.

use super::attention::attention;
use super::feed_forward::feed_forward;
use super::inputs::Inputs;
use super::moe::moe;
use super::weights::Weights;
use crate::config::model::ModelConfig;
use crate::config::train::Recompute;
use crate::graph::Tensor;
use crate::graph::tape::Tape;

/// `h + attention(norm(h))`, then `h + feed_forward(norm(h))`, with experts where the layer has them. What `recompute`
/// names is made again in the backward pass.
pub fn block(
    t: &mut Tape<'_>,
    config: &ModelConfig,
    weights: &Weights,
    inputs: &Inputs,
    layer: usize,
    h: Tensor,
    recompute: Recompute,
) -> Tensor {
    let norm = |name: &str| weights.vector(&format!("model.layers.{layer}.{name}.weight"));
    t.repeat(recompute == Recompute::Block, |t| {
        let x = t.rms_norm(h, norm("input_layernorm"), config.rms_norm_eps); // (N, d)
        let h = attention(t, config, weights, inputs, layer, x, h); // (N, d)
        t.repeat(recompute == Recompute::Ffn, |t| {
            let x = t.rms_norm(h, norm("post_attention_layernorm"), config.rms_norm_eps); // (N, d)
            if config.is_moe(layer) {
                moe(t, config, weights, inputs, layer, x, h) // (N, d)
            } else {
                feed_forward(t, weights, &format!("model.layers.{layer}.mlp"), x, h) // (N, d)
            }
        })
    })
}
