//! The whole network: embedding, blocks, final norm, head.

use super::block::block;
use super::inputs::Inputs;
use super::weights::Weights;
use crate::config::model::ModelConfig;
use crate::config::train::Recompute;
use crate::graph::Tensor;
use crate::graph::op::Linear;
use crate::graph::tape::Tape;

/// Hidden states after the final norm: (N, d). What `recompute` names of each block but the last is made again in the
/// backward pass. That begins with the last block: its activations would be made again as soon as the head is done.
pub fn hidden(
    t: &mut Tape<'_>,
    config: &ModelConfig,
    weights: &Weights,
    inputs: &Inputs,
    recompute: Recompute,
) -> Tensor {
    let table = weights.get("model.embed_tokens.weight");
    let h = t.embed(inputs.ids, table, inputs.token_order, inputs.segments); // (N, d)
    let mut h = t.dropout(h, inputs.state, config.embed_dropout); // (N, d)
    for layer in 0..config.num_hidden_layers {
        let recompute = if layer + 1 < config.num_hidden_layers { recompute } else { Recompute::None };
        h = block(t, config, weights, inputs, layer, h, recompute); // (N, d)
    }
    t.rms_norm(h, weights.vector("model.norm.weight"), config.rms_norm_eps) // (N, d)
}

/// The head: its own matrix, or the embedding's when tied. (V, d)
pub fn head<'w>(config: &ModelConfig, weights: &'w Weights) -> Linear<'w> {
    weights.linear(if config.tie_word_embeddings { "model.embed_tokens.weight" } else { "lm_head.weight" })
}
