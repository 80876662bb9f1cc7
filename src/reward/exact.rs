//! Whether a completion is the right answer letter for letter, but for white space around it.

use super::{Reward, Sample, each};
use crate::error::Result;

/// 1 for the right answer, 0 for any other.
pub struct Exact;

impl Reward for Exact {
    fn judge(&mut self, samples: &[Sample]) -> Result<Vec<Option<f64>>> {
        Ok(each(samples, |sample| {
            let right = sample.question.reference.as_deref().map(str::trim);
            right == Some(sample.completion.trim())
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::one;
    use super::Exact;

    #[test]
    fn only_the_very_answer_is_right() {
        for (completion, reward) in [("Yes.", 1.0), (" Yes.\n", 1.0), ("Yes", 0.0), ("yes.", 0.0), ("", 0.0)] {
            assert_eq!(one(&mut Exact, "Yes.", completion), reward, "{completion:?}");
        }
    }
}
