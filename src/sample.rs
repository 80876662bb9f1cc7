//! Drawing text from a model: each new token takes one forward pass over the window.

use crate::backend::Device;
use crate::config::model::ModelConfig;
use crate::config::train::Recompute;
use crate::data::batch::Batch;
use crate::error::{Error, Result};
use crate::graph::Dtype;
use crate::model::inputs::BatchSize;
use crate::model::params::{ParamSpec, parameters};
use crate::model::program::{LOGITS, Program, ProgramOptions};
use crate::tokenizer::Tokenizer;
use crate::train::session::Session;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// How the next token is drawn from the logits.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// Divides the logits; 0 takes the most probable token.
    pub temperature: f64,
    /// Keeps this many most probable tokens; 0 keeps all.
    pub top_k: usize,
    /// Keeps the most probable tokens until the mass before one reaches this; 1 keeps all.
    pub top_p: f64,
    /// Of the random numbers.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Sampling { temperature: 1.0, top_k: 0, top_p: 1.0, seed: 1 }
    }
}

impl Sampling {
    /// Refuses settings that leave nothing to draw from.
    pub fn validate(&self) -> Result<()> {
        let wrong =
            |flag: &str, x: f64, wanted: &str| Err(Error::Usage(format!("--{flag} is {x}; it must be {wanted}")));
        if !(self.temperature >= 0.0 && self.temperature.is_finite()) {
            return wrong("temperature", self.temperature, "0 or a positive number");
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return wrong("top-p", self.top_p, "above 0 and at most 1");
        }
        Ok(())
    }

    /// Draws one token: temperature, top-k, top-p, softmax, then the first token in order of id whose cumulative
    /// probability passes `u`, from 0 to 1. Ties go to the lower id.
    pub fn draw(&self, logits: &[f32], u: f64) -> u32 {
        let mut order: Vec<usize> = (0..logits.len()).collect();
        order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]).then(a.cmp(&b)));
        if self.temperature == 0.0 {
            return order.first().map_or(0, |&i| i as u32);
        }
        if self.top_k > 0 {
            order.truncate(self.top_k);
        }
        let largest = order.first().map_or(0.0, |&i| f64::from(logits[i]));
        let weight = |i: usize| ((f64::from(logits[i]) - largest) / self.temperature).exp();
        let total: f64 = order.iter().map(|&i| weight(i)).sum();
        let mut before = 0.0;
        let mut kept: Vec<(usize, f64)> = Vec::new();
        for &i in &order {
            if before >= self.top_p * total {
                break;
            }
            kept.push((i, weight(i)));
            before += weight(i);
        }
        kept.sort_by_key(|&(i, _)| i);
        let mut cumulative = 0.0;
        for &(i, w) in &kept {
            cumulative += w;
            if cumulative > u * before {
                return i as u32;
            }
        }
        kept.last().map_or(0, |&(i, _)| i as u32)
    }
}

/// A model that continues token sequences, one sequence at a time.
pub struct Sampler {
    session: Session,
}

impl Sampler {
    /// Buffers for windows of `length` tokens; weights are still to be loaded.
    pub fn new(config: &ModelConfig, length: usize, device: &Device) -> Result<Self> {
        Self::of(Self::program(config, length, device), device)
    }

    /// The program that a sampler runs, to see what memory it needs.
    pub fn program(config: &ModelConfig, length: usize, device: &Device) -> Program {
        let options = ProgramOptions {
            size: BatchSize { batch: 1, length },
            binding_limit: device.binding_limit(),
            optimizer: None,
            logit_rows: Some(1),
            stored: Dtype::F32,
            recompute: Recompute::None,
        };
        Program::new(config, &parameters(config), &options)
    }

    /// A sampler that runs [`Sampler::program`].
    pub fn of(program: Program, device: &Device) -> Result<Self> {
        Ok(Sampler { session: Session::new(program, device, None)? })
    }

    /// Fills all weights.
    pub fn load(&mut self, fill: impl FnMut(&ParamSpec, &mut [f32]) -> Result<()> + Send) -> Result<()> {
        self.session.load(fill)
    }

    /// Fills parameter number `i`.
    pub fn load_parameter(&mut self, i: usize, values: &[f32]) -> Result<()> {
        self.session.load_parameter(i, values)
    }

