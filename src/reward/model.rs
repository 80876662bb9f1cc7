//! What a reward model says of completions: its output at the token that ends an answer.
//!
//! The model reads the very tokens of prompt and completion, so its vocabulary has to be that of the model which draws.
//! An answer that did not end is given its end, and of one that is longer than a row the row's last token speaks.

use super::{Reward, Sample};
use crate::backend::Device;
use crate::chat::Encoded;
use crate::chat::pack::row;
use crate::checkpoint::folder::inside_if_there;
use crate::checkpoint::weights::Weights;
use crate::config::hf::{is_reward_model, read_config};
use crate::config::model::ModelConfig;
use crate::config::train::{Recompute, TrainConfig};
use crate::data::batch::{Batch, Row};
use crate::data::preferences::with_end;
use crate::error::{Error, Result};
use crate::graph::Dtype;
use crate::graph::plan::Plan;
use crate::model::goal::Goal;
use crate::model::inputs::BatchSize;
use crate::model::learning::Learning;
use crate::model::params::{ParamSpec, parameters};
use crate::model::program::{EVALUATE, Program, ProgramOptions};
use crate::terminal::{note, printable};
use crate::tokenizer::Tokenizer;
use crate::train::micro::{Micro, PairSide, Side};
use crate::train::session::Session;
use std::path::{Path, PathBuf};

/// The vocabulary beside a model's weights.
const TOKENIZER: &str = "tokenizer.json";

/// A reward model in a folder.
#[derive(Clone, Debug)]
pub struct RewardModel {
    folder: PathBuf,
    config: ModelConfig,
}

impl RewardModel {
    /// The one in the checkpoint `folder`, which judges a run of `train` that draws tokens of `tokenizer`.
    ///
    /// # Errors
    /// If the folder holds none; if its vocabulary is another one; if it takes shorter sequences than the run has.
    pub fn find(folder: &Path, train: &TrainConfig, tokenizer: &Tokenizer) -> Result<RewardModel> {
        let found = Self::read(folder)?;
        let known = inside_if_there(folder, TOKENIZER)?.map(|path| Tokenizer::load(&path.to_string_lossy()));
        if known.transpose()?.is_none_or(|known| known.json() != tokenizer.json()) {
            let reason = "is not the vocabulary of the model that it is to judge; train both from one model";
            return Err(Error::file(folder.join(TOKENIZER), reason));
        }
        found.takes(train)?;
        Ok(found)
    }

    /// The same of any vocabulary, which tells how much room it takes.
    ///
    /// # Errors
    /// If the folder holds none; if it takes shorter sequences than the run has.
    pub fn planned(folder: &Path, train: &TrainConfig) -> Result<RewardModel> {
        let found = Self::read(folder)?;
        found.takes(train)?;
        Ok(found)
    }

    fn read(folder: &Path) -> Result<RewardModel> {
        if !is_reward_model(folder)? {
            let reason = "holds a model that writes; reward.model needs one that `hadal reward` trained";
            return Err(Error::file(folder, reason));
        }
        let (config, warnings) = read_config(folder)?;
        warnings.iter().for_each(|warning| note(format_args!("warning: {}", printable(warning))));
        config.validate()?;
        Ok(RewardModel { folder: folder.to_owned(), config })
    }

    /// Refuses a run of `train` whose passes are too large for it.
    ///
    /// # Errors
    /// If it takes shorter sequences, or fewer tokens at a time.
    pub fn takes(&self, train: &TrainConfig) -> Result<()> {
        let (length, longest) = (train.sequence_length, self.config.longest());
        if length > longest {
            let reason = format!("is {length}, and the reward model in {} takes {longest}", self.folder.display());
            return Err(Error::config("train.sequence_length", reason));
        }
        let tokens = Self::size(train).batch.saturating_mul(length);
        self.config.check_pass("train.micro_batch", tokens, "lower it for the reward model")
    }

    /// Its loss is one of pairs.
    fn size(train: &TrainConfig) -> BatchSize {
        BatchSize { batch: train.micro_batch.next_multiple_of(2), length: train.sequence_length }
    }

    fn specs(&self) -> Vec<ParamSpec> {
        Goal::Reward { centring: 0.0 }.specs(parameters(&self.config), self.config.hidden_size)
    }

