//! What the weights that a run began with think of its pairs of answers: log-probabilities, made in one pass before the
//! first update and kept in the run folder, so that training needs no second copy of the weights.

use super::lessons::PairLessons;
use super::micro::{Micro, Side};
use super::session::Session;
use crate::chat::preference::EncodedPair;
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

/// The log-probability of each pair's answers, chosen and rejected, summed over the tokens that count; behind them the
/// pair's mark, by which numbers of other pairs are not taken for its own.
#[derive(Clone, Debug, PartialEq)]
pub struct References {
    /// Of training pairs, by their place; NaN where no update comes to one.
    pub train: Vec<[f32; COLUMNS]>,
    /// Of the held-out pairs that validate.
    pub val: Vec<[f32; COLUMNS]>,
}

/// Numbers of a pair.
const COLUMNS: usize = 3;

impl References {
    /// Reads those that the run folder has; none if they are not there, not all that the run comes to, or of other
    /// pairs.
    ///
    /// # Errors
    /// If the file is not sound.
    pub fn read(run: &Path, pairs: &Preferences, config: &Config) -> Result<Option<References>> {
        Ok(Self::known(run)?.filter(|found| found.is_enough(pairs, config)))
    }

    /// The same of held-out pairs alone: none if those are not all there.
    ///
    /// # Errors
    /// If the file is not sound.
    pub fn of_held_out(run: &Path, pairs: &Preferences, config: &Config) -> Result<Option<References>> {
        Ok(Self::known(run)?.filter(|found| found.is_enough_to_validate(pairs, config)))
    }

    /// What the run folder has.
    fn known(run: &Path) -> Result<Option<References>> {
        let path = run.join(REFERENCES);
        if !path.exists() {
            return Ok(None);
        }
        let mut tensors = read_tensors(&path)?;
        let mut rows = |name: &str| -> Result<Vec<[f32; COLUMNS]>> {
            let wrong =
                || Error::file(&path, format!("has no {name} of {COLUMNS} numbers a pair; remove it to make it anew"));
            match tensors.remove(name) {
                Some(Tensor { shape, values: Values::Real(values) }) if shape.len() == 2 && shape[1] == COLUMNS => {
                    Ok(values.as_chunks().0.iter().map(|pair: &[f64; COLUMNS]| pair.map(|x| x as f32)).collect())
                }
                _ => Err(wrong()),
            }
        };
        Ok(Some(References { train: rows(TRAIN)?, val: rows(VAL)? }))
    }

    fn is_enough(&self, pairs: &Preferences, config: &Config) -> bool {
        self.is_enough_to_validate(pairs, config)
            && wanted(pairs, config).into_iter().all(|(place, n)| known(&self.train, place, &pairs.train_pair(n)))
    }

    fn is_enough_to_validate(&self, pairs: &Preferences, config: &Config) -> bool {
        (0..pairs.validated(config)).all(|i| known(&self.val, i, &pairs.val_pair(i)))
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
        let mut made = References { train: vec![[f32::NAN; COLUMNS]; places as usize], val: Vec::new() };
        let all: Vec<(u64, u64)> = numbers.into_iter().collect();
        for some in all.chunks(most) {
            let encoded: Vec<_> = some.iter().map(|&(_, n)| pairs.train_pair(n)).collect();
            let sums = sums(session, &Micro::of(pairs.batch(&encoded, most).batch), some.len())?;
            for ((&(place, _), [chosen, rejected]), pair) in some.iter().zip(sums).zip(&encoded) {
                made.train[place as usize] = [chosen, rejected, mark(pair)];
            }
        }
        let validated = pairs.validated(config);
        for first in (0..validated).step_by(most) {
            let numbers = first..validated.min(first + most as u64);
            let count = (numbers.end - numbers.start) as usize;
            let micro = Micro { side: Side::None, ..lessons.val_micro(numbers.clone(), most) };
            let sums = sums(session, &micro, count)?.into_iter().zip(numbers);
            made.val.extend(sums.map(|([chosen, rejected], i)| [chosen, rejected, mark(&pairs.val_pair(i))]));
        }
        if !made.is_enough(pairs, config) {
            return Err(Error::Numerics("the reference's log-probabilities are not finite".to_owned()));
        }
        let tensor = |name: &str, rows: &[[f32; COLUMNS]]| (name.to_owned(), vec![rows.len(), COLUMNS], rows.concat());
        write_tensors(&run.join(REFERENCES), &[tensor(TRAIN, &made.train), tensor(VAL, &made.val)])?;
        Ok(made)
    }
}

/// Whether the numbers at a place are there, and those of this pair.
fn known(rows: &[[f32; COLUMNS]], place: u64, pair: &EncodedPair) -> bool {
    rows.get(place as usize).is_some_and(|row| row.iter().all(|x| x.is_finite()) && row[2] == mark(pair))
}

/// 24 bits of a hash (FNV-1a) of a pair's tokens and of which count: an integer that f32 holds exactly.
fn mark(pair: &EncodedPair) -> f32 {
    let words = [&pair.chosen, &pair.rejected].into_iter().flat_map(|answer| {
        let tokens = answer.ids.iter().zip(&answer.counted);
        tokens.map(|(&id, &counted)| 2 * u64::from(id) + u64::from(counted)).chain([u64::MAX])
    });
    let hash = words.fold(0xcbf2_9ce4_8422_2325u64, |hash, word| (hash ^ word).wrapping_mul(0x0100_0000_01b3));
    (hash >> 40) as f32
}

/// The places of the training pairs that the run comes to, each with the number of the first time.
fn wanted(pairs: &Preferences, config: &Config) -> BTreeMap<u64, u64> {
    let train = &config.train;
    let updates = if train.overfit { 1 } else { train.steps };
    let all = updates.saturating_mul(train.accumulation as u64).saturating_mul(train.micro_batch as u64 / 2);
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
