//! How good completions are: functions of a question and its completion, and their weighted sum.
//!
//! In reading order: [`Reward`] (what a function is), `exact`, `number`, `length`, `format` and `world` (functions),
//! `command` (an external program's, by way of `process`), [`model`] (a reward model's), and [`Rewards`] (the sum). A
//! new function is a file with a [`Reward`], a name in [`RewardKind`] and an arm in [`Rewards::open`].

mod command;
mod exact;
mod format;
mod length;
pub mod model;
mod number;
mod process;
mod world;

use crate::config::reward::{RewardConfig, RewardKind};
use crate::data::questions::Question;
use crate::error::{Error, Result};
use model::Scorer;

/// A completion to be judged.
#[derive(Clone, Copy, Debug)]
pub struct Sample<'s> {
    /// What was asked.
    pub question: &'s Question,
    /// The text that the model answered.
    pub completion: &'s str,
    /// Its tokens, the one that ends it included.
    pub tokens: usize,
    /// The tokens of the prompt and of the answer with its end, which a reward model reads.
    pub sequence: &'s [u32],
}

/// A function that judges completions.
pub trait Reward {
    /// A finite number for each of `samples`; none where it failed and that is allowed.
    ///
    /// # Errors
    /// If it cannot judge them.
    fn judge(&mut self, samples: &[Sample]) -> Result<Vec<Option<f64>>>;

    /// Frees what it has on a device, also on one that is lost; it judges nothing any more. Most have nothing.
    fn close(&mut self) {}
}

/// The weighted sum of functions.
pub struct Rewards {
    parts: Vec<(RewardKind, f64, Box<dyn Reward>)>,
}

/// How a batch was judged.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scores {
    /// The reward of each sample: the sum of weight times what the function said.
    pub totals: Vec<f64>,
    /// What each function said.
    pub parts: Vec<Part>,
}

/// What one function said, before its weight.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// The function's name.
    pub name: &'static str,
    /// A number for each sample; 0 where it failed.
    pub values: Vec<f64>,
    /// Samples that it failed to judge.
    pub failed: usize,
}

impl Scores {
    /// Adds those of another batch, judged by the same functions, behind these.
    pub fn extend(&mut self, other: Scores) {
        self.totals.extend(other.totals);
        for (part, more) in self.parts.iter_mut().zip(other.parts) {
            part.values.extend(more.values);
            part.failed += more.failed;
        }
    }
}

impl Rewards {
    /// The functions that `config` names, a reward model as `scorer`. An external program is started.
    ///
    /// # Errors
    /// If `config` cannot be used, or the program cannot be started.
    pub fn open(config: &RewardConfig, scorer: Option<Scorer>) -> Result<Rewards> {
        config.validate()?;
        let mut scorer = scorer;
        let mut open = |kind: RewardKind| -> Result<Box<dyn Reward>> {
            Ok(match kind {
                RewardKind::World => Box::new(world::World),
                RewardKind::Exact => Box::new(exact::Exact),
                RewardKind::Number => Box::new(number::Number),
                RewardKind::Length => Box::new(length::Length::new(config)),
                RewardKind::Format => Box::new(format::Format::new(config)?),
                RewardKind::Command => Box::new(command::Command::start(config)?),
                RewardKind::Model => {
                    let missing = || Error::config("reward.model", "is on no device, so it cannot judge");
                    Box::new(scorer.take().ok_or_else(missing)?)
                }
            })
        };
        let parts = config.functions.iter().zip(config.weights());
        let parts = parts.map(|(&kind, weight)| Ok((kind, weight, open(kind)?)));
        Ok(Rewards { parts: parts.collect::<Result<_>>()? })
    }

    /// Frees what the functions have on a device.
    pub fn close(&mut self) {
        self.parts.iter_mut().for_each(|(_, _, reward)| reward.close());
    }

