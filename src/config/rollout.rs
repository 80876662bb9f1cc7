//! How answers are drawn to be learnt from: `[rollout]` in TOML; and what is learnt from them: `[grpo]`, `[ppo]`.

use super::train::demand;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// Answers that the policy draws itself. A batch of them is learnt from in `num_iterations` times
/// `num_mini_batches` updates; then the next is drawn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RolloutConfig {
    /// Prompts of a batch; default 16.
    pub prompts: usize,
    /// G: answers to each prompt; default 8.
    pub num_generations: usize,
    /// Tokens of an answer at most, the one that ends it included; default 64.
    pub max_completion_length: usize,
    /// Sequences that are drawn at a time; 0 for all of a batch, at most 256; default 0.
    pub slots: usize,
    /// τ: temperature of the draw, by which the policy's logits are divided in learning too; default 1.
    pub temperature: f64,
    /// The most probable tokens that are drawn from; 0 for all; default 0.
    pub top_k: usize,
    /// Probability that the tokens drawn from have together at least; default 1.
    pub top_p: f64,
    /// Share of the largest probability below which no token is drawn; default 0.
    pub min_p: f64,
    /// μ: times that a batch is learnt from; default 1.
    pub num_iterations: usize,
    /// Parts of a batch, each of which makes an update; default 1.
    pub num_mini_batches: usize,
    /// Held-out prompts that a validation answers, greedily; default 128.
    pub eval_prompts: usize,
    /// Lines of the data that may be unusable, and are left out; one more ends the run before it begins; default 0.
    pub max_bad_lines: usize,
}

impl Default for RolloutConfig {
    fn default() -> Self {
        RolloutConfig {
            prompts: 16,
            num_generations: 8,
            max_completion_length: 64,
            slots: 0,
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            num_iterations: 1,
            num_mini_batches: 1,
            eval_prompts: 128,
            max_bad_lines: 0,
        }
    }
}

/// Most sequences that are drawn at a time where `slots` does not say more.
const SLOTS: usize = 256;
/// Most answers of a batch.
const MOST_ANSWERS: usize = 1 << 16;

impl RolloutConfig {
    /// Answers of a batch.
    pub fn answers(&self) -> usize {
        self.prompts.saturating_mul(self.num_generations)
    }

    /// Updates that a batch makes.
    pub fn updates(&self) -> u64 {
        (self.num_iterations as u64).saturating_mul(self.num_mini_batches as u64).max(1)
    }

    /// Sequences that are drawn at a time.
    pub fn slots(&self) -> usize {
        let all = self.answers();
        if self.slots == 0 { all.min(SLOTS) } else { self.slots.min(all) }
    }

    /// Refuses what cannot be drawn.
    ///
    /// # Errors
    /// Name the key.
    pub fn validate(&self) -> Result<()> {
        for (key, count) in [
            ("prompts", self.prompts),
            ("num_generations", self.num_generations),
            ("max_completion_length", self.max_completion_length),
            ("num_iterations", self.num_iterations),
            ("num_mini_batches", self.num_mini_batches),
        ] {
            if count == 0 || count > MOST_ANSWERS {
                let reason = format!("is {count}, and must be 1 to {MOST_ANSWERS}");
                return Err(Error::config(format!("rollout.{key}"), reason));
            }
        }
        if self.eval_prompts > MOST_ANSWERS {
            let reason = format!("is {}, and must be at most {MOST_ANSWERS}", self.eval_prompts);
            return Err(Error::config("rollout.eval_prompts", reason));
        }
        let (answers, parts) = (self.answers(), self.num_mini_batches);
        if answers > MOST_ANSWERS {
            let reason =
                format!("makes {answers} answers with rollout.num_generations; at most {MOST_ANSWERS} are drawn");
            return Err(Error::config("rollout.prompts", reason));
        }
        if parts > answers {
            let reason = format!("is {parts}, more than the {answers} answers of a batch");
            return Err(Error::config("rollout.num_mini_batches", reason));
        }
        let (t, p, least) = (self.temperature, self.top_p, self.min_p);
        demand(t > 0.0 && t.is_finite(), "rollout.temperature", t, "a positive number")?;
        demand(p > 0.0 && p <= 1.0, "rollout.top_p", p, "above 0 and at most 1")?;
        demand((0.0..1.0).contains(&least), "rollout.min_p", least, "at least 0 and below 1")
    }
}

