//! `hadal sample`

use super::chat::encoder;
use super::{DeviceArgs, existing, load_weights, model_config, model_tokenizer, positive};
use crate::config::model::ModelConfig;
use crate::config::train::Precision;
use crate::error::{Error, Result};
use crate::generate::{CHUNK, Completion, Event, Generator, GeneratorOptions, Request, Sampling, continued, ends};
use crate::input::{self, BYTE_ORDER_MARK};
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
    /// Text to continue; the start of a text by default
    #[arg(value_name = "PROMPT")]
    text: Option<String>,
    /// The same; may be given several times
    #[arg(long)]
    prompt: Vec<String>,
    /// A file with one prompt a line
    #[arg(long, value_name = "FILE", conflicts_with_all = ["prompt", "text"])]
    prompts: Option<PathBuf>,
    /// Continuations of each prompt
    #[arg(short = 'n', long, value_name = "N", default_value_t = 1, value_parser = positive())]
    samples: usize,
    /// New tokens at most
    #[arg(long, visible_aliases = ["max-tokens", "max-new-tokens"], default_value_t = 200, value_parser = positive())]
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
    /// Seed of the random numbers, of which every sequence has its own
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
    let texts = prompts(&args)?;
    let Loaded { tokenizer, requests, mut generator } =
        with_model(&existing(&args.model)?, |folder| load(&args, folder, &texts))?;
    let report = |number: usize, completion: &Completion| {
        let continuation = continued(&tokenizer, &requests[number].prompt, &completion.tokens);
        report(&args, &texts, number, &continuation, completion)
    };
    draw(&mut generator, &requests, report)
}

/// A model, and what it is asked.
struct Loaded {
    tokenizer: Tokenizer,
    requests: Vec<Request>,
    generator: Generator,
}

/// Opens the model in `folder` for these prompts.
fn load(args: &SampleArgs, folder: &Path, texts: &[String]) -> Result<Loaded> {
    let sampling = args.sampling.settings()?;
    let config = model_config(folder)?;
    let tokenizer = model_tokenizer(folder, &config)?;
    let encoder = encoder(folder, &tokenizer).ok();
    let ends = ends(folder, &tokenizer, encoder.as_ref())?;
    let prompts: Vec<Vec<u32>> = texts.iter().map(|text| tokenizer.begun(text)).collect();
    let requests = Request::all(&prompts, args.samples, (args.tokens, &ends), &sampling);
    let capacity = capacity(&config, &requests)?;
    let (slots, known) = (requests.len().min(MOST_SLOTS), tokenizer.vocab_size());
    let options = GeneratorOptions { slots, capacity, chunk: CHUNK, known };
    let device = args.device.open(args.precision)?;
    let mut generator = Generator::new(&config, options, &device)?;
    load_weights(folder, &config, |fill| generator.load(fill))?;
    Ok(Loaded { tokenizer, requests, generator })
}

/// Draws all requests; each is reported as soon as it and those before it are done.
fn draw(
    generator: &mut Generator,
    requests: &[Request],
    report: impl Fn(usize, &Completion) -> Result<()>,
) -> Result<()> {
    let numbers = requests.iter().map(|request| generator.submit(request.clone()));
    let first = numbers.collect::<Result<Vec<u64>>>()?.first().copied().unwrap_or_default(); // numbers are in a row
    let mut completions = vec![Completion::default(); requests.len()];
    let mut done = vec![false; requests.len()];
    let mut reported = 0;
    while reported < requests.len() {
        for event in generator.advance()? {
            let at = (event.number() - first) as usize;
            match event {
                Event::Token { token, .. } => completions[at].tokens.push(token),
                Event::Done { finish, .. } => (completions[at].finish, done[at]) = (finish, true),
            }
        }
        while done.get(reported) == Some(&true) {
            report(reported, &std::mem::take(&mut completions[reported]))?;
            reported += 1;
        }
    }
    Ok(())
}

/// The prompts of the command line or of the file.
fn prompts(args: &SampleArgs) -> Result<Vec<String>> {
    let Some(path) = &args.prompts else {
        let named = args.text.iter().chain(&args.prompt).cloned().collect::<Vec<_>>();
        return Ok(if named.is_empty() { vec![String::new()] } else { named });
    };
    let text = input::read_text(path, PROMPTS_BYTES)?;
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&text);
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

/// Prints sample number `number` of all: the text, under a line that tells it from others if there are several.
fn report(
    args: &SampleArgs,
    prompts: &[String],
    number: usize,
    continuation: &str,
    completion: &Completion,
) -> Result<()> {
    let (prompt, i) = (&prompts[number / args.samples], number % args.samples);
    let finish = completion.finish.name()?;
    if args.json {
        return print(json!({
            "prompt": prompt, "sample": i, "text": continuation, "tokens": completion.tokens, "finish_reason": finish
        }));
    }
    match (prompts.len() > 1, args.samples > 1) {
        (false, false) => {}
        (true, false) => print(format_args!("--- prompt {} ---", number + 1))?,
        (false, true) => print(format_args!("--- sample {} ---", i + 1))?,
        (true, true) => print(format_args!("--- prompt {}, sample {} ---", number / args.samples + 1, i + 1))?,
    }
    let whole = format!("{prompt}{continuation}");
    print(if std::io::stdout().is_terminal() { printable(&whole) } else { whole })
}
