//! What a run records of its updates and validations.

use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;

/// One line of `metrics.jsonl`. Losses are in nats a token; a number that is not finite is written as `null`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "split", rename_all = "lowercase")]
pub enum Row {
    /// After an update.
    Train(TrainRow),
    /// After a validation.
    Val(ValRow),
}

/// A row with the time at which it was written: a line of `metrics.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stamped<R = Row> {
    /// The row.
    #[serde(flatten)]
    pub row: R,
    /// Seconds since the run began, without what lay between a stop and going on; NaN in rows of older runs.
    #[serde(deserialize_with = "number", default = "none", skip_serializing_if = "is_none")]
    pub elapsed: f64,
    /// Seconds since 1970, as TensorBoard's events have them; NaN in rows of older runs.
    #[serde(deserialize_with = "number", default = "none", skip_serializing_if = "is_none")]
    pub wall_time: f64,
}

impl From<Row> for Stamped {
    /// A row whose time is not known.
    fn from(row: Row) -> Stamped {
        Stamped { row, elapsed: f64::NAN, wall_time: f64::NAN }
    }
}

/// What one update saw and did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TrainRow {
    /// Updates done, this one included: the first row has 1.
    pub step: u64,
    /// Mean cross-entropy over the target tokens of the window, before the update; without the balance loss.
    #[serde(deserialize_with = "number")]
    pub loss: f64,
    /// Balance loss of the experts, weighted as it enters the gradient.
    #[serde(default, deserialize_with = "number")]
    pub balance_loss: f64,
    /// Learning rate of the update.
    #[serde(deserialize_with = "number")]
    pub lr: f64,
    /// Norm of the whole gradient before clipping.
    #[serde(deserialize_with = "number")]
    pub grad_norm: f64,
    /// Target tokens trained on since the beginning of the run.
    pub tokens: u64,
    /// Target tokens a second of wall time, over the last updates.
    #[serde(deserialize_with = "number")]
    pub tokens_per_second: f64,
    /// Factor on the loss gradient that the next update begins with; 1 in f32.
    #[serde(default = "one", deserialize_with = "number")]
    pub loss_scale: f64,
    /// Updates skipped so far because they were not finite or their loss was a spike.
    #[serde(default)]
    pub skipped: u64,
    /// How evenly the window's tokens fell on the experts, one entry a layer with experts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expert_load: Vec<ExpertLoad>,
    /// Pairs of a token and a chosen expert that no expert took, over all layers: 0, since nothing has a capacity here.
    #[serde(default)]
    pub dropped: u64,
    /// In fine-tuning, what TRL reports under these names.
    #[serde(flatten, default, skip_serializing_if = "Option::is_none")]
    pub sft: Option<SftNumbers>,
    /// In preference training, what TRL reports under these names.
    #[serde(flatten, deserialize_with = "numbers")]
    pub numbers: Numbers,
}

/// Numbers of a stage by name, beside those that every stage has.
pub type Numbers = BTreeMap<String, f64>;

/// What only fine-tuning reports, under TRL's names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SftNumbers {
    /// Share of the window's target tokens that the model finds most probable.
    #[serde(deserialize_with = "number")]
    pub mean_token_accuracy: f64,
    /// Tokens seen since the beginning of the run, counted in the loss or not; padding is none.
    pub num_tokens: u64,
    /// Balance loss of the experts before it is weighted.
    #[serde(deserialize_with = "number")]
    pub aux_loss: f64,
}

/// How evenly tokens fell on the experts of one layer. A share is an expert's part of the pairs of a token and one of
/// its chosen experts, padding left out; in balance each of E experts has 1/E.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ExpertLoad {
    /// Number of the block.
    pub layer: usize,
    /// Largest share of an expert.
    #[serde(deserialize_with = "number")]
    pub max: f64,
    /// Smallest share.
    #[serde(deserialize_with = "number")]
    pub min: f64,
    /// Entropy of the shares over its largest value, ln E: 1 in balance, 0 where one expert takes all.
    #[serde(deserialize_with = "number")]
    pub entropy: f64,
}

