//! How the next token is drawn from the logits.

use crate::data::shuffle::mix;
use crate::error::{Error, Result};
use crate::kernels::draw_token::{KEY, MIN_P, REPETITION, TEMPERATURE, TOP_K, TOP_P, WORDS};

/// Settings of a draw, in the order in which they apply: repetition penalty, temperature, top-k, top-p, min-p. Of
/// equals the lower id counts as the more probable.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// Divides the positive logits of tokens in prompt and answer, and multiplies their others; 1 changes nothing.
    pub repetition_penalty: f64,
    /// Divides the logits; 0 takes the most probable token.
    pub temperature: f64,
    /// Keeps this many most probable tokens; 0 keeps all.
    pub top_k: usize,
    /// Keeps the most probable tokens until the mass before one reaches this; 1 keeps all.
    pub top_p: f64,
    /// Drops tokens with less than this share of the largest probability; 0 drops none.
    pub min_p: f64,
    /// Of the random numbers of one sequence, which depend on it and on the position alone: of several sequences each
    /// has its own, as [`Sampling::of_sequence`] makes them.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Sampling { repetition_penalty: 1.0, temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0, seed: 1 }
    }
}

impl Sampling {
    /// The most probable token, always.
    pub fn greedy() -> Self {
        Sampling { temperature: 0.0, ..Sampling::default() }
    }

    /// The same settings with random numbers for sequence number `number` of those that continue `prompt`. They follow
    /// from these three alone, whatever else is drawn at the same time, and those of one seed have nothing in common
    /// with those of the next.
    pub fn of_sequence(&self, prompt: &[u32], number: u64) -> Sampling {
        let told = prompt.iter().fold(mix(self.seed), |told, &token| mix(told ^ u64::from(token)));
        Sampling { seed: mix(told ^ mix(number)), ..self.clone() }
    }

    /// Refuses settings that leave nothing to draw from; `spell` makes of a setting's name what the user wrote.
    pub fn validate(&self, spell: impl Fn(&str) -> String) -> Result<()> {
        let Sampling { repetition_penalty, temperature, top_p, min_p, .. } = *self;
        let positive = repetition_penalty > 0.0 && repetition_penalty.is_finite();
        let warm = temperature >= 0.0 && temperature.is_finite();
        let rules = [
            ("repetition_penalty", repetition_penalty, positive, "a positive number"),
            ("temperature", temperature, warm, "0 or a positive number"),
            ("top_p", top_p, top_p > 0.0 && top_p <= 1.0, "above 0 and at most 1"),
            ("min_p", min_p, (0.0..=1.0).contains(&min_p), "from 0 to 1"),
        ];
        match rules.into_iter().find(|rule| !rule.2) {
            Some((name, value, _, wanted)) => {
                Err(Error::Usage(format!("{} is {value}; it must be {wanted}", spell(name))))
            }
            None => Ok(()),
        }
    }

    /// The words that `kernels::draw_token` takes.
    pub(super) fn words(&self) -> [u32; WORDS] {
        let mut words = [0; WORDS];
        // The smallest divisor that a weight can stand: below, the most probable token takes all.
        let temperature = self.temperature as f32;
        words[TEMPERATURE] = if temperature < 1e-6 { 0.0f32 } else { temperature }.to_bits();
        words[TOP_K] = self.top_k.min(u32::MAX as usize) as u32;
        words[TOP_P] = (self.top_p as f32).to_bits();
        words[MIN_P] = (self.min_p as f32).to_bits();
        // As f32 the extremes would be 0 and infinity, and of a logit of 0 no number.
        words[REPETITION] = (self.repetition_penalty as f32).clamp(f32::MIN_POSITIVE, f32::MAX).to_bits();
        (words[KEY], words[KEY + 1]) = (self.seed as u32, (self.seed >> 32) as u32);
        words
    }
}
