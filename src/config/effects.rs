//! Settings without effect: what somebody sets and no part of the run looks at.

use super::given::{Given, given};
use super::model::TopkMethod;
use super::reward::RewardKind;
use super::schedule::ScheduleKind;
use super::task::TaskKind;
use super::train::{LossReduction, OnNonFinite, OptimizerKind};
use super::{Config, Kind};
use crate::error::{Error, Result};

/// How a setting without effect is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Idle {
    /// With an error: something else was wanted.
    Refused(String),
    /// With a warning: the run is what it would be without it.
    Told(String),
}

impl Idle {
    fn refused(reason: impl Into<String>) -> Option<Idle> {
        Some(Idle::Refused(reason.into()))
    }

    fn told(reason: impl Into<String>) -> Option<Idle> {
        Some(Idle::Told(reason.into()))
    }
}

/// Why `key` has no effect on a run of `config`, which was made of what was `asked` for; none if it has.
pub fn idle(asked: &Config, config: &Config, key: &str) -> Option<Idle> {
    let (section, name) = key.split_once('.')?;
    let kind = config.kind();
    if !takes(kind, section) {
        return Idle::refused(format!("has no effect in `hadal {}`, which takes no [{section}]", kind.command()));
    }
    match section {
        "lora" if name != "rank" && !config.lora.is_on() => {
            Idle::refused("has no effect while lora.rank is 0, which trains all weights")
        }
        "data" => of_data(config, name),
        "train" => of_training(config, name),
        "optimizer" if name == "block_size" && config.optimizer.kind != OptimizerKind::Adamw8bit => {
            Idle::refused("has no effect unless optimizer.kind is \"adamw8bit\"")
        }
        "schedule" => of_schedule(config, name),
        "model" => of_model(asked, config, name),
        "sft" if matches!(name, "packing" | "max_bad_lines") && kind != Kind::Sft => {
            Idle::refused("has an effect in `hadal sft` alone")
        }
        "task" => of_task(config, name),
        "reward" => of_reward(config, name),
        _ => None,
    }
}

/// Whether a run of this kind takes a section.
pub fn takes(kind: Kind, section: &str) -> bool {
    match section {
        "sft" => kind != Kind::Pretrain,
        "dpo" => kind == Kind::Dpo,
        "reward_model" => kind == Kind::Reward,
        "grpo" => kind == Kind::Grpo,
        "ppo" => kind == Kind::Ppo,
        "rollout" | "task" | "reward" => kind.draws(),
        _ => true,
    }
}

fn of_data(config: &Config, name: &str) -> Option<Idle> {
    let (files, text) = (!config.data.path.is_empty(), config.kind() == Kind::Pretrain);
    match name {
        "val_path" if !files => Idle::refused("has no effect without data.path, whose place it does not take"),
        "text_field" | "token_type" if !text => {
            Idle::refused(format!("has no effect in `hadal {}`, which reads records", config.kind().command()))
        }
        "val_fraction" if files && !config.data.val_path.is_empty() => Idle::told("has no effect beside data.val_path"),
        "val_fraction" | "shuffle" | "text_field" | "token_type" if !files => {
            Idle::told("has no effect on the embedded world, which has no end")
        }
        "world_seed" if files => Idle::told("has no effect on data.path"),
        _ => None,
    }
}

fn of_training(config: &Config, name: &str) -> Option<Idle> {
    let (train, kind) = (&config.train, config.kind());
    let samples = train.sample_interval > 0;
    let silent = matches!(kind, Kind::Reward | Kind::Grpo | Kind::Ppo);
    match name {
        "sample_interval" if samples && silent => {
            Idle::refused(format!("has no effect in `hadal {}`, which draws no samples", kind.command()))
        }
        "sample_prompt" if !samples || silent => Idle::refused("has no effect without train.sample_interval"),
        "roll_back_rate" if train.on_non_finite != OnNonFinite::RollBack => {
            Idle::refused("has no effect unless train.on_non_finite is \"roll_back\"")
        }
        "overfit" if train.overfit && kind.draws() => Idle::refused("has no effect on answers that are drawn anew"),
        "loss_reduction" if train.loss_reduction != LossReduction::Tokens && kind.draws() => {
            Idle::refused("has no effect where answers are drawn; grpo.loss_type is what their loss is a mean over")
        }
        "eval_batches" if kind.draws() => {
            Idle::told("has no effect; rollout.eval_prompts is what a validation answers")
        }
        _ => None,
    }
}

