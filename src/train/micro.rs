//! One micro-batch with what its loss needs beside tokens.

use super::session::Session;
use crate::data::batch::{Batch, IGNORED};
use crate::error::Result;
use crate::graph::objective::{Goal, Policy, Preference, Reward, ScoreGoal, Value};

/// One micro-batch of an update or a validation.
#[derive(Clone, Debug)]
pub struct Micro {
    /// The tokens.
    pub batch: Batch,
    /// What else the host writes.
    pub side: Side,
}

/// What a micro-batch has beside tokens.
#[derive(Clone, Debug)]
pub enum Side {
    /// Nothing.
    None,
    /// Of pairs of answers.
    Pairs(PairSide),
    /// Of drawn answers.
    Answers(AnswerSide),
}

/// Of pairs of answers: rows 2i and 2i + 1 of the batch are pair i, chosen and rejected.
#[derive(Clone, Debug)]
pub struct PairSide {
    /// By how much each pair's rewards are to differ at least.
    pub margins: Vec<f32>,
    /// Place of each row's last token; none for rows of padding.
    pub ends: Vec<Option<u32>>,
    /// The reference's log-probability of each row's answer; empty without a reference.
    pub reference: Vec<f32>,
    /// Pairs that are no padding.
    pub real: usize,
}

/// Of drawn answers, a number for each position of the batch.
#[derive(Clone, Debug, Default)]
pub struct AnswerSide {
    /// Log-probabilities when the answers were drawn.
    pub old: Vec<f32>,
    /// By the reference; empty without one.
    pub reference: Vec<f32>,
    /// Advantages.
    pub advantages: Vec<f32>,
    /// Factors on the losses, 0 where no loss counts.
    pub factors: Vec<f32>,
    /// Values when the answers were drawn, and returns; empty without a value head.
    pub values: [Vec<f32>; 2],
}

impl Micro {
    /// Tokens alone.
    pub fn of(batch: Batch) -> Micro {
        Micro { batch, side: Side::None }
    }

    /// Pairs that are no padding.
    pub fn pairs(&self) -> usize {
        if let Side::Pairs(pairs) = &self.side { pairs.real } else { 0 }
    }
}

impl Session {
    /// Uploads a micro-batch.
    pub fn feed_micro(&mut self, micro: &Micro) -> Result<()> {
        self.feed(&micro.batch)?;
        let aims = self.program.aims;
        let goal = aims.objective.and_then(|objective| objective.goal);
        let executor = self.executor();
        match &micro.side {
            Side::None => Ok(()),
            Side::Pairs(pairs) => {
                if let Some(Goal::Preference(Preference { reference, .. })) = goal {
                    executor.upload(reference, &pairs.reference)?;
                }
                let Some(ScoreGoal::Reward(Reward { ends, margins, .. })) = aims.score else { return Ok(()) };
                let places: Vec<u32> = pairs.ends.iter().map(|end| end.unwrap_or(IGNORED)).collect();
                executor.upload_indices(ends, &places)?;
                executor.upload(margins, &pairs.margins)
            }
            Side::Answers(answers) => {
                let Some(Goal::Policy(Policy { old, reference, advantages, factors, .. })) = goal else {
                    return Ok(());
                };
                executor.upload(old, &answers.old)?;
                executor.upload(advantages, &answers.advantages)?;
                executor.upload(factors, &answers.factors)?;
                if let Some(reference) = reference {
                    executor.upload(reference, &answers.reference)?;
                }
                let Some(ScoreGoal::Value(Value { old, returns, .. })) = aims.score else { return Ok(()) };
                executor.upload(old, &answers.values[0])?;
                executor.upload(returns, &answers.values[1])
            }
        }
    }
}
