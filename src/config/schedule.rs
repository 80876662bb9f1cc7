//! `[schedule]`: the learning rate over the run.

use super::train::demand;
use crate::error::Result;
use serde::de::{Deserializer, Unexpected, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use std::fmt;

/// Shape of the learning rate after warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum ScheduleKind {
    /// Half a cosine from the peak to the minimum.
    #[default]
    Cosine,
    /// A straight line from the peak to the minimum.
    Linear,
    /// The peak, then a straight line to the minimum over the last `cooldown_steps`: a run that went on at the peak can
    /// be finished from any of its checkpoints.
    WarmupStableDecay,
    /// The peak throughout.
    Constant,
}

impl ScheduleKind {
    /// The shape in words.
    pub fn words(self) -> &'static str {
        match self {
            ScheduleKind::Cosine => "cosine",
            ScheduleKind::Linear => "linear",
            ScheduleKind::WarmupStableDecay => "stable, then linear",
            ScheduleKind::Constant => "constant",
        }
    }
}

/// Length of the warm-up: a whole number of steps or, below 1, a share of `train.steps`, as in transformers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Warmup {
    /// So many steps.
    Steps(u64),
    /// This share of the run, above 0 and below 1.
    Share(f64),
}

impl Warmup {
    /// w of a run of `steps`. A share is rounded up and leaves the last step to the full rate.
    pub fn of(self, steps: u64) -> u64 {
        match self {
            Warmup::Steps(count) => count,
            Warmup::Share(share) => ((share * steps as f64).ceil() as u64).min(steps.saturating_sub(1)),
        }
    }
}

impl Serialize for Warmup {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        match *self {
            Warmup::Steps(count) => serializer.serialize_u64(count),
            Warmup::Share(share) => serializer.serialize_f64(share),
        }
    }
}

impl<'de> Deserialize<'de> for Warmup {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_any(WarmupVisitor)
    }
}

struct WarmupVisitor;

impl Visitor<'_> for WarmupVisitor {
    type Value = Warmup;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a whole number of steps, or a share of train.steps below 1")
    }

    fn visit_u64<E: serde::de::Error>(self, count: u64) -> std::result::Result<Warmup, E> {
        Ok(Warmup::Steps(count))
    }

    fn visit_i64<E: serde::de::Error>(self, count: i64) -> std::result::Result<Warmup, E> {
        let found = u64::try_from(count).map(Warmup::Steps);
        found.map_err(|_| E::invalid_value(Unexpected::Signed(count), &self))
    }

    fn visit_f64<E: serde::de::Error>(self, number: f64) -> std::result::Result<Warmup, E> {
        match number {
            n if n > 0.0 && n < 1.0 => Ok(Warmup::Share(n)),
            n if n >= 0.0 && n.fract() == 0.0 && n < 1e15 => Ok(Warmup::Steps(n as u64)),
            n => Err(E::invalid_value(Unexpected::Float(n), &self)),
        }
    }
}

/// `[schedule]`: the learning rate over the run. Unless they are set in steps, warm-up and decay follow `train.steps`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ScheduleConfig {
    /// Shape after warm-up: `cosine`, `linear`, `warmup_stable_decay` or `constant`; default `cosine`.
    pub kind: ScheduleKind,
    /// w: steps of linear rise or, below 1, their share of `train.steps`; default 0.1.
    pub warmup_steps: Warmup,
    /// D: step at which the minimum is reached; 0 for `train.steps`; default 0.
    pub decay_steps: u64,
    /// Steps of the final fall, for `warmup_stable_decay`; 0 for a tenth of D; default 0.
    pub cooldown_steps: u64,
    /// Learning rate at and after D, except for `constant`; default 0.
    pub min_learning_rate: f64,
}

impl Default for ScheduleConfig {
    fn default() -> Self {
        ScheduleConfig {
            kind: ScheduleKind::Cosine,
            warmup_steps: Warmup::Share(0.1),
            decay_steps: 0,
            cooldown_steps: 0,
            min_learning_rate: 0.0,
        }
    }
}

/// The steps at which the learning rate of a run turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turns {
    /// w: steps of the rise.
    pub warmup: u64,
    /// Step from which the rate falls.
    pub fall: u64,
    /// D: step from which it is at its minimum.
    pub end: u64,
}

impl ScheduleConfig {
    /// Refuses a minimum that lies above the peak `learning_rate`.
    pub fn validate(&self, learning_rate: f64) -> Result<()> {
        let lowest = self.min_learning_rate;
        let wanted = "at least 0 and at most optimizer.learning_rate";
        demand((0.0..=learning_rate).contains(&lowest), "schedule.min_learning_rate", lowest, wanted)
    }

    /// Where the rate of a run of `steps` turns; a constant one neither falls nor ends.
    pub fn turns(&self, steps: u64) -> Turns {
        let warmup = self.warmup_steps.of(steps);
        let end = if self.decay_steps == 0 { steps } else { self.decay_steps };
        let cooldown = if self.cooldown_steps == 0 { end / 10 } else { self.cooldown_steps };
        match self.kind {
            ScheduleKind::Constant => Turns { warmup, fall: u64::MAX, end: u64::MAX },
            ScheduleKind::WarmupStableDecay => Turns { warmup, fall: warmup.max(end.saturating_sub(cooldown)), end },
            ScheduleKind::Cosine | ScheduleKind::Linear => Turns { warmup, fall: warmup, end },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &str) -> std::result::Result<Warmup, String> {
        let read = toml::from_str::<ScheduleConfig>(&format!("warmup_steps = {value}"));
        read.map(|schedule| schedule.warmup_steps).map_err(|e| e.message().to_owned())
    }

    #[test]
    fn a_warm_up_is_a_number_of_steps_or_a_share_and_is_written_as_it_was_read() {
        for (text, warmup) in [
            ("30", Warmup::Steps(30)),
            ("0", Warmup::Steps(0)),
            ("1", Warmup::Steps(1)),
            ("30.0", Warmup::Steps(30)),
            ("0.0", Warmup::Steps(0)),
            ("0.05", Warmup::Share(0.05)),
        ] {
            assert_eq!(read(text), Ok(warmup), "{text}");
            let schedule = ScheduleConfig { warmup_steps: warmup, ..ScheduleConfig::default() };
            let written = toml::to_string(&schedule).unwrap();
            assert_eq!(toml::from_str::<ScheduleConfig>(&written).unwrap(), schedule, "{written}");
        }
        for text in ["-1", "-0.5", "1.5", "nan", "inf", "\"a tenth\"", "[1]"] {
            assert!(read(text).unwrap_err().contains("a share of train.steps below 1"), "{text}");
        }
    }

    #[test]
    fn a_share_is_rounded_up_and_leaves_a_step_at_the_full_rate() {
        for (share, steps, warmup) in [(0.05, 600, 30), (0.05, 601, 31), (0.05, 4, 1), (0.05, 1, 0), (0.9, 10, 9)] {
            assert_eq!(Warmup::Share(share).of(steps), warmup, "{share} of {steps}");
        }
        assert_eq!(Warmup::Share(0.99).of(10), 9);
        assert_eq!(Warmup::Steps(50).of(10), 50);
    }
}
