//! `hadal sft`

use super::train::{RunArgs, free_folder, train};
use crate::config::Config;
use crate::config::sft::SftConfig;
use crate::error::{Error, Result};
use clap::Args;
use std::path::PathBuf;

#[derive(Args, Debug)]
pub(super) struct SftArgs {
    #[command(flatten)]
    run: RunArgs,
    #[command(flatten)]
    flags: SftFlags,
    /// Run folder; runs/sft-N by default
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Go on from the newest checkpoint in --out, with the run's own configuration unless CONFIG names another
    #[arg(long, requires = "out")]
    resume: bool,
}

/// Shorter ways to set keys of `[sft]`.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct SftFlags {
    /// File of a Jinja chat template; ChatML by default
    #[arg(long, value_name = "FILE")]
    chat_template: Option<PathBuf>,
    /// Lines of the data that may be unusable, and are left out; none by default
    #[arg(long, value_name = "N")]
    max_bad_lines: Option<usize>,
}

impl SftFlags {
    /// Lays them over the configuration.
    pub(super) fn apply(&self, sft: &mut SftConfig) -> Result<()> {
        if let Some(path) = &self.chat_template {
            // Absolute, so that the run's config.toml means the same file from any folder.
            sft.chat_template = Some(std::path::absolute(path).map_err(|e| Error::io(path, e))?);
        }
        sft.max_bad_lines = self.max_bad_lines.unwrap_or(sft.max_bad_lines);
        Ok(())
    }
}

/// What a run learns from.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stage<'a> {
    /// Text.
    Pretrain,
    /// Conversations.
    Sft(&'a SftFlags),
}

impl Stage<'_> {
    /// The configuration that the run's own keys come from; without one, those of the run that made the weights.
    pub(super) fn config(self, args: &RunArgs) -> Option<&str> {
        match self {
            Stage::Pretrain => args.config.as_deref(),
            Stage::Sft(_) => args.config.as_deref().or(Some("sft")),
        }
    }

    /// Sets what makes a run one of this stage.
    ///
    /// Errors: a run of another stage would go on; there is no model to fine-tune.
    pub(super) fn settle(self, config: &mut Config, resume: bool) -> Result<()> {
        let other = |name| {
            let reason = format!("the run was begun by `hadal {name}`; go on with that, or choose another --out");
            Err(Error::Usage(reason))
        };
        match self {
            Stage::Pretrain if resume && config.sft.is_some() => return other("sft"),
            Stage::Sft(_) if resume && config.sft.is_none() => return other("train"),
            Stage::Pretrain => config.sft = None,
            Stage::Sft(flags) => {
                flags.apply(config.sft.get_or_insert_default())?;
                if config.train.model.is_none() {
                    let reason = "--model is needed: the run folder, checkpoint or Hugging Face folder to fine-tune";
                    return Err(Error::Usage(reason.to_owned()));
                }
            }
        }
        if config.lora.is_on() && config.train.model.is_none() {
            let reason = "is set, but adapters need weights to stand beside; name their folder by --model";
            return Err(Error::config("lora.rank", reason));
        }
        Ok(())
    }
}

pub(super) fn run(args: SftArgs) -> Result<()> {
    let out = args.out.unwrap_or_else(|| free_folder("sft"));
    train(&args.run, Stage::Sft(&args.flags), &out, args.resume).map(drop)
}
