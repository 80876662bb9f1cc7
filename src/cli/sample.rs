//! `hadal sample`

use super::{DeviceArgs, existing, load_weights, model_config, model_tokenizer, positive};
use crate::config::train::Precision;
use crate::error::Result;
use crate::sample::{Sampler, Sampling};
use crate::terminal::{print, printable};
use crate::train::checkpoint::model_folder;
use clap::Args;
use std::io::IsTerminal;
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
    #[arg(long, default_value_t = 1.0, allow_negative_numbers = true)]
    temperature: f64,
    /// Keep this many most probable tokens; 0 keeps all
    #[arg(long, default_value_t = 0)]
    top_k: usize,
    /// Keep the most probable tokens up to this mass
    #[arg(long, default_value_t = 1.0, allow_negative_numbers = true)]
    top_p: f64,
    /// Seed of the random numbers
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Longest window that the model sees; the model's own limit, at most 512, by default
    #[arg(long, value_parser = positive())]
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
    let wanted = tokenizer.encode(&args.prompt).len().saturating_add(1).saturating_add(args.tokens);
    let limit = args.window.unwrap_or(config.max_position_embeddings.min(512)).min(config.longest());
    config.check_pass("--window", wanted.min(limit), "lower it")?;
    let device = args.device.open(Precision::F32)?;
    let mut sampler = Sampler::new(&config, wanted.min(limit), &device)?;
    load_weights(&folder, &config, |fill| sampler.load(fill))?;
    let text = sampler.text(&tokenizer, &args.prompt, args.tokens, &sampling)?;
    print(if std::io::stdout().is_terminal() { printable(&text) } else { text })
}
