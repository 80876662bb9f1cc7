//! Generation: passes that draw a token of every sequence.

use super::report::Seconds;
use super::step::KernelRow;
use crate::backend::Device;
use crate::config::model::ModelConfig;
use crate::error::{Error, Result};
use crate::generate::{CHUNK, Generator, GeneratorOptions, Request, Sampling};
use crate::graph::Dtype;
use crate::kernels::case::indices;
use crate::model::params::{ParamSpec, parameters, start_values};
use serde::Serialize;
use std::time::Instant;

/// What to generate.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Load {
    /// Sequences at a time.
    pub streams: usize,
    /// Tokens of each before the first that is drawn.
    pub prompt: usize,
    /// Samples.
    pub samples: usize,
    /// Passes a sample.
    pub passes: usize,
}

/// Figures of a pass. In JSON every field is there, null where it does not apply.
#[derive(Clone, Debug, Serialize)]
pub struct DecodeReport {
    /// What was generated.
    pub load: Load,
    /// Time of a pass.
    pub seconds: Seconds,
    /// Tokens a second at the median, of all sequences together.
    pub tokens_per_second: f64,
    /// Time to take all prompts in, and tokens of these a second.
    pub prefill: [f64; 2],
    /// Bytes of the weights that a pass must read: of experts, those that as many random choices would hit.
    pub weight_bytes: f64,
    /// Bytes of the cache that it must read, at the middle of the samples.
    pub cache_bytes: f64,
    /// Bytes that the cache keeps of a token.
    pub cache_bytes_per_token: u64,
    /// Share of the time that reading all of these would take at the bandwidth that the user states.
    pub bandwidth_share: Option<f64>,
    /// Bytes of all buffers.
    pub plan_bytes: u64,
    /// One more pass by kernel, slowest first.
    pub kernels: Vec<KernelRow>,
}

/// Passes before the first sample.
const WARM_UP: usize = 8;

/// Measures greedy generation with the start values of `config` on `device`; `bandwidth` in bytes a second.
///
/// Errors: the sequences are longer than the model's positions; the device fails.
pub fn measure(config: &ModelConfig, device: &Device, load: Load, bandwidth: Option<f64>) -> Result<DecodeReport> {
    let longest = config.max_position_embeddings;
    let most = longest.saturating_sub(load.prompt + WARM_UP + 4);
    if most < load.samples * load.passes {
        let reason = format!("{} positions are too few for the prompt and all passes; lower --updates", longest);
        return Err(Error::Usage(reason));
    }
    let options = GeneratorOptions { slots: load.streams, capacity: longest, chunk: CHUNK, known: config.vocab_size };
    let mut generator = Generator::new(config, options, device)?;
    generator.load(start_values(1))?;
    for stream in 0..load.streams as u64 {
        let prompt = indices(stream, load.prompt, config.vocab_size as u32);
        generator.submit(Request { prompt, max_tokens: longest, stop: Vec::new(), sampling: Sampling::greedy() })?;
    }
    let started = Instant::now();
    let mut drawn = 0;
    while drawn < load.streams {
        drawn += generator.advance()?.len();
    }
    let prefill = started.elapsed().as_secs_f64();
    (0..WARM_UP).try_for_each(|_| generator.advance().map(drop))?;
    let mut seconds = Vec::new();
    for _ in 0..load.samples {
        let started = Instant::now();
        for _ in 0..load.passes {
            generator.advance()?;
        }
        seconds.push(started.elapsed().as_secs_f64() / load.passes as f64);
    }
    let kernels = generator.profile()?.into_iter().map(|(name, seconds, calls)| KernelRow {
        name,
        seconds,
        calls,
        tflops: None,
        gigabytes_a_second: None,
    });
    let (seconds, kernels) = (Seconds::of(seconds), kernels.collect());
    let stored = device.stored();
    let line = (config.kv_lora_rank + config.qk_rope_head_dim) as u64 * config.num_hidden_layers as u64;
    let cache_bytes_per_token = line * stored.bytes();
    let middle = load.prompt + WARM_UP + load.samples * load.passes / 2;
    let weight_bytes = weight_bytes(config, load.streams, stored);
    let cache_bytes = (load.streams * middle) as f64 * cache_bytes_per_token as f64;
    Ok(DecodeReport {
        load,
        seconds,
        tokens_per_second: load.streams as f64 / seconds.median,
        prefill: [prefill, (load.streams * load.prompt) as f64 / prefill],
        weight_bytes,
        cache_bytes,
        cache_bytes_per_token,
        bandwidth_share: bandwidth.map(|rate| (weight_bytes + cache_bytes) / rate / seconds.median),
        plan_bytes: generator.plan().bytes(),
        kernels,
    })
}

/// Bytes that a pass of `rows` tokens reads of the weights.
fn weight_bytes(config: &ModelConfig, rows: usize, stored: Dtype) -> f64 {
    let (experts, chosen) = (config.n_routed_experts as f64, config.num_experts_per_tok as f64);
    let hit = 1.0 - (1.0 - chosen / experts.max(1.0)).powi(rows as i32);
    let of = |spec: &ParamSpec| {
        let bytes = if spec.factor { stored.bytes() } else { 4 } as f64 * spec.elements() as f64;
        match &spec.name {
            name if name.contains(".experts.") => hit * bytes,
            name if name.contains("embed_tokens") && !config.tie_word_embeddings => {
                rows as f64 / config.vocab_size as f64 * bytes
            }
            _ => bytes,
        }
    };
    parameters(config).iter().map(of).sum()
}
