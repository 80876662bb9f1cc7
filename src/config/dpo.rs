//! How to learn from preferences: `[dpo]` and `[reward_model]` in TOML.

use super::train::demand;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// Direct preference optimisation: a policy learns from pairs of answers. (Rafailov et al. 2023)
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DpoConfig {
    /// β: factor on the differences of log-probabilities from the reference; the larger, the closer to the reference
    /// the policy stays; default 0.1.
    pub beta: f64,
    /// Share of the pairs that is taken to be the wrong way round; below 0.5; default 0.
    pub label_smoothing: f64,
    /// Lines of the data that may be unusable, and are left out; one more ends the run before it begins; default 0.
    pub max_bad_lines: usize,
}

impl Default for DpoConfig {
    fn default() -> Self {
        DpoConfig { beta: 0.1, label_smoothing: 0.0, max_bad_lines: 0 }
    }
}

impl DpoConfig {
    /// Refuses what no pair can be learnt from.
    ///
    /// # Errors
    /// Name the key.
    pub fn validate(&self) -> Result<()> {
        demand(self.beta > 0.0 && self.beta.is_finite(), "dpo.beta", self.beta, "a positive number")?;
        let smoothing = self.label_smoothing;
        demand((0.0..0.5).contains(&smoothing), "dpo.label_smoothing", smoothing, "at least 0 and below 0.5")
    }
}

/// A reward model: a number for an answer, learnt from pairs of answers. (Bradley and Terry 1952; Ouyang et al. 2022)
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RewardModelConfig {
    /// c: factor on the mean of the squares of each pair's sum of rewards, which keeps rewards around 0; default 0.01.
    pub center_rewards_coefficient: f64,
    /// Lines of the data that may be unusable, and are left out; one more ends the run before it begins; default 0.
    pub max_bad_lines: usize,
}

impl Default for RewardModelConfig {
    fn default() -> Self {
        RewardModelConfig { center_rewards_coefficient: 0.01, max_bad_lines: 0 }
    }
}

impl RewardModelConfig {
    /// Refuses a factor that centres nothing.
    ///
    /// # Errors
    /// Name the key.
    pub fn validate(&self) -> Result<()> {
        let c = self.center_rewards_coefficient;
        let wanted = "a positive number, or 0 for none";
        demand(c >= 0.0 && c.is_finite(), "reward_model.center_rewards_coefficient", c, wanted)
    }
}

/// Refuses a micro-batch that cuts a pair in two.
///
/// # Errors
/// If it is odd.
pub(super) fn check_pairs(micro_batch: usize) -> Result<()> {
    if micro_batch.is_multiple_of(2) {
        return Ok(());
    }
    let reason = format!("is {micro_batch}; pairs take two sequences each, so it must be even");
    Err(Error::config("train.micro_batch", reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_learns_nothing_is_refused_by_its_key() {
        let dpo = |beta, label_smoothing| DpoConfig { beta, label_smoothing, ..DpoConfig::default() }.validate();
        assert!(dpo(0.1, 0.0).is_ok() && dpo(5.0, 0.49).is_ok());
        for (wrong, words) in [
            (dpo(0.0, 0.0), "dpo.beta: is 0, and must be a positive number"),
            (dpo(f64::NAN, 0.0), "dpo.beta: is NaN"),
            (dpo(0.1, 0.5), "dpo.label_smoothing: is 0.5, and must be at least 0 and below 0.5"),
            (check_pairs(3), "train.micro_batch: is 3; pairs take two"),
        ] {
            let error = wrong.unwrap_err();
            assert!(error.to_string().starts_with(words) && error.exit_code() == 2, "{error}");
        }
        assert!(check_pairs(2).is_ok());
        let model = |c| RewardModelConfig { center_rewards_coefficient: c, max_bad_lines: 0 }.validate();
        assert!(model(0.0).is_ok() && model(-0.1).is_err() && model(f64::INFINITY).is_err());
    }
}