impl ExpertLoad {
    /// From the number of pairs of each expert of block `layer`.
    pub fn of(layer: usize, pairs: &[f32]) -> ExpertLoad {
        let all: f64 = pairs.iter().map(|&x| f64::from(x)).sum::<f64>().max(1.0); // of padding alone there are none
        let shares = || pairs.iter().map(|&x| f64::from(x) / all);
        let entropy = -shares().filter(|&s| s > 0.0).map(|s| s * s.ln()).sum::<f64>();
        let largest = (pairs.len() as f64).ln();
        ExpertLoad {
            layer,
            max: shares().fold(f64::NAN, f64::max),
            min: shares().fold(f64::NAN, f64::min),
            entropy: if largest > 0.0 { (entropy / largest).clamp(0.0, 1.0) } else { 1.0 },
        }
    }
}

/// What one validation found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ValRow {
    /// Updates done before it; 0 for the weights that the run began with.
    pub step: u64,
    /// Mean cross-entropy over the held-out target tokens; of pairs the loss that training lowers, of rollouts none.
    #[serde(deserialize_with = "number")]
    pub loss: f64,
    /// The same in bits a byte of text; none in preference training.
    #[serde(deserialize_with = "number", default = "none", skip_serializing_if = "is_none")]
    pub bits_per_byte: f64,
    /// Share of target tokens that the model finds most probable; none in preference training.
    #[serde(deserialize_with = "number", default = "none", skip_serializing_if = "is_none")]
    pub token_accuracy: f64,
    /// In preference training, numbers under the names that updates have them under.
    #[serde(flatten, deserialize_with = "numbers")]
    pub numbers: Numbers,
}

impl ValRow {
    /// Of preference training, which has no loss a byte and predicts no token.
    pub fn of_stage(step: u64, loss: f64, numbers: Numbers) -> ValRow {
        ValRow { step, loss, bits_per_byte: f64::NAN, token_accuracy: f64::NAN, numbers }
    }

    /// What the best of a run has least of: the loss, or of drawn answers, which have none, minus the mean reward.
    pub fn judged(&self) -> f64 {
        match self.numbers.get("reward") {
            Some(reward) if self.loss.is_nan() => -reward,
            _ => self.loss,
        }
    }
}

impl Row {
    /// Updates done when the row was written.
    pub fn step(&self) -> u64 {
        match self {
            Row::Train(row) => row.step,
            Row::Val(row) => row.step,
        }
    }
}

