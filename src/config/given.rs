//! Which keys somebody has set, beside those that a preset or a default says.

use super::Config;
use super::dpo::{DpoConfig, RewardModelConfig};
use super::layers::own;
use super::reward::RewardConfig;
use super::rollout::{GrpoConfig, PpoConfig, RolloutConfig};
use super::sft::SftConfig;
use super::task::TaskConfig;
use crate::error::Result;
use toml::Table;

/// Keys that somebody has set.
pub struct Given {
    /// By `--set`.
    pub sets: Vec<String>,
    /// In a file, to another value than the default.
    pub file: Vec<String>,
}

/// The keys that `sets` name, and those that the file `config` sets to another value than the default; none of a
/// preset.
///
/// # Errors
/// If the file cannot be read or is no configuration.
pub fn given(config: Option<&str>, sets: &[String]) -> Result<Given> {
    let key = |set: &String| {
        let mut parts = set.split('=').next().unwrap_or_default().trim().split('.');
        parts.next().zip(parts.next()).map(|(section, key)| format!("{section}.{key}"))
    };
    let defaults = Table::try_from(every_section()).unwrap_or_default();
    let mut file = Vec::new();
    for (section, content) in own(config)? {
        let default = |key: &str| defaults.get(&section).and_then(|section| section.get(key));
        let content = content.as_table().into_iter().flatten();
        let changed = content.filter(|(key, value)| default(key) != Some(*value));
        file.extend(changed.map(|(key, _)| format!("{section}.{key}")));
    }
    Ok(Given { sets: sets.iter().filter_map(key).collect(), file })
}

/// Whether the file `config` names a key, whatever it sets it to.
///
/// # Errors
/// As [`given`].
pub fn names(config: Option<&str>, section: &str, key: &str) -> Result<bool> {
    Ok(own(config)?.get(section).is_some_and(|section| section.get(key).is_some()))
}

/// Every section with its defaults, those included that a run may lack.
fn every_section() -> Config {
    Config {
        sft: Some(SftConfig::default()),
        dpo: Some(DpoConfig::default()),
        reward_model: Some(RewardModelConfig::default()),
        grpo: Some(GrpoConfig::default()),
        ppo: Some(PpoConfig::default()),
        rollout: Some(RolloutConfig::default()),
        task: Some(TaskConfig::default()),
        reward: Some(RewardConfig::default()),
        ..Config::default()
    }
}