/// What a group's rewards are divided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum ScaleRewards {
    /// The standard deviation of the prompt's answers.
    #[default]
    Group,
    /// That of the whole batch.
    Batch,
    /// Nothing.
    None,
}

/// What the loss is a mean over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum LossType {
    /// Over answers, of the means over their tokens.
    Grpo,
    /// Over the tokens of all answers.
    #[default]
    Dapo,
    /// The sum over as many tokens as the answers could have.
    DrGrpo,
}

/// Group relative policy optimisation. (Shao et al. 2024, "DeepSeekMath")
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GrpoConfig {
    /// β: factor on the divergence (k3) from the weights that the run began with; 0 for none; default 0.
    pub beta: f64,
    /// Factor on the entropy of each token's distribution, which lowers the loss; 0 for none; default 0.
    pub ent_coef: f64,
    /// ε: how far the ratio of probabilities may fall below 1 before it is clipped; default 0.2.
    pub epsilon: f64,
    /// How far it may rise above 1; `epsilon` if absent.
    pub epsilon_high: Option<f64>,
    /// What advantages are divided by: `group`, `batch` or `none`; default `group`.
    pub scale_rewards: ScaleRewards,
    /// What the loss is a mean over: `grpo`, `dapo` or `dr_grpo`; default `dapo`.
    pub loss_type: LossType,
    /// Whether answers that did not end count in no loss; default false.
    pub mask_truncated_completions: bool,
}

impl Default for GrpoConfig {
    fn default() -> Self {
        GrpoConfig {
            beta: 0.0,
            ent_coef: 0.0,
            epsilon: 0.2,
            epsilon_high: None,
            scale_rewards: ScaleRewards::Group,
            loss_type: LossType::Dapo,
            mask_truncated_completions: false,
        }
    }
}

impl GrpoConfig {
    /// How far the ratio may leave 1: below, above.
    pub fn clip(&self) -> [f64; 2] {
        [self.epsilon, self.epsilon_high.unwrap_or(self.epsilon)]
    }

    /// Refuses values that mean nothing.
    ///
    /// # Errors
    /// Name the key.
    pub fn validate(&self) -> Result<()> {
        let [low, high] = self.clip();
        demand(self.beta >= 0.0 && self.beta.is_finite(), "grpo.beta", self.beta, "0 or a positive number")?;
        let bonus = self.ent_coef;
        demand(bonus >= 0.0 && bonus.is_finite(), "grpo.ent_coef", bonus, "0 or a positive number")?;
        demand(low > 0.0 && low < 1.0, "grpo.epsilon", low, "above 0 and below 1")?;
        demand(high > 0.0 && high.is_finite(), "grpo.epsilon_high", high, "a positive number")
    }
}

/// How a token's divergence from the reference is estimated, with δ the reference's log-probability minus the policy's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum KlEstimator {
    /// -δ: right on average, of either sign.
    #[default]
    K1,
    /// e^δ - 1 - δ: never negative, less variance.
    K3,
}

/// Proximal policy optimisation with a value head. (Schulman et al. 2017; Ziegler et al. 2019)
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PpoConfig {
    /// β: factor on the divergence from the weights that the run began with, in the reward of each token; default 0.05.
    pub kl_coef: f64,
    /// How the divergence is estimated: `k1` or `k3`; default `k1`.
    pub kl_estimator: KlEstimator,
    /// ε: how far the ratio of probabilities may leave 1 before it is clipped; default 0.2.
    pub cliprange: f64,
    /// How far a value may leave that at the time of the draw before it is clipped; default 0.2.
    pub cliprange_value: f64,
    /// Factor on the value loss; default 0.1.
    pub vf_coef: f64,
    /// Factor on the entropy of each token's distribution, which lowers the loss; 0 for none; default 0.
    pub ent_coef: f64,
    /// γ: factor on what comes a token later; default 1.
    pub gamma: f64,
    /// λ: weight of long looks ahead in advantages; default 0.95.
    pub lam: f64,
    /// Whether the tokens' rewards are brought to variance 1; default false.
    pub whiten_rewards: bool,
    /// What is taken from the reward of an answer that did not end; 0 for nothing; default 0.
    pub missing_eos_penalty: f64,
}