/// JSON has no word for numbers that are not finite: they are written as `null` and read back as NaN.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<f64, D::Error> {
    Ok(Option::<f64>::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

fn numbers<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Numbers, D::Error> {
    let all = BTreeMap::<String, Option<f64>>::deserialize(deserializer)?;
    Ok(all.into_iter().map(|(name, value)| (name, value.unwrap_or(f64::NAN))).collect())
}

/// A number that a stage does not have.
fn none() -> f64 {
    f64::NAN
}

fn is_none(value: &f64) -> bool {
    value.is_nan()
}

/// The loss scale of rows from before there was one.
fn one() -> f64 {
    1.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_older_runs_have_a_loss_scale_of_one() {
        let text =
            r#"{"split":"train","step":3,"loss":2.5,"lr":0.001,"grad_norm":1.5,"tokens":96,"tokens_per_second":9.5}"#;
        let row: Row = serde_json::from_str(text).unwrap();
        let rate = TrainRow { step: 3, loss: 2.5, lr: 1e-3, grad_norm: 1.5, tokens: 96, ..Default::default() };
        assert_eq!(row, Row::Train(TrainRow { tokens_per_second: 9.5, loss_scale: 1.0, ..rate }));
        let text = serde_json::to_string(&row).unwrap();
        assert!(!text.contains("expert_load") && text.contains("\"dropped\":0"), "{text}");
    }

    #[test]
    fn numbers_of_a_stage_stand_beside_the_others_under_their_names() {
        let numbers = Numbers::from([("reward".to_owned(), 0.5), ("kl".to_owned(), 0.25)]);
        let sft = SftNumbers { mean_token_accuracy: 0.5, num_tokens: 7, aux_loss: 0.0 };
        let load = ExpertLoad::of(1, &[1.0, 3.0]);
        for sft in [None, Some(sft)] {
            let train =
                TrainRow { step: 3, sft, expert_load: vec![load], numbers: numbers.clone(), ..Default::default() };
            let val = ValRow { step: 3, loss: 1.0, numbers: numbers.clone(), ..Default::default() };
            for row in [Row::Train(train), Row::Val(val)] {
                let text = serde_json::to_string(&row).unwrap();
                assert!(text.contains("\"reward\":0.5") && text.contains("\"kl\":0.25"), "{text}");
                assert_eq!(serde_json::from_str::<Row>(&text).unwrap(), row);
            }
        }
        let odd = r#"{"split":"val","step":1,"loss":null,"reward":null}"#;
        let Row::Val(row) = serde_json::from_str(odd).unwrap() else { panic!("a validation") };
        assert!(row.numbers["reward"].is_nan() && row.bits_per_byte.is_nan());
        assert!(!serde_json::to_string(&Row::Val(row)).unwrap().contains("bits_per_byte"));
        assert!(serde_json::from_str::<Row>(r#"{"split":"val","step":1,"loss":1.0,"reward":"x"}"#).is_err());
    }

    #[test]
    fn a_stamp_stands_beside_the_numbers_of_a_row_and_is_none_of_them() {
        let numbers = Numbers::from([("reward".to_owned(), 0.5)]);
        let train = Row::Train(TrainRow { step: u64::MAX, numbers: numbers.clone(), ..Default::default() });
        let val = Row::Val(ValRow { step: 3, loss: 1.0, numbers, ..Default::default() });
        for row in [train, val] {
            let line = serde_json::to_string(&Stamped { row: &row, elapsed: 1.5, wall_time: 1.75e9 }).unwrap();
            assert!(line.starts_with("{\"split\":") && line.ends_with("\"elapsed\":1.5,\"wall_time\":1750000000.0}"));
            let read: Stamped = serde_json::from_str(&line).unwrap();
            assert_eq!(read, Stamped { row: row.clone(), elapsed: 1.5, wall_time: 1.75e9 });
            let old: Stamped = serde_json::from_str(&serde_json::to_string(&row).unwrap()).unwrap();
            assert!(old.row == row && old.elapsed.is_nan() && old.wall_time.is_nan());
            let odd = line.replace("1.5,", "\"soon\",");
            assert!(serde_json::from_str::<Stamped>(&odd).is_err(), "{odd}");
        }
    }

    #[test]
    fn a_load_is_judged_by_its_shares() {
        let load = |pairs: &[f32]| ExpertLoad::of(3, pairs);
        assert_eq!(load(&[7.0; 4]), ExpertLoad { layer: 3, max: 0.25, min: 0.25, entropy: 1.0 });
        assert_eq!(load(&[0.0, 9.0, 0.0]), ExpertLoad { layer: 3, max: 1.0, min: 0.0, entropy: 0.0 });
        assert_eq!(load(&[5.0]), ExpertLoad { layer: 3, max: 1.0, min: 1.0, entropy: 1.0 });
        let half = load(&[2.0, 2.0, 0.0, 0.0]);
        assert_eq!((half.max, half.min), (0.5, 0.0));
        approx::assert_relative_eq!(half.entropy, 0.5);
        let row = Row::Train(TrainRow { expert_load: vec![half], ..TrainRow::default() });
        assert_eq!(serde_json::from_str::<Row>(&serde_json::to_string(&row).unwrap()).unwrap(), row);
    }
}
