//! How completions are judged: `[reward]` in TOML.

use crate::error::{Error, Result};
use serde::de::value::SeqAccessDeserializer;
use serde::de::{Deserializer, SeqAccess, Unexpected, Visitor};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;

/// A function that judges completions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RewardKind {
    /// Whether an answer to a question of the embedded world is right and does as demanded.
    World,
    /// Whether it is the right answer letter for letter.
    Exact,
    /// Whether the number after the last `####` is the right one.
    Number,
    /// Whether its length is within bounds.
    Length,
    /// Whether it matches a regular expression.
    Format,
    /// What an external program says.
    Command,
    /// What a reward model says.
    Model,
}

impl RewardKind {
    /// Its name in configuration and reports.
    pub fn name(self) -> &'static str {
        match self {
            RewardKind::World => "world",
            RewardKind::Exact => "exact",
            RewardKind::Number => "number",
            RewardKind::Length => "length",
            RewardKind::Format => "format",
            RewardKind::Command => "command",
            RewardKind::Model => "model",
        }
    }

    /// Whether it compares answers with one that is known to be right.
    pub fn compares(self) -> bool {
        matches!(self, RewardKind::Exact | RewardKind::Number)
    }
}

/// Why [`RewardKind::World`] is refused where other questions are asked.
pub const WORLD_ALONE: &str =
    "has world, which judges answers to the embedded world's questions alone; name another function";

/// What becomes of a completion that the external program failed to judge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// The run ends with an error.
    #[default]
    Error,
    /// Its reward is 0, and is counted as failed.
    Zero,
}

/// A reward: the weighted sum of functions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RewardConfig {
    /// What judges: of `world`, `exact`, `number`, `length`, `format`, `command`, `model` at least one, each once;
    /// default `["world"]`.
    pub functions: Vec<RewardKind>,
    /// The weight of each in the sum; 1 each if absent.
    pub weights: Option<Vec<f64>>,
    /// Least tokens of a completion for the full reward of `length`; default 1.
    pub min_length: usize,
    /// Most tokens of a completion for the full reward of `length`; default 64.
    pub max_length: usize,
    /// Tokens beyond either bound over which the reward of `length` falls from 1 to 0, linearly; default 16.
    pub length_slope: usize,
    /// The regular expression of `format`; `^` and `$` are the ends of the completion.
    pub pattern: Option<String>,
    /// The program of `command` and its arguments: a list, or one text that is split at spaces as a shell does.
    #[serde(deserialize_with = "words")]
    pub command: Vec<String>,
    /// Seconds in which it has to judge a batch; default 60.
    pub timeout: f64,
    /// What becomes of completions that it fails to judge: `error` or `zero`; default `error`.
    pub on_failure: OnFailure,
    /// The reward model of `model`: a run folder of `hadal reward`, or a checkpoint of one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<PathBuf>,
}

/// A list of words, or a text that is one.
fn words<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Vec<String>, D::Error> {
    struct Words;
    impl<'de> Visitor<'de> for Words {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
            f.write_str("a program and its arguments: a list in brackets, or one text in quotes")
        }

        fn visit_str<E: serde::de::Error>(self, text: &str) -> std::result::Result<Vec<String>, E> {
            // In paths of Windows a backslash is no escape.
            let text = if cfg!(windows) { text.replace('\\', "\\\\") } else { text.to_owned() };
            shlex::split(&text).ok_or_else(|| E::invalid_value(Unexpected::Str(&text), &"closed quotes"))
        }

        fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> std::result::Result<Vec<String>, A::Error> {
            Vec::deserialize(SeqAccessDeserializer::new(list))
        }
    }
    deserializer.deserialize_any(Words)
}

impl Default for RewardConfig {
    fn default() -> Self {
        RewardConfig {
            functions: vec![RewardKind::World],
            weights: None,
            min_length: 1,
            max_length: 64,
            length_slope: 16,
            pattern: None,
            command: Vec::new(),
            timeout: 60.0,
            on_failure: OnFailure::Error,
            model: None,
        }
    }
}

/// The longest that a batch may take to be judged: a day.
const LONGEST_TIMEOUT: f64 = 86_400.0;
/// The largest weight: rewards stay far from what f32 loses.
const LARGEST_WEIGHT: f64 = 1e6;

impl RewardConfig {
    /// The weight of each function.
    pub fn weights(&self) -> Vec<f64> {
        self.weights.clone().unwrap_or_else(|| vec![1.0; self.functions.len()])
    }

