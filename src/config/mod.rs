//! Every knob: its unit, default and paper symbol.

pub mod model; // the network
pub mod rope; // how its positions go past the trained length
mod validate; // which sizes no network can have
mod counts; // parameters and floating-point operations of a model, in closed form
pub mod hf; // config.json, as transformers reads and writes it
pub mod data; // where text comes from
pub mod lora; // what learns beside frozen weights
pub mod reward; // how completions are judged
pub mod sft; // what fine-tuning on conversations learns
pub mod task; // which questions are asked
pub mod train; // sizes, counts and the update rule
pub mod layers; // preset < file < --set

use crate::error::{Error, Result};
use data::DataConfig;
use lora::LoraConfig;
use model::ModelConfig;
use serde::{Deserialize, Serialize};
use sft::SftConfig;
use train::{LogConfig, OptimizerConfig, ScheduleConfig, TrainConfig};

/// The whole configuration of a run, one field a TOML section.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The network.
    pub model: ModelConfig,
    /// The text.
    pub data: DataConfig,
    /// Sizes and counts.
    pub train: TrainConfig,
    /// The update rule.
    pub optimizer: OptimizerConfig,
    /// The learning rate over the run.
    pub schedule: ScheduleConfig,
    /// Adapters that are trained in place of the weights.
    pub lora: LoraConfig,
    /// Reports.
    pub log: LogConfig,
    /// Supervised fine-tuning on conversations, rather than pretraining on text, where it is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sft: Option<SftConfig>,
}

impl Config {
    /// Layers a preset or file, which `config` names, and then each `KEY=VALUE` of `sets`.
    ///
    /// Without `config` the base is the embedded default, `tiny`. A name of [`layers::PRESETS`] is that preset;
    /// anything else is a TOML file, laid over the preset that its top-level `preset = "NAME"` names, or over `tiny`.
    /// Call [`Config::validate`] once the other command line flags are applied.
    ///
    /// Errors: an unknown key or a value of the wrong type, with its place and what would be right.
    pub fn resolve(config: Option<&str>, sets: &[String]) -> Result<Config> {
        layers::resolve(config, None, sets)
    }

    /// The configuration in the text of the file `name`, laid over a preset as [`Config::resolve`] does.
    pub fn parse(name: &str, text: &str) -> Result<Config> {
        layers::parse(name, text)
    }

    /// As [`Config::resolve`] with `change` between the file and the `sets`, for what another folder says.
    pub fn resolve_changed(config: Option<&str>, change: &dyn Fn(&mut Config), sets: &[String]) -> Result<Config> {
        layers::resolve(config, Some(change), sets)
    }

    /// The complete configuration as TOML: [`Config::resolve`] on a file with this text gives an equal value.
    pub fn to_toml(&self) -> Result<String> {
        let body = toml::to_string(self).map_err(|e| Error::config("config", format!("cannot be written: {e}")))?;
        let stage = if self.sft.is_some() { "sft" } else { "train" };
        Ok(format!("# Every key of this run: `hadal {stage} FILE` with this file repeats it.\n\n{body}"))
    }

    /// Refuses values that no run can have, key by key and across sections.
    pub fn validate(&self) -> Result<()> {
        self.model.validate()?;
        self.train.validate()?;
        self.optimizer.validate()?;
        self.schedule.validate(self.optimizer.learning_rate)?;
        self.lora.validate(&self.model)?;
        let tokens = self.train.micro_batch.saturating_mul(self.train.sequence_length);
        self.model.check_pass("train.micro_batch", tokens, "lower it and raise train.accumulation")?;
        let (length, limit) = (self.train.sequence_length, self.model.longest());
        if length > limit {
            return Err(Error::config(
                "train.sequence_length",
                format!("is {length}, and must be at most model.max_position_embeddings, which is {limit}"),
            ));
        }
        Ok(())
    }
}
