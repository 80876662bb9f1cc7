//! Whether a completion matches a regular expression, in time that grows linearly with the text.

use super::{Reward, Sample, each};
use crate::config::reward::RewardConfig;
use crate::error::{Error, Result};
use crate::input::one_line;
use regex::Regex;

/// 1 for a completion that the expression is found in, 0 for others.
pub struct Format(Regex);

impl Format {
    /// With the expression of `config`.
    ///
    /// # Errors
    /// If it is none, or too large.
    pub fn new(config: &RewardConfig) -> Result<Format> {
        let pattern = config.pattern.as_deref().unwrap_or_default();
        let wrong = |e: regex::Error| Error::config("reward.pattern", format!("is no expression: {}", one_line(&e)));
        Regex::new(pattern).map(Format).map_err(wrong)
    }
}

impl Reward for Format {
    fn judge(&mut self, samples: &[Sample]) -> Result<Vec<Option<f64>>> {
        Ok(each(samples, |sample| self.0.is_match(sample.completion)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::one;
    use super::*;

    fn format(pattern: &str) -> Result<Format> {
        Format::new(&RewardConfig { pattern: Some(pattern.to_owned()), ..RewardConfig::default() })
    }

    #[test]
    fn a_completion_matches_or_does_not() {
        let mut format = format(r"^[A-Z][^.]*\.$").unwrap();
        for (completion, reward) in [("Yes it is.", 1.0), ("Yes", 0.0), ("yes.", 0.0), ("Yes. No.", 0.0), ("", 0.0)] {
            assert_eq!(one(&mut format, "", completion), reward, "{completion:?}");
        }
    }

    #[test]
    fn a_hostile_expression_costs_an_error_and_no_time() {
        for pattern in ["(", "a{1000}{1000}{1000}", "(?P<a>x)(?P<a>y)"] {
            let Err(error) = format(pattern) else { panic!("{pattern}") };
            assert!(error.to_string().starts_with("reward.pattern: is no expression"), "{error}");
        }
        let mut format = format("(a*)*b").unwrap();
        assert_eq!(one(&mut format, "", &"a".repeat(100_000)), 0.0);
    }
}
