//! Whether a completion has as many tokens as it should.

use super::{Reward, Sample};
use crate::config::reward::RewardConfig;
use crate::error::Result;

/// max(0, 1 − d / slope), where d is by how many tokens a completion is shorter than `least` or longer than `most`.
pub struct Length {
    least: usize,
    most: usize,
    slope: usize,
}

impl Length {
    /// With the bounds of `config`.
    pub fn new(config: &RewardConfig) -> Length {
        Length { least: config.min_length, most: config.max_length, slope: config.length_slope }
    }
}

impl Reward for Length {
    fn judge(&mut self, samples: &[Sample]) -> Result<Vec<Option<f64>>> {
        let away = |n: usize| self.least.saturating_sub(n).max(n.saturating_sub(self.most));
        Ok(samples.iter().map(|sample| Some(falling(away(sample.tokens), self.slope))).collect())
    }
}

/// 1 at 0, and 0 from `slope` on; between them linear.
pub fn falling(away: usize, slope: usize) -> f64 {
    if away == 0 { 1.0 } else { (1.0 - away as f64 / slope.max(1) as f64).max(0.0) }
}

#[cfg(test)]
mod tests {
    use super::super::tests::one;
    use super::*;

    #[test]
    fn it_is_one_between_the_bounds_and_falls_outside() {
        let mut length = Length { least: 3, most: 5, slope: 4 };
        for (tokens, reward) in [(1, 0.5), (2, 0.75), (3, 1.0), (5, 1.0), (6, 0.75), (8, 0.25), (9, 0.0), (50, 0.0)] {
            assert_eq!(one(&mut length, "", &vec!["a"; tokens].join(" ")), reward, "{tokens} tokens");
        }
        assert_eq!([falling(0, 0), falling(1, 0)], [1.0, 0.0]);
    }
}
