//! What a run has on its device beside the program that trains: what draws samples, and a reward model that judges.

use super::fit::Target;
use crate::config::{Config, Kind};
use crate::error::{Error, Result};
use crate::generate::{Generator, GeneratorOptions};
use crate::graph::plan::Plan;
use crate::reward::model::RewardModel;
use crate::terminal::{note, size};
use crate::tokenizer::Tokenizer;
use crate::train::checkpoint::described_folder;
use crate::train::trainer::SAMPLE_TOKENS;
use std::path::Path;

/// What a program's transfers take beside its plan.
type Staging<'a> = &'a dyn Fn(&Plan) -> u64;

/// Programs with weights of their own.
pub(super) struct Beside {
    target: Target,
    /// What draws the samples of a run, if it wants any.
    pub samples: Option<GeneratorOptions>,
    sampling: Option<Plan>,
    /// What judges drawn answers beside the other functions.
    pub judge: Option<RewardModel>,
}

impl Beside {
    /// Those of a run of `config`.
    pub fn new(
        config: &Config,
        target: Target,
        samples: Option<GeneratorOptions>,
        judge: Option<RewardModel>,
    ) -> Beside {
        let Target { binding_limit, stored, .. } = target;
        let plan = |options| Generator::decoder_of(&config.model, options, binding_limit, stored).plan();
        Beside { target, samples, sampling: samples.map(plan), judge }
    }

    /// The same without a device and, where files are not on this machine, without what these describe, which is said.
    ///
    /// Errors: samples have no room; the folder holds no reward model, or its passes are too small.
    pub fn planned(config: &Config, target: Target) -> Result<Beside> {
        let judge = match config.judging_model().map(|folder| (folder, folder.exists())) {
            None => None,
            Some((folder, true)) => Some(RewardModel::planned(&described_folder(folder)?, &config.train)?),
            Some((folder, false)) => left_out("the reward model", folder),
        };
        let tokenizer = &config.data.tokenizer;
        let samples = match wants_samples(config).then(|| Tokenizer::load(tokenizer)) {
            None => None,
            Some(Err(_)) if !Path::new(tokenizer).exists() => left_out("what draws samples", Path::new(tokenizer)),
            Some(loaded) => sample_options(config, &loaded?)?,
        };
        Ok(Beside::new(config, target, samples, judge))
    }

    /// What each takes beside a run of `config`.
    fn each(&self, config: &Config) -> impl Iterator<Item = (&'static str, Plan)> {
        let Target { binding_limit, stored, .. } = self.target;
        let judging = self.judge.as_ref().map(|judge| judge.plan(&config.train, binding_limit, stored));
        let all = [("for samples, beside", self.sampling.clone()), ("reward model, beside", judging)];
        all.into_iter().filter_map(|(name, plan)| Some((name, plan?)))
    }

    /// Bytes of all, with those that `staging` says of transfers.
    pub fn bytes(&self, config: &Config, staging: Staging<'_>) -> u64 {
        self.each(config).map(|(_, plan)| plan.bytes() + staging(&plan)).sum()
    }

    /// What of a limit for all is left to the program that trains.
    pub fn cap(&self, config: &Config, limit: Option<u64>, staging: Staging<'_>) -> Option<u64> {
        limit.map(|limit| limit.saturating_sub(self.bytes(config, staging)))
    }

    /// A line for each that there is, below `fit::table`.
    pub fn lines(&self, config: &Config, staging: Staging<'_>) -> String {
        let line = |(name, plan): (&str, Plan)| format!("\n  {name:<20} {:>12}", size(plan.bytes() + staging(&plan)));
        self.each(config).map(line).collect()
    }

    /// Whether `limit` bytes have room for the plan of `config` and all that is beside it.
    pub fn has_room(&self, config: &Config, plan: &Plan, limit: u64, staging: Staging<'_>) -> bool {
        if self.judge.as_ref().is_some_and(|judge| judge.takes(&config.train).is_err()) {
            return false;
        }
        let (mut bytes, mut largest) = (plan.bytes(), 0);
        for (_, other) in self.each(config) {
            (bytes, largest) = (bytes + other.bytes() + staging(&other), other.largest().max(largest));
        }
        bytes <= limit && largest <= self.target.binding_limit
    }
}

/// Says what a plan lacks.
fn left_out<T>(what: &str, path: &Path) -> Option<T> {
    note(format_args!("warning: {what} is not counted: {} is not there", path.display()));
    None
}

fn wants_samples(config: &Config) -> bool {
    // A program with another head has other parameters, and drawn answers are samples themselves.
    config.train.sample_interval > 0 && !matches!(config.kind(), Kind::Reward | Kind::Grpo | Kind::Ppo)
}

/// What draws the samples of a run, if it wants any.
///
/// Errors: their prompt leaves no room for what follows.
pub(super) fn sample_options(config: &Config, tokenizer: &Tokenizer) -> Result<Option<GeneratorOptions>> {
    if !wants_samples(config) {
        return Ok(None);
    }
    let (prompt, longest) =
        (1 + tokenizer.encode(&config.train.sample_prompt).len(), config.model.max_position_embeddings);
    if prompt >= longest {
        let reason = format!("has {prompt} tokens, and the model takes {longest} with the answer; shorten it");
        return Err(Error::config("train.sample_prompt", reason));
    }
    let capacity = (prompt + SAMPLE_TOKENS).min(longest);
    Ok(Some(GeneratorOptions { slots: 1, capacity, chunk: prompt, known: tokenizer.vocab_size() }))
}
