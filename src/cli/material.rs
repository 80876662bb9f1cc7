//! The data of a run: opened as its stage wants them.

use crate::chat::Encoder;
use crate::config::{Config, Kind};
use crate::data::Dataset;
use crate::data::preferences::Preferences;
use crate::data::questions::Questions;
use crate::error::Result;
use crate::generate::Engine;
use crate::model::decoder::Decoder;
use crate::reward::Rewards;
use crate::reward::model::{RewardModel, Scorer};
use crate::terminal::{note, printable};
use crate::tokenizer::Tokenizer;
use crate::train::answers::Answers;
use crate::train::checkpoint::TrainerState;
use crate::train::journal::Journal;
use crate::train::lessons::{Lessons, PairLessons};
use crate::train::references::{REFERENCES, References};
use crate::train::session::Session;
use crate::train::start::{self, Source};

/// What a run learns from.
pub(super) enum Material {
    /// Text or conversations.
    Rows(Dataset),
    /// Pairs of answers.
    Pairs(Preferences),
    /// Questions, to which the run draws the answers.
    Questions(Questions, Encoder),
}

impl Material {
    /// Opens the data of `config`; conversations are encoded by the `encoder` that all stages but the first have.
    pub(super) fn open(config: &Config, tokenizer: &Tokenizer, encoder: Option<Encoder>) -> Result<Material> {
        let (data, length, seed) = (&config.data, config.train.sequence_length, config.train.seed);
        let (Some(sft), Some(encoder)) = (&config.sft, encoder) else {
            return Ok(Material::Rows(Dataset::open(data, tokenizer, length, seed)?));
        };
        let bad = |allowed: Option<usize>| allowed.unwrap_or(0);
        match config.kind() {
            Kind::Dpo => {
                let allowed = bad(config.dpo.as_ref().map(|dpo| dpo.max_bad_lines));
                Ok(Material::Pairs(Preferences::open(data, allowed, encoder, length, seed)?))
            }
            Kind::Reward => {
                let allowed = bad(config.reward_model.as_ref().map(|model| model.max_bad_lines));
                Ok(Material::Pairs(Preferences::open_whole(data, allowed, encoder, length, seed)?))
            }
            Kind::Grpo | Kind::Ppo => {
                let (task, rollout) =
                    (config.task.clone().unwrap_or_default(), config.rollout.clone().unwrap_or_default());
                let functions = config.reward.clone().unwrap_or_default().functions;
                let questions = Questions::open(&task, data, &functions, rollout.max_bad_lines, seed)?;
                Ok(Material::Questions(questions, encoder))
            }
            Kind::Pretrain | Kind::Sft => Ok(Material::Rows(Dataset::of_chats(data, sft, encoder, length, seed)?)),
        }
    }

    /// The pairs of a run that goes on at `state`, with what the weights that it began with think of them, where the
    /// stage needs that: read from the run folder, or else made with those weights.
    ///
    /// Errors: the device fails, or the run folder cannot be read or written.
    pub(super) fn pairs<'m>(
        &'m self,
        source: &mut dyn Source,
        session: &mut Session,
        journal: &mut Journal,
        config: &Config,
        state: &TrainerState,
    ) -> Result<Option<PairLessons<'m>>> {
        let Material::Pairs(pairs) = self else { return Ok(None) };
        if config.kind() != Kind::Dpo {
            return Ok(Some(PairLessons { pairs, references: None }));
        }
        let run = journal.folder().to_owned();
        let known = References::read(&run, pairs, config)?;
        let references = match known {
            Some(known) => known,
            None => {
                note(format_args!("log-probabilities by the first weights go to {}", run.join(REFERENCES).display()));
                if state.step > 0 {
                    source.first_weights(session)?;
                }
                let made = References::make(&run, session, pairs, config)?;
                if state.step > 0 {
                    start::resume(source, config, session, journal, &mut |line| note(printable(line)))?;
                }
                made
            }
        };
        Ok(Some(PairLessons { pairs, references: Some(references) }))
    }

    /// The same with all pairs or questions of its files held out.
    pub(super) fn held_out(self) -> Material {
        match self {
            Material::Rows(dataset) => Material::Rows(dataset),
            Material::Pairs(pairs) => Material::Pairs(pairs.held_out()),
            Material::Questions(questions, encoder) => Material::Questions(questions.held_out(), encoder),
        }
    }

    /// The reward model that judges the answers, where the stage draws such and one is to.
    ///
    /// Errors: it cannot judge them.
    pub(super) fn judge(&self, config: &Config) -> Result<Option<RewardModel>> {
        let Material::Questions(_, encoder) = self else { return Ok(None) };
        config.judging_model().map(|folder| RewardModel::find(folder, &config.train, encoder.tokenizer())).transpose()
    }

    /// What draws answers, by this decoder, and judges them, also by this `scorer`, where the stage learns from such.
    ///
    /// Errors: they cannot be judged as the configuration says.
    pub(super) fn answers(
        &self,
        config: &Config,
        decoder: Option<Decoder>,
        scorer: Option<Scorer>,
    ) -> Result<Option<Answers<'_>>> {
        let (Material::Questions(questions, encoder), Some(decoder)) = (self, decoder) else { return Ok(None) };
        let rewards = Rewards::open(&config.reward.clone().unwrap_or_default(), scorer)?;
        Ok(Some(Answers::new(questions, encoder, rewards, Engine::new(decoder), config)?))
    }

    /// The same as the trainer takes it.
    pub(super) fn lessons<'m>(&'m self, pairs: Option<&'m PairLessons<'m>>) -> Lessons<'m> {
        match (self, pairs) {
            (Material::Rows(dataset), _) => Lessons::Rows(dataset),
            (_, Some(pairs)) => Lessons::Pairs(pairs),
            _ => Lessons::Answers,
        }
    }

    /// One line on what they are.
    pub(super) fn describe(&self) -> String {
        match self {
            Material::Rows(dataset) => dataset.describe(),
            Material::Pairs(pairs) => pairs.describe(),
            Material::Questions(questions, _) => questions.describe(),
        }
    }

    /// Nats a token that no model can fall below on average, where they are known.
    pub(super) fn entropy_per_token(&self) -> Option<f64> {
        if let Material::Rows(dataset) = self { dataset.entropy_per_token() } else { None }
    }
}
