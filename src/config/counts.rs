//! Parameters and floating-point operations of a model in closed form, for configurations that passed `validate`.

use super::model::ModelConfig;

/// The three shares of a block's weights, in elements.
struct Shares {
    /// All weights of one attention, latent norms included.
    attention: u128,
    /// The latent norms among them.
    latent_norms: u128,
    /// One routed expert.
    expert: u128,
}

impl ModelConfig {
    /// Blocks that have experts: the multiples of `moe_layer_freq` in `first_k_dense_replace..num_hidden_layers`.
    pub fn moe_layers(&self) -> usize {
        self.moe_layers_before(self.num_hidden_layers)
    }

    /// How many of the blocks before block `end` have experts.
    pub fn moe_layers_before(&self, end: usize) -> usize {
        let step = self.moe_layer_freq.max(1);
        let multiples_below = |end: usize| end.div_ceil(step);
        multiples_below(end) - multiples_below(self.first_k_dense_replace.min(end))
    }

    fn shares(&self) -> Shares {
        let [d, heads, r] = [self.hidden_size, self.num_attention_heads, self.kv_lora_rank].map(wide);
        let [d_rope, d_value] = [self.qk_rope_head_dim, self.v_head_dim].map(wide);
        let (d_nope, q_width) = (wide(self.qk_nope_head_dim), heads * wide(self.qk_head_dim()));
        let rank = self.q_lora_rank.map_or(0, wide);
        let query = if self.q_lora_rank.is_some() { d * rank + rank + rank * q_width } else { d * q_width };
        let keys_and_values = d * (r + d_rope) + r + r * heads * (d_nope + d_value);
        Shares {
            attention: query + keys_and_values + heads * d_value * d,
            latent_norms: rank + r,
            expert: 3 * d * wide(self.moe_intermediate_size),
        }
    }

    /// The exact total. Sizes below 2^31 cannot overflow it.
    pub(super) fn exact_total(&self) -> u128 {
        let [v, d, layers, moe] =
            [self.vocab_size, self.hidden_size, self.num_hidden_layers, self.moe_layers()].map(wide);
        let [experts, shared] = [self.n_routed_experts, self.n_shared_experts].map(wide);
        let Shares { attention, expert, .. } = self.shares();
        let vocabulary = v * d * if self.tie_word_embeddings { 1 } else { 2 };
        let dense = (layers - moe) * 3 * d * wide(self.intermediate_size);
        let sparse = moe * (experts * d + shared * expert + experts * expert);
        vocabulary + d + layers * (attention + 2 * d) + dense + sparse
    }

    /// Every trained number; a shared embedding counts once.
    pub fn total_parameters(&self) -> u64 {
        self.exact_total() as u64
    }

    fn exact_activated(&self) -> u128 {
        let idle = self.n_routed_experts.saturating_sub(self.num_experts_per_tok);
        self.exact_total() - wide(self.moe_layers()) * wide(idle) * self.shares().expert
    }

    /// What one token uses: all but the routed experts it is not sent to.
    pub fn activated_parameters(&self) -> u64 {
        self.exact_activated() as u64
    }

    /// Weights that multiply a token: the activated ones without norms and the embedding lookup; the head counts.
    pub fn multiplied_weights(&self) -> u64 {
        let [v, d, layers] = [self.vocab_size, self.hidden_size, self.num_hidden_layers].map(wide);
        let lookup = if self.tie_word_embeddings { 0 } else { v * d };
        let norms = d + layers * (2 * d + self.shares().latent_norms);
        (self.exact_activated() - lookup - norms) as u64
    }

    /// Floating-point operations of training on one token of causal rows of `sequence_length` tokens. Recomputation
    /// is not counted.
    pub fn training_flops_per_token(&self, sequence_length: usize) -> f64 {
        self.training_flops_per_token_at((sequence_length as f64 + 1.0) / 2.0)
    }

    /// The same by the PaLM convention, in which every query meets all `sequence_length` keys.
    pub fn training_flops_per_token_palm(&self, sequence_length: usize) -> f64 {
        self.training_flops_per_token_at(sequence_length as f64)
    }

    /// The same where a query sees `mean_keys` keys on average, as packed documents do: `6 M + 6 L H (dq + dv) keys`.
    pub fn training_flops_per_token_at(&self, mean_keys: f64) -> f64 {
        let widths =
            (self.num_hidden_layers * self.num_attention_heads * (self.qk_head_dim() + self.v_head_dim)) as f64;
        6.0 * self.multiplied_weights() as f64 + 6.0 * widths * mean_keys
    }
}

fn wide(size: usize) -> u128 {
    size as u128
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lite() -> ModelConfig {
        ModelConfig {
            vocab_size: 102_400,
            hidden_size: 2048,
            num_hidden_layers: 27,
            num_attention_heads: 16,
            q_lora_rank: None,
            kv_lora_rank: 512,
            qk_nope_head_dim: 128,
            qk_rope_head_dim: 64,
            v_head_dim: 128,
            intermediate_size: 10_944,
            moe_intermediate_size: 1408,
            n_routed_experts: 64,
            n_shared_experts: 2,
            num_experts_per_tok: 6,
            first_k_dense_replace: 1,
            ..ModelConfig::default()
        }
    }

    fn seed() -> ModelConfig {
        ModelConfig {
            vocab_size: 101_024,
            hidden_size: 1024,
            num_hidden_layers: 4,
            intermediate_size: 4096,
            moe_intermediate_size: 1024,
            ..lite()
        }
    }

    fn full() -> ModelConfig {
        ModelConfig {
            hidden_size: 5120,
            num_hidden_layers: 60,
            num_attention_heads: 128,
            q_lora_rank: Some(1536),
            intermediate_size: 12_288,
            moe_intermediate_size: 1536,
            n_routed_experts: 160,
            ..lite()
        }
    }

    #[test]
    fn the_published_models_have_their_published_sizes() {
        let counts = |c: ModelConfig| (c.total_parameters(), c.activated_parameters(), c.multiplied_weights());
        assert_eq!(counts(lite()), (15_706_484_224, 2_661_150_208, 2_451_308_544));
        assert_eq!(counts(full()), (235_741_434_880, 21_375_800_320, 20_850_769_920));
        assert_eq!(counts(seed()), (874_261_504, 326_904_832, 223_444_992));
    }

    #[test]
    fn training_costs_are_those_of_the_closed_form() {
        let near = |found: f64, expected: f64| assert!((found / expected - 1.0).abs() < 5e-6, "{found} {expected}");
        near(seed().training_flops_per_token(512), 1.37219e9);
        near(seed().training_flops_per_token_palm(512), 1.40358e9);
        near(lite().training_flops_per_token(4096), 1.64070e10);
    }

    #[test]
    fn a_shared_embedding_counts_once_and_still_multiplies_as_the_head() {
        let tied = ModelConfig { tie_word_embeddings: true, ..lite() };
        assert_eq!(lite().total_parameters() - tied.total_parameters(), 102_400 * 2048);
        assert_eq!(lite().multiplied_weights(), tied.multiplied_weights());
    }

    #[test]
    fn layers_with_experts_are_counted_as_is_moe_selects_them() {
        for (first, step, layers) in [(0, 1, 5), (1, 1, 5), (1, 2, 7), (2, 3, 10), (9, 2, 4), (3, 3, 3)] {
            let c = ModelConfig {
                first_k_dense_replace: first,
                moe_layer_freq: step,
                num_hidden_layers: layers,
                ..ModelConfig::default()
            };
            assert_eq!(c.moe_layers(), (0..layers).filter(|&i| c.is_moe(i)).count());
        }
    }
}
