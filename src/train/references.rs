//! What the weights that a run began with think of its pairs of answers: log-probabilities, made in one pass before the
//! first update and kept in the run folder, so that training needs no second copy of the weights.

use super::lessons::PairLessons;
use super::micro::{Micro, Side};
use super::session::Session;
use crate::checkpoint::tensors::{Tensor, Values, read_tensors, write_tensors};
use crate::config::Config;
use crate::data::preferences::Preferences;
use crate::error::{Error, Result};
use crate::kernels::state::{PAIR_CHOSEN_LOG_PROB, PAIR_COLUMNS, PAIR_REJECTED_LOG_PROB};
use crate::model::program::{EVALUATE, RESET};
use std::collections::BTreeMap;
use std::path::Path;

/// The file in a run folder.
pub const REFERENCES: &str = "reference_logps.safetensors";
const TRAIN: &str = "train";
const VAL: &str = "val";

/// The log-probability of each pair's answers, chosen and rejected, summed over the tokens that count.
#[derive(Clone, Debug, PartialEq)]
pub struct References {
    /// Of training pairs, by their place; NaN where no update comes to one.
    pub train: Vec<[f32; 2]>,
    /// Of the held-out pairs that validate.
    pub val: Vec<[f32; 2]>,
}

impl References {
    /// Reads those that the run folder has; none if they are not there, or not all that the run comes to.
    ///
    /// # Errors
    /// If the file is not sound.
    pub fn read(run: &Path, pairs: &Preferences, config: &Config) -> Result<Option<References>> {
        let path = run.join(REFERENCES);
        if !path.exists() {
            return Ok(None);
        }
        let mut tensors = read_tensors(&path)?;
        let mut rows = |name: &str| -> Result<Vec<[f32; 2]>> {
            let wrong =
                || Error::file(&path, format!("has no {name} of two numbers a pair; remove it to make it anew"));
            match tensors.remove(name) {
                Some(Tensor { shape, values: Values::Real(values) }) if shape.len() == 2 && shape[1] == 2 => {
                    Ok(values.chunks_exact(2).map(|pair| [pair[0] as f32, pair[1] as f32]).collect())
                }
                _ => Err(wrong()),
            }
        };
        let found = References { train: rows(TRAIN)?, val: rows(VAL)? };
        Ok(Some(found).filter(|found| found.is_enough(pairs, config)))
    }

    fn is_enough(&self, pairs: &Preferences, config: &Config) -> bool {
        let known = |pair: &[f32; 2]| pair.iter().all(|x| x.is_finite());
        let wanted = wanted(pairs, config).into_keys();
        self.val.len() as u64 >= pairs.validated(config)
            && self.val.iter().all(known)
            && wanted.into_iter().all(|place| self.train.get(place as usize).is_some_and(known))
    }

    /// Makes them with the weights that `session` holds and writes them into the run folder.
    ///
    /// # Errors
    /// If the device fails, one is not finite, or the file cannot be written.
    pub fn make(run: &Path, session: &mut Session, pairs: &Preferences, config: &Config) -> Result<References> {
        let lessons = PairLessons { pairs, references: None };
        let most = config.train.micro_batch / 2;
        let numbers = wanted(pairs, config);
        let places = numbers.keys().next_back().map_or(0, |last| last + 1);
        let mut made = References { train: vec![[f32::NAN; 2]; places as usize], val: Vec::new() };
        let all: Vec<(u64, u64)> = numbers.into_iter().collect();
        for some in all.chunks(most) {
            let encoded: Vec<_> = some.iter().map(|&(_, n)| pairs.train_pair(n)).collect();
            let sums = sums(session, &Micro::of(pairs.batch(&encoded, most).batch), some.len())?;
            some.iter().zip(sums).for_each(|(&(place, _), sum)| made.train[place as usize] = sum);
        }
        let validated = pairs.validated(config);
        for first in (0..validated).step_by(most) {
            let numbers = first..validated.min(first + most as u64);
            let count = (numbers.end - numbers.start) as usize;
            let micro = Micro { side: Side::None, ..lessons.val_micro(numbers, most) };
            made.val.extend(sums(session, &micro, count)?);
        }
        if !made.is_enough(pairs, config) {
            return Err(Error::Numerics("the reference's log-probabilities are not finite".to_owned()));
        }
        let tensor = |name: &str, rows: &[[f32; 2]]| (name.to_owned(), vec![rows.len(), 2], rows.concat());
        write_tensors(&run.join(REFERENCES), &[tensor(TRAIN, &made.train), tensor(VAL, &made.val)])?;
        Ok(made)
    }
}

/// The places of the training pairs that the run comes to, each with the number of the first time.
fn wanted(pairs: &Preferences, config: &Config) -> BTreeMap<u64, u64> {
    let train = &config.train;
    let updates = if train.overfit { 1 } else { train.steps };
    let all = updates * train.accumulation as u64 * (train.micro_batch as u64 / 2);
    let all = pairs.pairs().map_or(all, |(epoch, _)| all.min(epoch));
    (0..all).map(|n| (pairs.place(n), n)).collect()
}

/// The log-probabilities of the first `count` pairs of a micro-batch, added up as the loss adds them up: of weights
/// that have not changed the rewards are 0, and not about 0.
fn sums(session: &mut Session, micro: &Micro, count: usize) -> Result<Vec<[f32; 2]>> {
    session.run(RESET)?;
    session.feed_micro(micro)?;
    session.run(EVALUATE)?;
    let [results, _] = session.program.aims.results();
    let rows = results.map(|results| session.read(results.rows)).transpose()?.unwrap_or_default();
    let sums = |row: &[f32]| [row[PAIR_CHOSEN_LOG_PROB], row[PAIR_REJECTED_LOG_PROB]];
    Ok(rows.chunks_exact(PAIR_COLUMNS).take(count).map(sums).collect())
}
