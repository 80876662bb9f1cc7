//! `hadal sample`

use super::{DeviceArgs, existing, load_weights, model_config, model_tokenizer};
use crate::config::train::Precision;
use crate::error::Result;
use crate::sample::{Sampler, Sampling};
use crate::train::checkpoint::model_folder;
use clap::Args;
use std::path::PathBuf;

#[derive(Args, Debug)]
pub(super) struct SampleArgs {
    /// A run folder, a checkpoint or a Hugging Face folder
    model: PathBuf,
    /// Text to continue; the start of a text by default
    #[arg(long, default_value = "")]
    prompt: String,
    /// New tokens at most
    #[arg(long, default_value_t = 200)]
    tokens: usize,
    /// Divides the logits; 0 takes the most probable token
    #[arg(long, default_value_t = 1.0)]
    temperature: f64,
    /// Keep this many most probable tokens; 0 keeps all
    #[arg(long, default_value_t = 0)]
    top_k: usize,
    /// Keep the most probable tokens up to this mass
    #[arg(long, default_value_t = 1.0)]
    top_p: f64,
    /// Seed of the random numbers
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Longest window that the model sees; the model's own limit, at most 512, by default
    #[arg(long)]
    window: Option<usize>,
    #[command(flatten)]
    device: DeviceArgs,
}

pub(super) fn run(args: SampleArgs) -> Result<()> {
    let sampling = Sampling { temperature: args.temperature, top_k: args.top_k, top_p: args.top_p, seed: args.seed };
    sampling.validate()?;
    let folder = model_folder(&existing(&args.model)?)?;
    let config = model_config(&folder)?;
    let tokenizer = model_tokenizer(&folder, &config)?;
    let wanted = tokenizer.encode(&args.prompt).len() + 1 + args.tokens;
    let limit = args.window.unwrap_or(512).clamp(1, config.max_position_embeddings);
    let device = args.device.open(Precision::F32)?;
    let mut sampler = Sampler::new(&config, wanted.min(limit), &device)?;
    load_weights(&folder, &config, |values| sampler.load(values))?;
    println!("{}", sampler.text(&tokenizer, &args.prompt, args.tokens, &sampling)?);
    Ok(())
}
