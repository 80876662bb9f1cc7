//! Mixture of experts, DeepSeek-V2 section 2.2: shared experts beside routed ones, no capacity, nothing dropped. With
//! sigmoid scores and selection biases as in DeepSeek-V3, section 2.1.2.

use super::feed_forward::feed_forward;
use super::inputs::Inputs;
use super::weights::Weights;
use crate::config::model::{ModelConfig, RouterWeights, ScoringFunc, TopkMethod};
use crate::graph::Tensor;
use crate::graph::op::{Balance, RouterSizes};
use crate::graph::tape::Tape;
use crate::kernels::router::{SIGMOID, SOFTMAX};

/// `residual + shared(x) + sum over the chosen experts of weight * expert(x)`.
///
/// Number of sequences in the window comes with the state words; the balance loss divides by it.
pub fn moe(
    t: &mut Tape<'_>,
    config: &ModelConfig,
    weights: &Weights,
    inputs: &Inputs,
    layer: usize,
    x: Tensor,
    residual: Tensor,
) -> Tensor {
    let prefix = format!("model.layers.{layer}.mlp");
    let w = |name: &str| weights.linear(&format!("{prefix}.{name}.weight"));

    let logits = t.linear(x, w("gate")); // (N, E)
    let bias = config.has_expert_bias().then(|| weights.vector(&bias_name(layer))); // (E)
    let (probs, chosen, gates) = t.router(logits, bias, sizes(config, inputs)); // (N, E), (N, K), (N, K)  eqs. 20 to 22
    t.balance_loss(probs, chosen, balance(config, inputs)); // section 2.2.3
    let routing = t.expert_sort(chosen, config.n_routed_experts);
    if let Some(loads) = inputs.expert_loads {
        t.expert_load(chosen, inputs.real, loads, config.moe_layers_before(layer));
    }

    let xs = t.expert_gather(x, routing); // (N K, d)
    let gate = t.linear_experts(xs, w("experts.gate_proj"), routing); // (N K, Im)
    let up = t.linear_experts(xs, w("experts.up_proj"), routing); // (N K, Im)
    let h = t.swiglu(gate, up); // (N K, Im)
    let o = t.linear_experts(h, w("experts.down_proj"), routing); // (N K, d)

    let shared = match config.n_shared_experts {
        0 => residual,
        _ => feed_forward(t, weights, &format!("{prefix}.shared_experts"), x, residual), // (N, d)
    };
    t.expert_combine(shared, o, gates, routing) // (N, d)  eq. 20
}

/// Name of the selection biases of a layer with experts.
pub fn bias_name(layer: usize) -> String {
    format!("model.layers.{layer}.mlp.gate.e_score_correction_bias")
}

/// How scores become weights: see [`RouterWeights`].
pub(super) fn sizes(config: &ModelConfig, inputs: &Inputs) -> RouterSizes {
    let scaling = config.routed_scaling_factor as f32;
    let sigmoid = config.scoring_func == ScoringFunc::Sigmoid;
    let (normalise, epsilon, scale) = match config.router_weights {
        RouterWeights::Hf if sigmoid => (config.norm_topk_prob, 1e-20, scaling),
        RouterWeights::Hf => (false, 0.0, scaling),
        RouterWeights::Deepseek if config.norm_topk_prob && config.num_experts_per_tok > 1 => (true, 1e-20, 1.0),
        RouterWeights::Deepseek => (false, 0.0, scaling),
        RouterWeights::Seed => (config.norm_topk_prob, 1e-9, 1.0),
        RouterWeights::NormScale => (true, 1e-20, scaling),
    };
    let (groups, groups_kept) = match config.topk_method {
        TopkMethod::Greedy => (1, 1),
        TopkMethod::GroupLimitedGreedy | TopkMethod::NoauxTc => (config.n_group as u32, config.topk_group as u32),
    };
    RouterSizes {
        rows: inputs.size.tokens() as u32,
        experts: config.n_routed_experts as u32,
        selected: config.num_experts_per_tok as u32,
        groups,
        groups_kept,
        normalise: u32::from(normalise),
        epsilon,
        scale,
        scoring: if sigmoid { SIGMOID } else { SOFTMAX },
        biased: config.has_expert_bias().into(),
    }
}

/// By sequence, or with all tokens as one. The state holds 1 / sequences of the window, and a micro-batch has `batch`
/// of these: that factor makes the mean over the window's sequences one over its micro-batches.
fn balance(config: &ModelConfig, inputs: &Inputs) -> Balance {
    let batch = inputs.size.batch;
    let (sequences, factor) = if config.seq_aux { (batch, 1.0) } else { (1, batch as f64) };
    Balance {
        sequences,
        alpha: (config.aux_loss_alpha * factor) as f32,
        real: inputs.real,
        state: inputs.state,
        result: inputs.loss.result,
        metrics: inputs.loss.metrics,
    }
}