impl Default for PpoConfig {
    fn default() -> Self {
        PpoConfig {
            kl_coef: 0.05,
            kl_estimator: KlEstimator::K1,
            cliprange: 0.2,
            cliprange_value: 0.2,
            vf_coef: 0.1,
            ent_coef: 0.0,
            gamma: 1.0,
            lam: 0.95,
            whiten_rewards: false,
            missing_eos_penalty: 0.0,
        }
    }
}

impl PpoConfig {
    /// Refuses values that mean nothing.
    ///
    /// # Errors
    /// Name the key.
    pub fn validate(&self) -> Result<()> {
        let finite = |key: &str, value: f64| {
            demand(value >= 0.0 && value.is_finite(), &format!("ppo.{key}"), value, "0 or a positive number")
        };
        finite("kl_coef", self.kl_coef)?;
        finite("vf_coef", self.vf_coef)?;
        finite("ent_coef", self.ent_coef)?;
        finite("missing_eos_penalty", self.missing_eos_penalty)?;
        demand(self.cliprange > 0.0 && self.cliprange < 1.0, "ppo.cliprange", self.cliprange, "above 0 and below 1")?;
        let clip = self.cliprange_value;
        demand(clip > 0.0 && clip.is_finite(), "ppo.cliprange_value", clip, "a positive number")?;
        for (key, value) in [("ppo.gamma", self.gamma), ("ppo.lam", self.lam)] {
            demand((0.0..=1.0).contains(&value), key, value, "at least 0 and at most 1")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_drawn_or_learnt_is_refused_by_its_key() {
        RolloutConfig::default().validate().unwrap();
        for (text, words) in [
            ("prompts = 0", "rollout.prompts: is 0"),
            ("num_generations = 100000", "rollout.num_generations: is 100000"),
            ("prompts = 60000", "rollout.prompts: makes 480000 answers"),
            ("num_mini_batches = 200", "rollout.num_mini_batches: is 200, more than the 128 answers"),
            ("temperature = 0.0", "rollout.temperature: is 0"),
            ("top_p = 1.5", "rollout.top_p: is 1.5"),
            ("min_p = 1.0", "rollout.min_p: is 1"),
        ] {
            let error = toml::from_str::<RolloutConfig>(text).unwrap().validate().unwrap_err();
            assert!(error.to_string().starts_with(words) && error.exit_code() == 2, "{text}: {error}");
        }
        GrpoConfig::default().validate().unwrap();
        for (text, words) in [
            ("beta = -1.0", "grpo.beta: is -1"),
            ("ent_coef = -0.1", "grpo.ent_coef: is -0.1"),
            ("epsilon = 1.0", "grpo.epsilon: is 1"),
            ("epsilon_high = 0.0", "grpo.epsilon_high: is 0"),
        ] {
            let error = toml::from_str::<GrpoConfig>(text).unwrap().validate().unwrap_err();
            assert!(error.to_string().starts_with(words), "{text}: {error}");
        }
        PpoConfig::default().validate().unwrap();
        for (text, words) in [
            ("kl_coef = nan", "ppo.kl_coef: is NaN"),
            ("ent_coef = inf", "ppo.ent_coef: is inf"),
            ("cliprange = 0.0", "ppo.cliprange: is 0"),
            ("gamma = 1.1", "ppo.gamma: is 1.1"),
        ] {
            let error = toml::from_str::<PpoConfig>(text).unwrap().validate().unwrap_err();
            assert!(error.to_string().starts_with(words), "{text}: {error}");
        }
        assert!(toml::from_str::<PpoConfig>("clip = 0.1").is_err());
    }

    #[test]
    fn a_batch_has_its_answers_updates_and_slots() {
        let config = RolloutConfig { num_iterations: 3, num_mini_batches: 2, ..RolloutConfig::default() };
        assert_eq!((config.answers(), config.updates(), config.slots()), (128, 6, 128));
        assert_eq!(RolloutConfig { prompts: 64, ..config.clone() }.slots(), 256);
        assert_eq!(RolloutConfig { slots: 500, ..config }.slots(), 128);
        let high = GrpoConfig { epsilon_high: Some(0.3), ..GrpoConfig::default() };
        assert_eq!((GrpoConfig::default().clip(), high.clip()), ([0.2, 0.2], [0.2, 0.3]));
    }
}
