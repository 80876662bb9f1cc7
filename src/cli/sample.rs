//! `hadal sample`

use super::{DeviceArgs, existing, load_weights, model_config, model_tokenizer, positive};
use crate::config::model::ModelConfig;
use crate::config::train::Precision;
use crate::error::{Error, Result};
use crate::generate::{CHUNK, Completion, Finish, Generator, GeneratorOptions, Request, Sampling};
use crate::input;
use crate::terminal::{note, print, printable};
use crate::tokenizer::Tokenizer;
use crate::train::checkpoint::with_model;
use clap::Args;
use serde_json::json;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

/// Sequences that are generated at a time.
const MOST_SLOTS: usize = 64;
/// Largest file of prompts.
const PROMPTS_BYTES: u64 = 64 << 20;

#[derive(Args, Debug)]
pub(super) struct SampleArgs {
    /// A run folder, a checkpoint or a Hugging Face folder
    model: PathBuf,
    /// Text to continue; may be given several times; the start of a text by default
    #[arg(long)]
    prompt: Vec<String>,
    /// A file with one prompt a line
    #[arg(long, value_name = "FILE", conflicts_with = "prompt")]
    prompts: Option<PathBuf>,
    /// Continuations of each prompt
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = positive())]
    samples: usize,
    /// New tokens at most
    #[arg(long, default_value_t = 200, value_parser = positive())]
    tokens: usize,
    /// One JSON object a line: prompt, sample, text, tokens, finish_reason
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    sampling: SamplingArgs,
    /// What weights, activations and the cache are stored as
    #[arg(long, value_enum, default_value = "auto")]
    precision: Precision,
    #[command(flatten)]
    device: DeviceArgs,
}

/// How tokens are drawn.
#[derive(Args, Clone, Debug)]
pub(super) struct SamplingArgs {
    /// Divides the logits; 0 takes the most probable token
    #[arg(long, default_value_t = 1.0, allow_negative_numbers = true)]
    temperature: f64,
    /// Keep this many most probable tokens; 0 keeps all
    #[arg(long, default_value_t = 0)]
    top_k: usize,
    /// Keep the most probable tokens up to this mass
    #[arg(long, default_value_t = 1.0, allow_negative_numbers = true)]
    top_p: f64,
    /// Drop tokens with less than this share of the largest probability
    #[arg(long, default_value_t = 0.0, allow_negative_numbers = true)]
    min_p: f64,
    /// Divides the positive logits of tokens that are there already, and multiplies their others
    #[arg(long, default_value_t = 1.0, allow_negative_numbers = true)]
    repetition_penalty: f64,
    /// Seed of the random numbers; sample i of a prompt draws with the seed plus i
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

impl SamplingArgs {
    /// The settings, checked.
    pub(super) fn settings(&self) -> Result<Sampling> {
        let SamplingArgs { temperature, top_k, top_p, min_p, repetition_penalty, seed } = *self;
        let sampling = Sampling { temperature, top_k, top_p, min_p, repetition_penalty, seed };
        sampling.validate(|name| format!("--{}", name.replace('_', "-")))?;
        Ok(sampling)
    }
}

pub(super) fn run(args: SampleArgs) -> Result<()> {
    with_model(&existing(&args.model)?, |folder| draw(&args, folder))
}

/// Draws from the model in `folder`.
fn draw(args: &SampleArgs, folder: &Path) -> Result<()> {
    let sampling = args.sampling.settings()?;
    let config = model_config(folder)?;
    let tokenizer = model_tokenizer(folder, &config)?;
    let prompts = prompts(args)?;
    let mut requests = Vec::new();
    for prompt in &prompts {
        for i in 0..args.samples as u64 {
            let sampling = Sampling { seed: sampling.seed.wrapping_add(i), ..sampling.clone() };
            requests.push(Request::text(&tokenizer, prompt, args.tokens, sampling));
        }
    }
    let capacity = capacity(&config, &requests)?;
    let (slots, known) = (requests.len().min(MOST_SLOTS), tokenizer.vocab_size());
    let options = GeneratorOptions { slots, capacity, chunk: CHUNK, known };
    let device = args.device.open(args.precision)?;
    let mut generator = Generator::new(&config, options, &device)?;
    load_weights(folder, &config, |fill| generator.load(fill))?;
    let completions = generator.generate(&requests)?;
    let samples = prompts.iter().flat_map(|prompt| (0..args.samples).map(move |i| (prompt, i))).zip(&completions);
    for ((prompt, i), completion) in samples {
        report(args, &tokenizer, prompt, i, completion)?;
    }
    Ok(())
}

/// The prompts of the command line or of the file.
fn prompts(args: &SampleArgs) -> Result<Vec<String>> {
    let Some(path) = &args.prompts else {
        return Ok(if args.prompt.is_empty() { vec![String::new()] } else { args.prompt.clone() });
    };
    let text = input::read_text(path, PROMPTS_BYTES)?;
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    if lines.is_empty() {
        return Err(Error::file(path, "has no line; it must have one prompt a line"));
    }
    Ok(lines)
}

/// Room for the longest request, as far as the model goes.
pub(super) fn capacity(config: &ModelConfig, requests: &[Request]) -> Result<usize> {
    let longest = config.max_position_embeddings;
    let prompt = requests.iter().map(|request| request.prompt.len()).max().unwrap_or(1);
    if prompt >= longest {
        let reason = format!("a prompt has {prompt} tokens, and the model takes {longest} with the answer; shorten it");
        return Err(Error::Usage(reason));
    }
    let wanted = requests.iter().map(|request| request.prompt.len().saturating_add(request.max_tokens)).max();
    let wanted = wanted.unwrap_or(longest);
    if wanted > longest {
        note(format_args!("sequences end at {longest} tokens, as many as the model takes"));
    }
    Ok(wanted.min(longest))
}

fn report(args: &SampleArgs, tokenizer: &Tokenizer, prompt: &str, i: usize, completion: &Completion) -> Result<()> {
    let text = tokenizer.decode(&completion.tokens);
    if args.json {
        let finish = match completion.finish {
            Finish::Stop(_) => "stop",
            Finish::Length => "length",
        };
        return print(json!({
            "prompt": prompt, "sample": i, "text": text, "tokens": completion.tokens, "finish_reason": finish
        }));
    }
    let whole = format!("{prompt}{text}");
    print(if std::io::stdout().is_terminal() { printable(&whole) } else { whole })
}