    /// Logits of the token after `ids`, of which the last window counts.
    pub fn logits(&mut self, ids: &[u32]) -> Result<Vec<f32>> {
        let length = self.session.program.inputs.size.length;
        let visible = &ids[ids.len().saturating_sub(length)..];
        let mut padded = visible.to_vec();
        padded.resize(length, 0); // later positions do not change earlier logits
        let mut batch = Batch::new(padded.clone(), padded, 1, length);
        batch.real[visible.len()..].fill(0);
        self.session.feed(&batch)?;
        let Some(slots) = self.session.program.logits else { return Ok(Vec::new()) };
        self.session.executor().upload_indices(slots.rows, &[visible.len() as u32 - 1])?;
        self.session.run(LOGITS)?;
        self.session.read(slots.logits)
    }

    /// Up to `tokens` new tokens after `ids`, each below `known`: rows of the embedding from there on have no text.
    /// Stops before the end-of-text token.
    pub fn tokens(
        &mut self,
        ids: &[u32],
        tokens: usize,
        known: usize,
        eos: u32,
        sampling: &Sampling,
    ) -> Result<Vec<u32>> {
        let mut rng = ChaCha8Rng::seed_from_u64(sampling.seed);
        let mut all = ids.to_vec();
        for _ in 0..tokens {
            let mut logits = self.logits(&all)?;
            logits.truncate(known);
            let u = (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
            let next = sampling.draw(&logits, u);
            if next == eos {
                break;
            }
            all.push(next);
        }
        Ok(all.split_off(ids.len()))
    }

    /// The prompt and its continuation as text. An empty prompt means the start of a text.
    pub fn text(&mut self, tokenizer: &Tokenizer, prompt: &str, tokens: usize, sampling: &Sampling) -> Result<String> {
        let mut ids = vec![tokenizer.eos()];
        ids.extend(tokenizer.encode(prompt));
        let new = self.tokens(&ids, tokens, tokenizer.vocab_size(), tokenizer.eos(), sampling)?;
        Ok(format!("{prompt}{}", tokenizer.decode(&new)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Backend;
    use crate::config::rope::{RopeScaling, RopeType};
    use crate::config::train::Precision;
    use crate::model::params::start_values;

    #[test]
    fn dynamic_positions_follow_the_tokens_and_not_the_window() {
        let model = |kind, factor| ModelConfig {
            vocab_size: 30,
            max_position_embeddings: 8,
            initializer_range: 0.3,
            rope_scaling: RopeScaling { kind, factor: Some(factor), ..RopeScaling::default() },
            ..ModelConfig::default()
        };
        let device = Device::open(Backend::Cpu, None, Precision::F32).unwrap();
        let logits = |model: &ModelConfig, window: usize, tokens: u32| {
            let mut sampler = Sampler::new(model, window, &device).unwrap();
            sampler.load(start_values(4)).unwrap();
            sampler.logits(&(0..20).collect::<Vec<_>>()).unwrap(); // another length before
            sampler.logits(&(0..tokens).collect::<Vec<_>>()).unwrap()
        };
        // What a base for the window's 20 positions would be: 2 * 20 / 8 - 1 = 4 times raised.
        let (dynamic, stuck) = (model(RopeType::Dynamic, 2.0), model(RopeType::Ntk, 4.0));
        for tokens in [5, 8, 12] {
            let (exact, wide) = (logits(&dynamic, tokens as usize, tokens), logits(&dynamic, 20, tokens));
            exact.iter().zip(&wide).for_each(|(a, b)| approx::assert_relative_eq!(a, b, epsilon = 1e-4));
            let other = logits(&stuck, 20, tokens);
            assert!(other.iter().zip(&wide).any(|(a, b)| (a - b).abs() > 1e-2), "{tokens}");
        }
    }

    #[test]
    fn draws_follow_the_settings() {
        let logits = [0.0, 2.0, 1.0, 2.0];
        let draw = |temperature, top_k, top_p, u| Sampling { temperature, top_k, top_p, seed: 0 }.draw(&logits, u);
        assert_eq!(draw(0.0, 0, 1.0, 0.9), 1); // the lower id of two equals
        assert_eq!(draw(1.0, 1, 1.0, 0.99), 1);
        assert_eq!(draw(1.0, 2, 1.0, 0.99), 3);
        assert_eq!(draw(1.0, 0, 1e-9, 0.5), 1); // the first is always kept
        assert_eq!(draw(1.0, 0, 1.0, 0.0), 0);
        assert_eq!(draw(1.0, 0, 1.0, 0.9999), 3);
    }
}