    /// Refuses what cannot judge.
    ///
    /// # Errors
    /// Name the key as it stands under `[reward]`.
    pub fn validate(&self) -> Result<()> {
        let refuse = |key: &str, reason: String| Err(Error::config(format!("reward.{key}"), reason));
        let (functions, weights) = (&self.functions, self.weights());
        let has = |kind| functions.contains(&kind);
        if functions.is_empty() {
            return refuse("functions", "is empty; name at least one, such as world".to_owned());
        }
        if let Some(twice) =
            functions.iter().enumerate().find_map(|(i, one)| functions[..i].contains(one).then_some(one))
        {
            return refuse("functions", format!("has {} twice; give it more weight instead", twice.name()));
        }
        if weights.len() != functions.len() {
            let (given, wanted) = (weights.len(), functions.len());
            return refuse("weights", format!("has {given} numbers for {wanted} functions; give one each"));
        }
        if let Some(wrong) = weights.iter().find(|weight| weight.is_nan() || weight.abs() > LARGEST_WEIGHT) {
            return refuse("weights", format!("has {wrong}; a weight is at most {LARGEST_WEIGHT} on either side of 0"));
        }
        if self.min_length > self.max_length {
            let (least, most) = (self.min_length, self.max_length);
            return refuse("min_length", format!("is {least}; it must be at most reward.max_length, which is {most}"));
        }
        if has(RewardKind::Format) && self.pattern.is_none() {
            return refuse("pattern", "is missing; give the regular expression that format looks for".to_owned());
        }
        if has(RewardKind::Command) && self.command.first().is_none_or(String::is_empty) {
            return refuse("command", "is missing; give a program and its arguments".to_owned());
        }
        if has(RewardKind::Model) && self.model.is_none() {
            return refuse("model", "is missing; give the folder of a reward model".to_owned());
        }
        if !(self.timeout > 0.0 && self.timeout <= LONGEST_TIMEOUT) {
            let timeout = self.timeout;
            return refuse(
                "timeout",
                format!("is {timeout}; it must be above 0 and at most {LONGEST_TIMEOUT} seconds"),
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_is_read_as_written() {
        let text =
            "functions = [\"number\", \"command\"]\nweights = [1.0, 0.5]\ncommand = [\"judge\"]\non_failure = \"zero\"";
        let config: RewardConfig = toml::from_str(text).unwrap();
        assert_eq!(config.functions, [RewardKind::Number, RewardKind::Command]);
        assert_eq!((config.weights(), config.on_failure), (vec![1.0, 0.5], OnFailure::Zero));
        config.validate().unwrap();
        assert_eq!(toml::from_str::<RewardConfig>(&toml::to_string(&config).unwrap()).unwrap(), config);
        RewardConfig::default().validate().unwrap();
    }

    #[test]
    fn a_command_is_a_list_or_a_text_that_is_split_as_a_shell_splits_it() {
        let read = |value: &str| toml::from_str::<RewardConfig>(&format!("command = {value}"));
        for value in
            ["[\"python3\", \"my judge.py\", \"-v\"]", "'python3 \"my judge.py\" -v'", "\"python3 'my judge.py' -v\""]
        {
            assert_eq!(read(value).unwrap().command, ["python3", "my judge.py", "-v"], "{value}");
        }
        for (value, word) in
            [("'python3 \"judge.py'", "closed quotes"), ("3", "a program and its arguments"), ("[3]", "string")]
        {
            assert!(read(value).unwrap_err().message().contains(word), "{value}");
        }
    }

    #[test]
    fn what_cannot_judge_is_refused_by_its_key() {
        for (text, words) in [
            ("functions = []", "reward.functions: is empty"),
            ("functions = [\"exact\", \"exact\"]", "reward.functions: has exact twice"),
            ("weights = [1.0, 2.0]", "reward.weights: has 2 numbers for 1 functions"),
            ("weights = [nan]", "reward.weights: has NaN"),
            ("weights = [-inf]", "reward.weights: has -inf"),
            ("min_length = 65", "reward.min_length: is 65; it must be at most reward.max_length, which is 64"),
            ("functions = [\"format\"]", "reward.pattern: is missing"),
            ("functions = [\"command\"]", "reward.command: is missing"),
            ("functions = [\"model\"]", "reward.model: is missing"),
            ("timeout = 0.0", "reward.timeout: is 0; it must be above 0"),
            ("timeout = nan", "reward.timeout: is NaN"),
        ] {
            let config: RewardConfig = toml::from_str(text).unwrap();
            let error = config.validate().unwrap_err();
            assert!(error.to_string().starts_with(words) && error.exit_code() == 2, "{text}: {error}");
        }
        for text in ["function = []", "functions = [\"truth\"]", "on_failure = \"panic\"", "min_length = -1"] {
            assert!(toml::from_str::<RewardConfig>(text).is_err(), "{text}");
        }
    }
}
