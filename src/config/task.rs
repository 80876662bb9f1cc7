//! Which questions a model is trained to answer by reward: `[task]` in TOML.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// Most digits of a number in a question.
const MOST_DIGITS: u32 = 9;

/// A kind of questions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum TaskKind {
    /// On the facts of the embedded world, with demands on form and length.
    #[default]
    World,
    /// Sums and differences of natural numbers.
    Arithmetic,
}

/// Questions without end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TaskConfig {
    /// What is asked: `world` or `arithmetic`; default `world`.
    pub kind: TaskKind,
    /// Most digits of a number (arithmetic only): 1 to 9; default 2.
    pub digits: u32,
    /// Whether the right answer has `####` before it (arithmetic only), as in GSM8K; default true.
    pub marked: bool,
}

impl TaskConfig {
    /// Refuses what cannot be asked.
    ///
    /// # Errors
    /// Name the key as it stands under `[task]`.
    pub fn validate(&self) -> Result<()> {
        match self.digits {
            1..=MOST_DIGITS => Ok(()),
            digits => Err(Error::config("task.digits", format!("is {digits}; it must be 1 to {MOST_DIGITS}"))),
        }
    }
}

impl Default for TaskConfig {
    fn default() -> Self {
        TaskConfig { kind: TaskKind::World, digits: 2, marked: true }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unusable_digits_and_unknown_keys_are_refused() {
        let parsed: TaskConfig = toml::from_str("kind = \"arithmetic\"\ndigits = 3").unwrap();
        assert_eq!(parsed, TaskConfig { kind: TaskKind::Arithmetic, digits: 3, marked: true });
        assert!(parsed.validate().is_ok());
        for digits in [0, 10] {
            let error = TaskConfig { digits, ..parsed.clone() }.validate().unwrap_err();
            assert_eq!(error.to_string(), format!("task.digits: is {digits}; it must be 1 to 9"));
        }
        assert!(toml::from_str::<TaskConfig>("digit = 3").is_err());
    }
}