fn of_schedule(config: &Config, name: &str) -> Option<Idle> {
    match (name, config.schedule.kind) {
        ("min_learning_rate" | "decay_steps", ScheduleKind::Constant) => {
            Idle::told("has no effect where schedule.kind is \"constant\"")
        }
        ("cooldown_steps", kind) if kind != ScheduleKind::WarmupStableDecay => {
            Idle::refused("has no effect unless schedule.kind is \"warmup_stable_decay\"")
        }
        _ => None,
    }
}

fn of_model(asked: &Config, config: &Config, name: &str) -> Option<Idle> {
    let (model, kind) = (&asked.model, config.kind());
    let compares = kind.has_pairs() || kind.draws();
    let dropout = match name {
        "attention_dropout" => model.attention_dropout,
        "embed_dropout" => model.embed_dropout,
        "resid_dropout" => model.resid_dropout,
        _ => 0.0,
    };
    match name {
        _ if dropout > 0.0 && compares => {
            Idle::refused(format!("has no effect in `hadal {}`, which compares models without dropout", kind.command()))
        }
        "aux_loss_alpha" if model.aux_loss_alpha > 0.0 && compares => Idle::refused(format!(
            "has no effect in `hadal {}`, where equally good answers are to change nothing",
            kind.command()
        )),
        "bias_update_speed" if config.model.topk_method != TopkMethod::NoauxTc => {
            Idle::refused("has no effect unless model.topk_method is \"noaux_tc\"")
        }
        "n_group" | "topk_group" if config.model.topk_method == TopkMethod::Greedy => {
            Idle::told("has no effect where model.topk_method is \"greedy\"")
        }
        _ => None,
    }
}

fn of_task(config: &Config, name: &str) -> Option<Idle> {
    let sums = config.task.as_ref().is_some_and(|task| task.kind == TaskKind::Arithmetic);
    match name {
        _ if !config.data.path.is_empty() => Idle::refused("has no effect beside data.path, which asks the questions"),
        "digits" | "marked" if !sums => Idle::refused("has no effect unless task.kind is \"arithmetic\""),
        _ => None,
    }
}

fn of_reward(config: &Config, name: &str) -> Option<Idle> {
    let functions = config.reward.as_ref().map(|reward| reward.functions.as_slice()).unwrap_or_default();
    let needed = match name {
        "min_length" | "max_length" | "length_slope" => RewardKind::Length,
        "pattern" => RewardKind::Format,
        "command" | "timeout" | "on_failure" => RewardKind::Command,
        "model" => RewardKind::Model,
        _ => return None,
    };
    let function = needed.name();
    let reason = format!("has no effect unless reward.functions names {function}");
    if functions.contains(&needed) { None } else { Idle::told(reason) }
}

/// Warnings on the settings without effect that are `given`, but for the `shared` ones. What stands in a file without
/// effect is refused where no run writes it so: a run's own config.toml has every key, those of its model included.
///
/// # Errors
/// If there is one by which something else was wanted.
pub fn check(asked: &Config, config: &Config, given: &Given, shared: &[String]) -> Result<Vec<String>> {
    let by_set = given.sets.iter().filter(|key| !shared.contains(key)).map(|key| (key, true));
    let by_file = given.file.iter().map(|key| {
        let section = key.split('.').next().unwrap_or_default();
        (key, section == "lora" || !takes(config.kind(), section))
    });
    let mut warnings = Vec::new();
    for (key, firm) in by_set.chain(by_file) {
        match idle(asked, config, key) {
            Some(Idle::Refused(reason)) if firm => {
                return Err(Error::config(key, format!("{reason}; leave it out, or change that")));
            }
            Some(Idle::Refused(reason) | Idle::Told(reason)) => warnings.push(format!("warning: {key} {reason}")),
            None => {}
        }
    }
    Ok(warnings)
}

/// Warnings on what is `set` without effect where the model of a run of `config` is measured, and nothing is trained.
///
/// # Errors
/// If there is a setting by which something else was wanted.
pub fn check_measured(config: &Config, set: &[String]) -> Result<Vec<String>> {
    let given = given(None, set)?;
    match given.sets.iter().find(|key| !is_measured(config.kind(), key)) {
        Some(key) => Err(Error::config(key, "has no effect in `hadal eval`, which trains nothing; leave it out")),
        None => check(config, config, &given, &[]),
    }
}

/// Whether a measurement looks at `key`.
fn is_measured(kind: Kind, key: &str) -> bool {
    match key.split_once('.') {
        Some(("train", "sequence_length" | "seed")) => true,
        Some(("train", "micro_batch" | "eval_batches")) => kind.has_pairs(),
        Some((section, _)) => {
            !["train", "model", "optimizer", "schedule", "lora", "log", "grpo", "ppo"].contains(&section)
        }
        None => true,
    }
}