    fn program(&self, train: &TrainConfig, binding_limit: u64, stored: Dtype) -> Program {
        let options = ProgramOptions {
            size: Self::size(train),
            binding_limit,
            optimizer: None,
            logit_rows: None,
            stored,
            recompute: Recompute::None,
        };
        let learning = Learning { goal: Goal::Reward { centring: 0.0 }, ..Learning::default() };
        Program::learning(&self.config, &self.specs(), &options, learning)
    }

    /// The memory that it takes beside a run of `train`, on a device with this limit of bindings, stored so.
    pub fn plan(&self, train: &TrainConfig, binding_limit: u64, stored: Dtype) -> Plan {
        self.program(train, binding_limit, stored).plan()
    }

    /// Loads it on `device`, beside a run of `train`.
    ///
    /// # Errors
    /// If there is no room, or the weights are not those of its configuration, or not finite.
    pub fn open(&self, train: &TrainConfig, device: &Device) -> Result<Scorer> {
        let weights = Weights::open(&self.folder)?;
        weights.check(&self.specs())?;
        let mut session = Session::new(self.program(train, device.binding_limit(), device.stored()), device, None)?;
        weights.load_all(|fill| session.load(fill))?;
        Ok(Scorer { session })
    }
}

/// A reward model on a device.
pub struct Scorer {
    session: Session,
}

impl Scorer {
    /// The score of each of these sequences of at least one token.
    ///
    /// # Errors
    /// If the device fails, or a score is not finite.
    pub fn scores(&mut self, sequences: &[&[u32]]) -> Result<Vec<f32>> {
        let size = self.session.program.inputs.size;
        let Some(scores) = self.session.program.aims.scores else { return Ok(Vec::new()) };
        let mut found = Vec::with_capacity(sequences.len());
        for some in sequences.chunks(size.batch) {
            self.session.feed_micro(&micro(some, size))?;
            self.session.run(EVALUATE)?;
            let values = self.session.read(scores)?;
            found.extend(some.iter().enumerate().map(|(i, one)| values[i * size.length + last(one, size.length)]));
        }
        match found.iter().all(|score| score.is_finite()) {
            true => Ok(found),
            false => Err(Error::Device("the reward model's scores are not finite".to_owned())),
        }
    }
}

impl Reward for Scorer {
    fn judge(&mut self, samples: &[Sample]) -> Result<Vec<Option<f64>>> {
        let sequences: Vec<&[u32]> = samples.iter().map(|sample| sample.sequence).collect();
        Ok(self.scores(&sequences)?.into_iter().map(|score| Some(f64::from(score))).collect())
    }

    fn close(&mut self) {
        self.session.close();
    }
}

/// Place of the token that speaks for a sequence in a row of `length`.
fn last(sequence: &[u32], length: usize) -> usize {
    sequence.len().clamp(1, length) - 1
}

/// Sequences as rows, filled up with padding.
fn micro(sequences: &[&[u32]], BatchSize { batch, length }: BatchSize) -> Micro {
    let made = |ids: &&[u32]| {
        let answer = Encoded { counted: vec![true; ids.len()], ids: ids.to_vec() };
        row([&with_end(&answer, length)], length)
    };
    let rows: Vec<Row> = sequences.iter().map(made).collect();
    let end = |i: usize| sequences.get(i).map(|one| last(one, length) as u32);
    let side = PairSide {
        margins: vec![0.0; batch / 2],
        ends: (0..batch).map(end).collect(),
        reference: Vec::new(),
        real: sequences.len() / 2,
    };
    Micro { batch: Batch::of_rows(&rows, batch), side: Side::Pairs(side) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_ends_with_the_token_that_ends_the_answer_or_with_its_last_place() {
        let size = BatchSize { batch: 4, length: 3 };
        let made = micro(&[&[7, 8], &[1, 2, 3], &[4, 5, 6, 9]], size);
        assert_eq!(made.batch.ids[..3], [7, 8, made.batch.ids[2]]);
        assert_eq!(made.batch.ids[3..9], [1, 2, 3, 4, 5, 6]);
        assert_eq!(made.batch.real, [1, 1, 0, 1, 1, 1, 1, 1, 1, 0, 0, 0]);
        let Side::Pairs(side) = made.side else { panic!("no pairs") };
        assert_eq!(side.ends, [Some(1), Some(2), Some(2), None]);
        assert_eq!(side.margins.len(), 2);
    }
}
