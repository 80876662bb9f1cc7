//! `hadal sft`, `reward`, `dpo`, `grpo` and `ppo`: the stages after pretraining, which differ in what they learn from.

use super::existing;
use super::place::PlaceArgs;
use super::train::{RunArgs, alone};
use crate::config::{Config, Kind};
use crate::error::{Error, Result};
use crate::train::checkpoint::model_folder;
use clap::Args;
use std::path::PathBuf;

#[derive(Args, Debug)]
pub(super) struct StageArgs {
    #[command(flatten)]
    run: RunArgs,
    #[command(flatten)]
    flags: StageFlags,
    #[command(flatten)]
    place: PlaceArgs,
}

/// Shorter ways to set keys that only these stages have.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct StageFlags {
    /// File of a Jinja chat template; by default that of the model, or ChatML
    #[arg(long, value_name = "FILE")]
    chat_template: Option<PathBuf>,
    /// Lines of the data that may be unusable, and are left out; none by default
    #[arg(long, value_name = "N")]
    max_bad_lines: Option<usize>,
}

impl StageFlags {
    /// Lays them over the configuration of a run of this kind.
    fn apply(&self, config: &mut Config, kind: Kind) -> Result<()> {
        if let (Some(path), Some(sft)) = (&self.chat_template, &mut config.sft) {
            sft.chat_template = Some(path.clone());
        }
        if let Some(lines) = self.max_bad_lines {
            allow_bad_lines(config, kind, lines);
        }
        Ok(())
    }
}

/// What a run learns from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stage<'a> {
    /// What and by which rule.
    pub kind: Kind,
    flags: Option<&'a StageFlags>,
}

impl Stage<'_> {
    /// Learning from text.
    pub(super) const PRETRAIN: Stage<'static> = Stage::of(Kind::Pretrain);

    /// The stage without flags of its own.
    pub(super) const fn of(kind: Kind) -> Stage<'static> {
        Stage { kind, flags: None }
    }

    /// The configuration that the run's own keys come from; without one, those of the run that made the weights.
    pub(super) fn config(self, args: &RunArgs) -> Option<&str> {
        let own = (self.kind != Kind::Pretrain).then_some(self.kind.command());
        args.config.as_deref().or(own)
    }

    /// Sets what makes a run one of this stage.
    ///
    /// Errors: a run of another stage would go on; there is no model to go on from.
    pub(super) fn settle(self, config: &mut Config, resume: bool) -> Result<()> {
        let (kind, was) = (self.kind, config.kind());
        if resume && was != kind {
            let name = was.command();
            let reason = format!("the run was begun by `hadal {name}`; go on with that, or choose another --out");
            return Err(Error::Usage(reason));
        }
        set_sections(config, kind);
        if let Some(flags) = self.flags {
            flags.apply(config, kind)?;
        }
        if let Some(model) = config.reward.as_mut().and_then(|reward| reward.model.as_mut()) {
            // The newest checkpoint of now, from any folder.
            let folder = model_folder(&existing(model)?)?;
            *model = std::path::absolute(&folder).map_err(|e| Error::io(&folder, e))?;
        }
        if kind != Kind::Pretrain && config.train.model.is_none() {
            let reason = "--model is needed: the run folder, checkpoint or Hugging Face folder to begin with";
            return Err(Error::Usage(reason.to_owned()));
        }
        if config.lora.is_on() && config.train.model.is_none() {
            let reason = "is set, but adapters need weights to stand beside; name their folder by --model";
            return Err(Error::config("lora.rank", reason));
        }
        if config.lora.is_on() && matches!(kind, Kind::Reward | Kind::Ppo) {
            let reason = "is set, but adapters do not go with a head of one output; set it to 0";
            return Err(Error::config("lora.rank", reason));
        }
        Ok(())
    }
}

/// Lets so many lines of the data be unusable, where a run of this kind knows such.
pub(super) fn allow_bad_lines(config: &mut Config, kind: Kind, lines: usize) {
    let allowed = match kind {
        Kind::Pretrain => None,
        Kind::Sft => config.sft.as_mut().map(|sft| &mut sft.max_bad_lines),
        Kind::Reward => config.reward_model.as_mut().map(|model| &mut model.max_bad_lines),
        Kind::Dpo => config.dpo.as_mut().map(|dpo| &mut dpo.max_bad_lines),
        Kind::Grpo | Kind::Ppo => config.rollout.as_mut().map(|rollout| &mut rollout.max_bad_lines),
    };
    if let Some(allowed) = allowed {
        *allowed = lines;
    }
}

/// Gives the configuration the sections of a run of this kind, and takes those of others.
pub(super) fn set_sections(config: &mut Config, kind: Kind) {
    /// The section as it is, or its default, if it is one of this kind.
    fn set<T: Default>(section: &mut Option<T>, wanted: bool) {
        *section = wanted.then(|| section.take().unwrap_or_default());
    }
    set(&mut config.sft, kind != Kind::Pretrain);
    set(&mut config.dpo, kind == Kind::Dpo);
    set(&mut config.reward_model, kind == Kind::Reward);
    set(&mut config.grpo, kind == Kind::Grpo);
    set(&mut config.ppo, kind == Kind::Ppo);
    set(&mut config.rollout, kind.draws());
    set(&mut config.task, kind.draws());
    set(&mut config.reward, kind.draws());
    if kind.has_pairs() || kind.draws() {
        // A ratio of probabilities is one of two models, not of two draws of dropout.
        let model = &mut config.model;
        (model.attention_dropout, model.embed_dropout, model.resid_dropout) = (0.0, 0.0, 0.0);
    }
}

pub(super) fn run(args: StageArgs, kind: Kind) -> Result<()> {
    alone(&args.run, Stage { kind, flags: Some(&args.flags) }, args.place, kind.command())
}
