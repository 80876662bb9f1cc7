//! The network's dimensions and options, under the names that transformers uses.

use super::rope::{RopeScaling, from_table};
use serde::{Deserialize, Serialize};

/// How the weights of the selected experts are made from their scores p.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum RouterWeights {
    /// As transformers does. With softmax scores `routed_scaling_factor * p`, and `norm_topk_prob` is ignored; with
    /// sigmoid scores, which know no other way, `routed_scaling_factor * p / (norm_topk_prob ? sum + 1e-20 : 1)`.
    #[default]
    Hf,
    /// With `norm_topk_prob` and more than one expert: `p / (sum + 1e-20)` without scaling; else as `hf`.
    Deepseek,
    /// With `norm_topk_prob`: `p / (sum + 1e-9)`; else `p`.
    Seed,
    /// `routed_scaling_factor * p / (sum + 1e-20)`.
    NormScale,
}

/// How experts are scored by the router's logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum ScoringFunc {
    /// Softmax over all experts, as in DeepSeek-V2.
    #[default]
    Softmax,
    /// Sigmoid of each logit, as in DeepSeek-V3.
    Sigmoid,
}

/// How experts are selected from their scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum TopkMethod {
    /// The experts with the highest scores.
    #[default]
    Greedy,
    /// The same inside the `topk_group` groups with the highest maximum.
    GroupLimitedGreedy,
    /// The experts with the highest sums of score and bias, inside the `topk_group` groups whose two highest sums are
    /// together the highest; updates move the biases against the loads by `bias_update_speed`. Needs `sigmoid` scores.
    NoauxTc,
}

/// The model: `[model]` in TOML, `config.json` in a Hugging Face folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelConfig {
    /// V: rows of the embedding and of the head.
    pub vocab_size: usize,
    /// d: width of the residual stream.
    pub hidden_size: usize,
    /// L: number of blocks.
    pub num_hidden_layers: usize,
    /// H: attention heads; divides `hidden_size`.
    pub num_attention_heads: usize,
    /// Width of the query latent; absent for a full query projection.
    pub q_lora_rank: Option<usize>,
    /// r: width of the key-value latent.
    pub kv_lora_rank: usize,
    /// Width of a head's query and key without positions.
    pub qk_nope_head_dim: usize,
    /// Width of the rotated part of query and key; even.
    pub qk_rope_head_dim: usize,
    /// Width of a head's value.
    pub v_head_dim: usize,
    /// Width of the dense feed-forward layers.
    pub intermediate_size: usize,
    /// Width of one expert.
    pub moe_intermediate_size: usize,
    /// E: routed experts a layer.
    pub n_routed_experts: usize,
    /// Shared experts a layer (one feed-forward of this many expert widths); 0 for none.
    pub n_shared_experts: usize,
    /// K: routed experts a token.
    pub num_experts_per_tok: usize,
    /// The first layers, which are dense.
    pub first_k_dense_replace: usize,
    /// A later layer i is MoE if i is a multiple of this.
    pub moe_layer_freq: usize,
    /// How experts are scored.
    pub scoring_func: ScoringFunc,
    /// How experts are selected.
    pub topk_method: TopkMethod,
    /// Groups of experts, for `group_limited_greedy` and `noaux_tc`.
    pub n_group: usize,
    /// Groups kept, for `group_limited_greedy` and `noaux_tc`.
    pub topk_group: usize,
    /// What an update adds to the bias of an expert with fewer tokens than the mean, and takes from one with more, for
    /// `noaux_tc`; 0 leaves the biases as they are.
    pub bias_update_speed: f64,
    /// Whether selected scores are normalised; what that means is `router_weights`.
    pub norm_topk_prob: bool,
    /// What the weights of selected experts are.
    pub router_weights: RouterWeights,
    /// Factor on the routed experts' weights.
    pub routed_scaling_factor: f64,
    /// Weight of the balance loss; 0 switches it off.
    pub aux_loss_alpha: f64,
    /// Whether the balance loss counts each sequence on its own. `false` counts the tokens of a micro-batch as one
    /// sequence and takes the mean over the update's micro-batches: several small ones are then not the same as a large
    /// one, since each is to be balanced in itself.
    pub seq_aux: bool,
    /// Added to the mean square in block and final norms; the latent norms always use 1e-6.
    pub rms_norm_eps: f64,
    /// Base of the rotation frequencies.
    pub rope_theta: f64,
    /// Longest sequence; with dynamic scaling the longest that is not scaled.
    pub max_position_embeddings: usize,
    /// Whether the head shares the embedding's matrix.
    pub tie_word_embeddings: bool,
    /// How positions beyond the trained length are rotated.
    #[serde(deserialize_with = "from_table")]
    pub rope_scaling: RopeScaling,
    /// Standard deviation of initial weights.
    pub initializer_range: f64,
    /// Dropout rate on attention probabilities, in training.
    pub attention_dropout: f64,
    /// Dropout rate on the embedding's output, in training.
    pub embed_dropout: f64,
    /// Dropout rate on the attention's output projection, in training.
    pub resid_dropout: f64,
    /// Token that begins a text, if there is one.
    pub bos_token_id: Option<u32>,
    /// Token that ends a text.
    pub eos_token_id: u32,
}

impl Default for ModelConfig {
    /// The dimensions of the embedded default are in `assets/configs/tiny.toml`; these are for tests and start values.
    fn default() -> Self {
        ModelConfig {
            vocab_size: 512,
            hidden_size: 128,
            num_hidden_layers: 3,
            num_attention_heads: 4,
            q_lora_rank: None,
            kv_lora_rank: 32,
            qk_nope_head_dim: 16,
            qk_rope_head_dim: 8,
            v_head_dim: 16,
            intermediate_size: 256,
            moe_intermediate_size: 64,
            n_routed_experts: 8,
            n_shared_experts: 1,
            num_experts_per_tok: 2,
            first_k_dense_replace: 1,
            moe_layer_freq: 1,
            scoring_func: ScoringFunc::Softmax,
            topk_method: TopkMethod::Greedy,
            n_group: 1,
            topk_group: 1,
            bias_update_speed: 0.001,
            norm_topk_prob: false,
            router_weights: RouterWeights::Hf,
            routed_scaling_factor: 1.0,
            aux_loss_alpha: 0.001,
            seq_aux: true,
            rms_norm_eps: 1e-6,
            rope_theta: 10_000.0,
            max_position_embeddings: 512,
            tie_word_embeddings: false,
            rope_scaling: RopeScaling::default(),
            initializer_range: 0.02,
            attention_dropout: 0.0,
            embed_dropout: 0.0,
            resid_dropout: 0.0,
            bos_token_id: None,
            eos_token_id: 0,
        }
    }
}

impl ModelConfig {
    /// Width of a head's query and key: nope and rope parts.
    pub fn qk_head_dim(&self) -> usize {
        self.qk_nope_head_dim + self.qk_rope_head_dim
    }

    /// Whether block `layer` has experts.
    pub fn is_moe(&self, layer: usize) -> bool {
        layer >= self.first_k_dense_replace && layer.is_multiple_of(self.moe_layer_freq.max(1))
    }
    /// Whether layers with experts have a selection bias for each.
    pub fn has_expert_bias(&self) -> bool {
        self.topk_method == TopkMethod::NoauxTc
    }
}