    /// The reward model judges as `scorer` from now on, on a device that was opened again.
    pub fn renew(&mut self, scorer: Scorer) {
        if let Some((_, _, reward)) = self.parts.iter_mut().find(|(kind, ..)| *kind == RewardKind::Model) {
            *reward = Box::new(scorer);
        }
    }

    /// Judges a batch.
    ///
    /// # Errors
    /// If a function cannot judge it.
    pub fn judge(&mut self, samples: &[Sample]) -> Result<Scores> {
        let mut scores = Scores { totals: vec![0.0; samples.len()], parts: Vec::new() };
        for (kind, weight, reward) in &mut self.parts {
            let judged = reward.judge(samples)?;
            assert_eq!(judged.len(), samples.len(), "{} judges every sample", kind.name());
            let failed = judged.iter().filter(|value| value.is_none()).count();
            let values: Vec<f64> = judged.into_iter().map(Option::unwrap_or_default).collect();
            scores.totals.iter_mut().zip(&values).for_each(|(total, value)| *total += *weight * value);
            scores.parts.push(Part { name: kind.name(), values, failed });
        }
        Ok(scores)
    }
}

/// 1 for each sample of which `holds` is true, 0 for others.
fn each(samples: &[Sample], holds: impl Fn(&Sample) -> bool) -> Vec<Option<f64>> {
    samples.iter().map(|sample| Some(f64::from(u8::from(holds(sample))))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A question with this right answer.
    pub fn asked(reference: &str) -> Question {
        Question { prompt: Vec::new(), reference: Some(reference.to_owned()), check: None }
    }

    /// What `reward` says of one completion.
    pub fn one(reward: &mut dyn Reward, reference: &str, completion: &str) -> f64 {
        let question = asked(reference);
        let tokens = completion.split(' ').count();
        reward.judge(&[Sample { question: &question, completion, tokens, sequence: &[] }]).unwrap()[0].unwrap()
    }

    #[test]
    fn the_sum_is_weighted_and_every_part_is_told() {
        let config = RewardConfig {
            functions: vec![RewardKind::Exact, RewardKind::Number, RewardKind::Length],
            weights: Some(vec![1.0, 0.5, -2.0]),
            max_length: 2,
            length_slope: 2,
            ..RewardConfig::default()
        };
        let mut rewards = Rewards::open(&config, None).unwrap();
        let question = asked("#### 7");
        let completions = ["#### 7", "so #### 7", "no"];
        let samples = completions.map(|text| {
            let tokens = text.split(' ').count();
            Sample { question: &question, completion: text, tokens, sequence: &[] }
        });
        let scores = rewards.judge(&samples).unwrap();
        let parts: Vec<(&str, &[f64], usize)> =
            scores.parts.iter().map(|part| (part.name, &part.values[..], part.failed)).collect();
        assert_eq!(
            parts,
            [("exact", &[1.0, 0.0, 0.0][..], 0), ("number", &[1.0, 1.0, 0.0], 0), ("length", &[1.0, 0.5, 1.0], 0)]
        );
        assert_eq!(scores.totals, [1.0 + 0.5 - 2.0, 0.5 - 1.0, -2.0]);
        assert_eq!(rewards.judge(&[]).unwrap().totals, [0.0; 0]);
    }

    #[test]
    fn what_cannot_be_opened_is_one_sentence() {
        for config in [
            RewardConfig { functions: vec![], ..RewardConfig::default() },
            RewardConfig { functions: vec![RewardKind::Format], pattern: Some("(".into()), ..RewardConfig::default() },
            RewardConfig {
                functions: vec![RewardKind::Command],
                command: vec!["no-such-program-anywhere".into()],
                ..RewardConfig::default()
            },
            RewardConfig { functions: vec![RewardKind::Model], ..RewardConfig::default() },
        ] {
            let Err(error) = Rewards::open(&config, None) else { panic!("{config:?} was opened") };
            let text = error.to_string();
            assert!(text.starts_with("reward.") && !text.contains('\n'), "{text}");
            assert_eq!(error.exit_code(), 2);
        }
    }
}
