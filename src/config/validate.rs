//! Which values no network can have. Every refusal names one key and says what would be right.

use super::model::{ModelConfig, RouterWeights, ScoringFunc, TopkMethod};
use crate::error::{Error, Result};

/// Sizes stay below this, since kernels index with 32 bits.
const LARGEST_SIZE: usize = 1 << 31;
/// A trillion parameters: far above the largest published model, far below what arithmetic on sizes can bear.
const LARGEST_MODEL: u128 = 1 << 40;
/// Twice the tensors of the largest published model of this family.
const MOST_TENSORS: usize = 100_000;

/// A size under its key.
type NamedSize = (&'static str, usize);

impl ModelConfig {
    /// Checks that a network of these sizes can exist; its count of parameters is then below 2^40.
    ///
    /// Errors name the key as it stands under `[model]`.
    pub fn validate(&self) -> Result<()> {
        self.check_sizes()?;
        self.check_attention()?;
        self.check_experts()?;
        self.check_numbers()?;
        self.check_products()
    }

    /// Refuses, in the name of `key`, a pass of so many tokens that a tensor would outgrow 32-bit indices.
    pub fn check_pass(&self, key: &str, tokens: usize, remedy: &str) -> Result<()> {
        let heads = self.num_attention_heads as u128;
        let (k, inner) = (self.num_experts_per_tok as u128, self.moe_intermediate_size as u128);
        let [hidden, dense] = [self.hidden_size, self.intermediate_size].map(|size| size as u128);
        let [nope, rope, value] = [self.qk_nope_head_dim, self.qk_rope_head_dim, self.v_head_dim].map(|n| n as u128);
        let latents = self.kv_lora_rank as u128 + rope + self.q_lora_rank.unwrap_or(0) as u128;
        // Of a head's gradients the backward pass has all columns in one tensor.
        let mut widths = vec![hidden, latents, heads * (nope + rope + value), dense];
        if self.moe_layers() > 0 {
            widths.extend([
                k * hidden,
                k * inner,
                self.n_shared_experts as u128 * inner,
                self.n_routed_experts as u128,
            ]);
        }
        let most = LARGEST_SIZE as u128 / widths.into_iter().max().unwrap_or(1).max(1);
        if tokens as u128 <= most {
            return Ok(());
        }
        let reason = format!("{tokens} tokens are too many for one pass of this model, which takes {most} at most");
        Err(Error::config(key, format!("{reason}; {remedy}")))
    }

    /// Every size with its key; those that must not be 0 first.
    fn sizes(&self) -> (Vec<NamedSize>, Vec<NamedSize>) {
        let mut positive = vec![
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("kv_lora_rank", self.kv_lora_rank),
            ("qk_nope_head_dim", self.qk_nope_head_dim),
            ("qk_rope_head_dim", self.qk_rope_head_dim),
            ("v_head_dim", self.v_head_dim),
            ("moe_layer_freq", self.moe_layer_freq),
            ("max_position_embeddings", self.max_position_embeddings),
        ];
        positive.extend(self.q_lora_rank.map(|rank| ("q_lora_rank", rank)));
        let mut free = vec![
            ("n_shared_experts", self.n_shared_experts),
            ("first_k_dense_replace", self.first_k_dense_replace),
            ("n_group", self.n_group),
            ("topk_group", self.topk_group),
        ];
        // A width that no block has may be anything.
        let has_dense = self.moe_layers() < self.num_hidden_layers;
        let dense = ("intermediate_size", self.intermediate_size);
        if has_dense {
            positive.push(dense)
        } else {
            free.push(dense)
        }
        let sparse = ("moe_intermediate_size", self.moe_intermediate_size);
        if self.moe_layers() > 0 {
            positive.push(sparse)
        } else {
            free.push(sparse)
        }
        free.extend([("n_routed_experts", self.n_routed_experts), ("num_experts_per_tok", self.num_experts_per_tok)]);
        (positive, free)
    }

    fn check_sizes(&self) -> Result<()> {
        let (positive, free) = self.sizes();
        if let Some((key, _)) = positive.iter().find(|(_, size)| *size == 0) {
            return refuse(key, "is 0; it must be at least 1");
        }
        match positive.iter().chain(&free).find(|(_, size)| *size >= LARGEST_SIZE) {
            Some((key, size)) => refuse(key, format!("is {size}; it must be below {LARGEST_SIZE}")),
            None => Ok(()),
        }
    }

    fn check_attention(&self) -> Result<()> {
        let (d, heads, d_rope) = (self.hidden_size, self.num_attention_heads, self.qk_rope_head_dim);
        if !d.is_multiple_of(heads) {
            return refuse("hidden_size", format!("is {d}, which num_attention_heads = {heads} does not divide"));
        }
        if d_rope % 2 == 1 {
            return refuse("qk_rope_head_dim", format!("is {d_rope}; it must be even, since rotation turns pairs"));
        }
        Ok(())
    }

    fn check_experts(&self) -> Result<()> {
        if self.moe_layers() == 0 {
            return Ok(());
        }
        let (experts, k) = (self.n_routed_experts, self.num_experts_per_tok);
        if experts == 0 {
            let all = self.num_hidden_layers;
            let reason =
                format!("is 0 but some layers are to have experts; for none set first_k_dense_replace = {all}");
            return refuse("n_routed_experts", reason);
        }
        if k == 0 || k > experts {
            return refuse("num_experts_per_tok", format!("is {k}; it must be 1 to n_routed_experts = {experts}"));
        }
        self.check_scoring()?;
        if self.topk_method == TopkMethod::Greedy { Ok(()) } else { self.check_groups() }
    }

    /// Which ways to score, select and weigh experts go together.
    fn check_scoring(&self) -> Result<()> {
        let sigmoid = self.scoring_func == ScoringFunc::Sigmoid;
        if self.topk_method == TopkMethod::NoauxTc && !sigmoid {
            return refuse("topk_method", "is \"noaux_tc\", which needs scoring_func = \"sigmoid\"");
        }
        if sigmoid && self.router_weights != RouterWeights::Hf {
            return refuse(
                "router_weights",
                "is for softmax scores; with scoring_func = \"sigmoid\" it must be \"hf\"",
            );
        }
        Ok(())
    }

    fn check_groups(&self) -> Result<()> {
        let (experts, groups, kept, k) =
            (self.n_routed_experts, self.n_group, self.topk_group, self.num_experts_per_tok);
        if groups == 0 || !experts.is_multiple_of(groups) {
            return refuse("n_group", format!("is {groups}; it must divide n_routed_experts = {experts}"));
        }
        if self.topk_method == TopkMethod::NoauxTc && groups > 1 && experts < 2 * groups {
            let half = format!("is {groups}; it must be at most half of n_routed_experts = {experts}");
            let reason = format!("{half}, since noaux_tc judges a group by its two best experts");
            return refuse("n_group", reason);
        }
        if kept == 0 || kept > groups {
            return refuse("topk_group", format!("is {kept}; it must be 1 to n_group = {groups}"));
        }
        let reachable = kept * (experts / groups);
        if reachable < k {
            let reason =
                format!("is {kept}, which leaves {reachable} experts for num_experts_per_tok = {k}; keep more");
            return refuse("topk_group", reason);
        }
        Ok(())
    }

    fn check_numbers(&self) -> Result<()> {
        for (key, x) in [("rms_norm_eps", self.rms_norm_eps), ("rope_theta", self.rope_theta)] {
            if !(x.is_finite() && x > 0.0) {
                return refuse(key, format!("is {x}; it must be a positive number"));
            }
        }
        self.rope_scaling.validate(self.rope_theta)?;
        let not_negative = [
            ("routed_scaling_factor", self.routed_scaling_factor),
            ("aux_loss_alpha", self.aux_loss_alpha),
            ("bias_update_speed", self.bias_update_speed),
            ("initializer_range", self.initializer_range),
        ];
        for (key, x) in not_negative {
            if !(x.is_finite() && x >= 0.0) {
                return refuse(key, format!("is {x}; it must be a number that is not negative"));
            }
        }
        let rates = [
            ("attention_dropout", self.attention_dropout),
            ("embed_dropout", self.embed_dropout),
            ("resid_dropout", self.resid_dropout),
        ];
        match rates.iter().find(|(_, rate)| !(0.0..1.0).contains(rate)) {
            Some((key, rate)) => refuse(key, format!("is {rate}; it must be from 0 to below 1")),
            None => Ok(()),
        }
    }

    /// Blames the largest size where all of them together make too much.
    fn check_products(&self) -> Result<()> {
        let (mut sizes, _) = self.sizes();
        if self.moe_layers() > 0 {
            sizes.extend([("n_routed_experts", self.n_routed_experts), ("n_shared_experts", self.n_shared_experts)]);
        }
        // Of these, neither the layer frequency nor the sequence length makes parameters.
        sizes.retain(|(key, _)| !["moe_layer_freq", "max_position_embeddings"].contains(key));
        let (key, size) = sizes.into_iter().max_by_key(|&(_, size)| size).unwrap_or(("hidden_size", 0));
        let total = self.exact_total();
        if total > LARGEST_MODEL {
            let reason =
                format!("is {size}: the model would have {total} parameters, more than {LARGEST_MODEL} (2^40)");
            return refuse(key, reason);
        }
        let tensors = self
            .moe_layers()
            .saturating_mul(3 * self.n_routed_experts + 4)
            .saturating_add(self.num_hidden_layers.saturating_mul(12));
        if tensors > MOST_TENSORS {
            let reason = format!("is {size}: the model would have some {tensors} tensors, more than {MOST_TENSORS}");
            return refuse(key, reason);
        }
        Ok(())
    }
}

fn refuse(key: &str, reason: impl Into<String>) -> Result<()> {
    Err(Error::config(format!("model.{key}"), reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The key that validation blames after `change`, or "" where it accepts.
    fn blamed(change: impl FnOnce(&mut ModelConfig)) -> String {
        let mut c = ModelConfig::default();
        change(&mut c);
        match c.validate() {
            Ok(()) => String::new(),
            Err(Error::Config { key, .. }) => key.trim_start_matches("model.").to_owned(),
            Err(other) => panic!("not a configuration error: {other}"),
        }
    }

    #[test]
    fn the_default_is_possible() {
        ModelConfig::default().validate().unwrap();
    }

    #[test]
    fn a_size_of_zero_is_refused_by_its_name() {
        assert_eq!(blamed(|c| c.vocab_size = 0), "vocab_size");
        assert_eq!(blamed(|c| c.num_hidden_layers = 0), "num_hidden_layers");
        assert_eq!(blamed(|c| c.num_attention_heads = 0), "num_attention_heads");
        assert_eq!(blamed(|c| c.q_lora_rank = Some(0)), "q_lora_rank");
        assert_eq!(blamed(|c| c.moe_layer_freq = 0), "moe_layer_freq");
        assert_eq!(blamed(|c| c.intermediate_size = 0), "intermediate_size");
        assert_eq!(blamed(|c| c.moe_intermediate_size = 0), "moe_intermediate_size");
        assert_eq!(blamed(|c| (c.intermediate_size, c.first_k_dense_replace) = (0, 0)), "");
        assert_eq!(blamed(|c| (c.moe_intermediate_size, c.first_k_dense_replace) = (0, 3)), "");
    }

    #[test]
    fn heads_and_rotated_widths_that_do_not_fit_are_refused() {
        assert_eq!(blamed(|c| c.num_attention_heads = 3), "hidden_size");
        assert_eq!(blamed(|c| c.qk_rope_head_dim = 7), "qk_rope_head_dim");
    }

    #[test]
    fn routing_that_cannot_choose_enough_experts_is_refused() {
        let grouped = |c: &mut ModelConfig, groups, kept| {
            (c.topk_method, c.n_group, c.topk_group) = (TopkMethod::GroupLimitedGreedy, groups, kept);
        };
        assert_eq!(blamed(|c| c.n_routed_experts = 0), "n_routed_experts");
        assert_eq!(blamed(|c| (c.n_routed_experts, c.first_k_dense_replace) = (0, 3)), "");
        assert_eq!(blamed(|c| c.num_experts_per_tok = 0), "num_experts_per_tok");
        assert_eq!(blamed(|c| c.num_experts_per_tok = 9), "num_experts_per_tok");
        assert_eq!(blamed(|c| grouped(c, 3, 1)), "n_group");
        assert_eq!(blamed(|c| grouped(c, 4, 5)), "topk_group");
        assert_eq!(blamed(|c| grouped(c, 8, 1)), "topk_group");
        assert_eq!(blamed(|c| grouped(c, 8, 2)), "");
    }

    #[test]
    fn ways_to_score_select_and_weigh_that_do_not_go_together_are_refused() {
        let sigmoid = |c: &mut ModelConfig, method, groups, kept| {
            (c.scoring_func, c.topk_method) = (ScoringFunc::Sigmoid, method);
            (c.n_group, c.topk_group) = (groups, kept);
        };
        assert_eq!(blamed(|c| c.topk_method = TopkMethod::NoauxTc), "topk_method");
        assert_eq!(blamed(|c| (c.topk_method, c.first_k_dense_replace) = (TopkMethod::NoauxTc, 3)), "");
        assert_eq!(blamed(|c| sigmoid(c, TopkMethod::Greedy, 3, 1)), "");
        assert_eq!(blamed(|c| sigmoid(c, TopkMethod::GroupLimitedGreedy, 8, 2)), "");
        assert_eq!(blamed(|c| sigmoid(c, TopkMethod::NoauxTc, 1, 1)), "");
        assert_eq!(blamed(|c| sigmoid(c, TopkMethod::NoauxTc, 4, 1)), "");
        assert_eq!(blamed(|c| sigmoid(c, TopkMethod::NoauxTc, 3, 1)), "n_group");
        assert_eq!(blamed(|c| sigmoid(c, TopkMethod::NoauxTc, 8, 2)), "n_group");
        assert_eq!(
            blamed(|c| (c.scoring_func, c.router_weights) = (ScoringFunc::Sigmoid, RouterWeights::Seed)),
            "router_weights"
        );
    }

    #[test]
    fn numbers_that_are_not_finite_or_out_of_range_are_refused() {
        assert_eq!(blamed(|c| c.rms_norm_eps = f64::NAN), "rms_norm_eps");
        assert_eq!(blamed(|c| c.rms_norm_eps = 0.0), "rms_norm_eps");
        assert_eq!(blamed(|c| c.rope_theta = f64::INFINITY), "rope_theta");
        assert_eq!(blamed(|c| c.routed_scaling_factor = -1.0), "routed_scaling_factor");
        assert_eq!(blamed(|c| c.aux_loss_alpha = f64::NAN), "aux_loss_alpha");
        assert_eq!(blamed(|c| c.bias_update_speed = -0.001), "bias_update_speed");
        assert_eq!(blamed(|c| c.attention_dropout = 1.0), "attention_dropout");
        assert_eq!(blamed(|c| c.embed_dropout = f64::NAN), "embed_dropout");
    }

    #[test]
    fn sizes_whose_products_are_too_large_are_refused_without_overflow() {
        assert_eq!(blamed(|c| c.vocab_size = usize::MAX), "vocab_size");
        assert_eq!(blamed(|c| c.vocab_size = LARGEST_SIZE), "vocab_size");
        assert_eq!(blamed(|c| c.n_shared_experts = 1 << 30), "n_shared_experts");
        assert_eq!(blamed(|c| c.num_hidden_layers = 1 << 24), "num_hidden_layers");
        let most = LARGEST_SIZE - 2;
        assert_eq!(
            blamed(|c| {
                (c.vocab_size, c.hidden_size, c.num_hidden_layers, c.num_attention_heads) = (most, most, most, most);
                (c.q_lora_rank, c.kv_lora_rank, c.qk_nope_head_dim) = (Some(most), most, most);
                (c.qk_rope_head_dim, c.v_head_dim, c.intermediate_size) = (most, most, most);
                (c.moe_intermediate_size, c.n_routed_experts, c.n_shared_experts) = (most, most, most);
            }),
            "n_shared_experts"
        );
    }
}
