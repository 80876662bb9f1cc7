//! What a run learns from: text and conversations, pairs of answers, or answers that it draws as it goes.

use super::micro::{Micro, PairSide, Side};
use super::references::References;
use super::window;
use crate::config::Config;
use crate::data::Dataset;
use crate::data::preferences::{PairBatch, Preferences};
use crate::error::Result;

/// What a run learns from.
#[derive(Clone, Copy)]
pub enum Lessons<'a> {
    /// Rows of a dataset.
    Rows(&'a Dataset),
    /// Pairs of answers.
    Pairs(&'a PairLessons<'a>),
    /// Answers that the run draws: nothing that could be prepared.
    Answers,
}

/// Pairs of answers, and what the weights that the run began with thought of them.
pub struct PairLessons<'a> {
    /// The pairs.
    pub pairs: &'a Preferences,
    /// Absent for a reward model.
    pub references: Option<References>,
}

impl<'a> From<&'a Dataset> for Lessons<'a> {
    fn from(dataset: &'a Dataset) -> Self {
        Lessons::Rows(dataset)
    }
}

impl Lessons<'_> {
    /// The micro-batches of the update after `step` others, a function of the step alone; none of drawn answers.
    pub fn window(&self, config: &Config, step: u64) -> Result<Vec<Micro>> {
        match self {
            Lessons::Rows(dataset) => Ok(window::window(config, dataset, step)?.into_iter().map(Micro::of).collect()),
            Lessons::Pairs(lessons) => {
                let train = &config.train;
                let step = if train.overfit { 0 } else { step };
                let pairs = train.micro_batch as u64 / 2;
                let first = |pass: u64| (step * train.accumulation as u64 + pass) * pairs;
                let micro = |pass: u64| lessons.train_micro(first(pass)..first(pass) + pairs);
                Ok((0..train.accumulation as u64).map(micro).collect())
            }
            Lessons::Answers => Ok(Vec::new()),
        }
    }

    /// The fixed micro-batches of every validation; none of drawn answers.
    pub fn validation(&self, config: &Config) -> Result<Vec<Micro>> {
        match self {
            Lessons::Rows(dataset) => Ok(window::validation(config, dataset)?.into_iter().map(Micro::of).collect()),
            Lessons::Pairs(lessons) => Ok(lessons.validation(config).collect()),
            Lessons::Answers => Ok(Vec::new()),
        }
    }

    /// Nats a token that no model can fall below on average, where they are known.
    pub fn entropy_per_token(&self) -> Option<f64> {
        if let Lessons::Rows(dataset) = self { dataset.entropy_per_token() } else { None }
    }
}

impl PairLessons<'_> {
    /// Training pairs of these numbers.
    pub fn train_micro(&self, numbers: std::ops::Range<u64>) -> Micro {
        let most = (numbers.end - numbers.start) as usize;
        let pairs: Vec<_> = numbers.clone().map(|n| self.pairs.train_pair(n)).collect();
        let known = |references: &References| {
            numbers.flat_map(|n| sums(references.train[self.pairs.place(n) as usize])).collect::<Vec<f32>>()
        };
        let reference = self.references.as_ref().map(known).unwrap_or_default();
        micro(self.pairs.batch(&pairs, most), reference)
    }

    /// The micro-batches of the held-out pairs that validate, each made when it is asked for.
    pub fn validation(&self, config: &Config) -> impl Iterator<Item = Micro> {
        let (pairs, all) = (config.train.micro_batch as u64 / 2, self.pairs.validated(config));
        (0..all).step_by(pairs as usize).map(move |first| self.val_micro(first..all.min(first + pairs), pairs as usize))
    }

    /// Held-out pairs of these numbers, filled up to `most`.
    pub fn val_micro(&self, numbers: std::ops::Range<u64>, most: usize) -> Micro {
        let pairs: Vec<_> = numbers.clone().map(|n| self.pairs.val_pair(n)).collect();
        let known =
            |references: &References| numbers.flat_map(|n| sums(references.val[n as usize])).collect::<Vec<f32>>();
        let reference = self.references.as_ref().map(known).unwrap_or_default();
        micro(self.pairs.batch(&pairs, most), reference)
    }
}

/// What the loss needs of the numbers of a pair.
fn sums([chosen, rejected, _]: [f32; 3]) -> [f32; 2] {
    [chosen, rejected]
}

fn micro(PairBatch { batch, margins, ends, real }: PairBatch, mut reference: Vec<f32>) -> Micro {
    if !reference.is_empty() {
        reference.resize(2 * margins.len(), 0.0);
    }
    Micro { batch, side: Side::Pairs(PairSide { margins, ends, reference, real }) }
}
