//! What a run has on its device beside the program that trains: what draws samples, and a reward model that judges.

use super::fit::Target;
use super::{existing, gib};
use crate::config::{Config, Kind};
use crate::error::{Error, Result};
use crate::generate::{Generator, GeneratorOptions};
use crate::graph::plan::Plan;
use crate::reward::model::RewardModel;
use crate::tokenizer::Tokenizer;
use crate::train::checkpoint::model_folder;
use crate::train::trainer::SAMPLE_TOKENS;

/// What a program's transfers take beside its plan.
type Staging<'a> = &'a dyn Fn(&Plan) -> u64;

/// Programs with weights of their own.
pub(super) struct Beside {
    /// What draws the samples of a run, if it wants any.
    pub samples: Option<GeneratorOptions>,
    /// What judges drawn answers beside the other functions.
    pub judge: Option<RewardModel>,
}

impl Beside {
    /// Those of a run of `config`, without a look at the reward model's vocabulary.
    ///
    /// Errors: there is no tokenizer, and samples are wanted, or these have no room; there is no reward model, or it
    /// takes shorter sequences.
    pub fn planned(config: &Config) -> Result<Beside> {
        let planned = |folder| RewardModel::planned(&model_folder(&existing(folder)?)?, &config.train);
        let judge = config.judging_model().map(planned).transpose()?;
        let samples = match wants_samples(config) {
            true => sample_options(config, &Tokenizer::load(&config.data.tokenizer)?)?,
            false => None,
        };
        Ok(Beside { samples, judge })
    }

    /// What there is, and its bytes with what `staging` says of its transfers.
    fn each(&self, config: &Config, target: Target, staging: Staging<'_>) -> [(&'static str, u64); 2] {
        let Target { binding_limit, stored, .. } = target;
        let all = |plan: Plan| plan.bytes() + staging(&plan);
        let samples =
            self.samples.map(|options| Generator::decoder_of(&config.model, options, binding_limit, stored).plan());
        let judge = self.judge.as_ref().map(|judge| judge.plan(&config.train, binding_limit, stored));
        [("for samples, beside", samples.map_or(0, all)), ("reward model, beside", judge.map_or(0, all))]
    }

    /// Bytes of all, which a cap counts.
    pub fn bytes(&self, config: &Config, target: Target, staging: Staging<'_>) -> u64 {
        self.each(config, target, staging).iter().map(|(_, bytes)| bytes).sum()
    }

    /// A line for each that there is, below `fit::table`.
    pub fn lines(&self, config: &Config, target: Target, staging: Staging<'_>) -> Vec<String> {
        let there = self.each(config, target, staging).into_iter().filter(|(_, bytes)| *bytes > 0);
        there.map(|(name, bytes)| format!("  {name:<20} {:>10.4} GiB", gib(bytes))).collect()
    }
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
