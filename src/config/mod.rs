//! Every knob: its unit, default and paper symbol.

pub mod model; // the network
pub mod rope; // how its positions go past the trained length
mod validate; // which sizes no network can have
mod counts; // parameters and floating-point operations of a model, in closed form
pub mod hf; // config.json, as transformers reads and writes it
pub mod data; // where text comes from
pub mod dpo; // what is learnt from pairs of answers
pub mod lora; // what learns beside frozen weights
pub mod reward; // how completions are judged
pub mod rollout; // what is learnt from answers that the model draws
pub mod schedule; // the learning rate over the run
pub mod sft; // what fine-tuning on conversations learns
pub mod task; // which questions are asked
pub mod paths; // where relative paths begin
pub mod given; // which keys somebody has set
pub mod effects; // settings that nothing looks at
pub mod train; // sizes, counts and the update rule
pub mod layers; // preset < file < --set
pub mod aliases; // words of other trainers

use crate::error::{Error, Result};
use data::DataConfig;
use dpo::{DpoConfig, RewardModelConfig};
use lora::LoraConfig;
use model::ModelConfig;
use reward::{RewardConfig, RewardKind};
use rollout::{GrpoConfig, PpoConfig, RolloutConfig};
use schedule::ScheduleConfig;
use serde::{Deserialize, Serialize};
use sft::SftConfig;
use std::path::Path;
use task::TaskConfig;
use train::{LogConfig, LossReduction, OptimizerConfig, TrainConfig};

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
    /// Learning from pairs of answers directly; its conversations are encoded as `[sft]` says, as in all that follow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dpo: Option<DpoConfig>,
    /// Learning a reward from pairs of answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reward_model: Option<RewardModelConfig>,
    /// Learning from groups of answers that the model draws.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpo: Option<GrpoConfig>,
    /// Learning from answers that the model draws, with a value function.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ppo: Option<PpoConfig>,
    /// How they are drawn.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutConfig>,
    /// What is asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskConfig>,
    /// How answers are judged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reward: Option<RewardConfig>,
}

/// What a run learns from and by, which its configuration says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Text.
    Pretrain,
    /// Conversations.
    Sft,
    /// Pairs of answers, for a reward model.
    Reward,
    /// Pairs of answers, directly.
    Dpo,
    /// Groups of drawn answers.
    Grpo,
    /// Drawn answers, with a value function.
    Ppo,
}

impl Kind {
    /// The command that such a run is begun by.
    pub fn command(self) -> &'static str {
        match self {
            Kind::Pretrain => "train",
            Kind::Sft => "sft",
            Kind::Reward => "reward",
            Kind::Dpo => "dpo",
            Kind::Grpo => "grpo",
            Kind::Ppo => "ppo",
        }
    }

    /// The name of such a stage.
    pub fn name(self) -> &'static str {
        if self == Kind::Pretrain { "pretrain" } else { self.command() }
    }

    /// Whether it learns from pairs of answers.
    pub fn has_pairs(self) -> bool {
        matches!(self, Kind::Reward | Kind::Dpo)
    }

    /// Whether it learns from answers that the model draws.
    pub fn draws(self) -> bool {
        matches!(self, Kind::Grpo | Kind::Ppo)
    }
}

impl Config {
    /// The folder of the reward model that judges drawn answers, where the run draws such and one is to.
    pub fn judging_model(&self) -> Option<&Path> {
        let reward = self.reward.as_ref().filter(|_| self.kind().draws())?;
        reward.model.as_deref().filter(|_| reward.functions.contains(&RewardKind::Model))
    }

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

    /// What a run with it learns from and by: as its latest stage says.
    pub fn kind(&self) -> Kind {
        let stages = [
            (self.ppo.is_some(), Kind::Ppo),
            (self.grpo.is_some(), Kind::Grpo),
            (self.dpo.is_some(), Kind::Dpo),
            (self.reward_model.is_some(), Kind::Reward),
            (self.sft.is_some(), Kind::Sft),
        ];
        stages.into_iter().find_map(|(is, kind)| is.then_some(kind)).unwrap_or(Kind::Pretrain)
    }

    /// The complete configuration as TOML: [`Config::resolve`] on a file with this text gives an equal value.
    pub fn to_toml(&self) -> Result<String> {
        let body = toml::to_string(self).map_err(|e| Error::config("config", format!("cannot be written: {e}")))?;
        let stage = self.kind().command();
        Ok(format!("# Every key of this run: `hadal {stage} FILE` with this file repeats it.\n\n{body}"))
    }

    /// Refuses values that no run can have, key by key and across sections.
    pub fn validate(&self) -> Result<()> {
        self.model.validate()?;
        self.train.validate()?;
        self.optimizer.validate()?;
        self.schedule.validate(self.optimizer.learning_rate)?;
        self.lora.validate(&self.model)?;
        self.validate_stage()?;
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

    /// Refuses what the stages after pretraining cannot have.
    fn validate_stage(&self) -> Result<()> {
        let kind = self.kind();
        if kind.has_pairs() {
            dpo::check_pairs(self.train.micro_batch)?;
        }
        self.dpo.as_ref().map_or(Ok(()), DpoConfig::validate)?;
        self.reward_model.as_ref().map_or(Ok(()), RewardModelConfig::validate)?;
        self.grpo.as_ref().map_or(Ok(()), GrpoConfig::validate)?;
        self.ppo.as_ref().map_or(Ok(()), PpoConfig::validate)?;
        self.rollout.as_ref().map_or(Ok(()), RolloutConfig::validate)?;
        self.task.as_ref().map_or(Ok(()), TaskConfig::validate)?;
        self.reward.as_ref().map_or(Ok(()), RewardConfig::validate)?;
        if self.train.loss_reduction != LossReduction::Tokens && !matches!(kind, Kind::Pretrain | Kind::Sft) {
            let reason = "must be \"tokens\": this stage's loss says itself what is averaged over what";
            return Err(Error::config("train.loss_reduction", reason));
        }
        let (Some(rollout), true) = (&self.rollout, kind.draws()) else { return Ok(()) };
        if self.train.overfit {
            let reason = "must be false: answers are drawn anew for each batch, and there is none to repeat";
            return Err(Error::config("train.overfit", reason));
        }
        if self.train.accumulation != 1 {
            let reason = "must be 1: an update has as many passes as its share of the drawn answers fills";
            return Err(Error::config("train.accumulation", reason));
        }
        let (most, length) = (rollout.max_completion_length, self.train.sequence_length);
        if most >= length {
            let reason = format!("is {most}, and with a prompt must fit in train.sequence_length, which is {length}");
            return Err(Error::config("rollout.max_completion_length", reason));
        }
        Ok(())
    }
}
