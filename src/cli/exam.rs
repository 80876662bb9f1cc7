//! The world's exam for a fine-tuned model, by generation.

use super::{load_weights, model_config, model_tokenizer};
use crate::backend::Device;
use crate::chat::exam::{Exam, Scores};
use crate::chat::{Encoder, Template};
use crate::config::sft::SftConfig;
use crate::config::task::TaskKind;
use crate::config::{Config, Kind};
use crate::error::Result;
use crate::generate::{CHUNK, Generator, GeneratorOptions, Request, Sampling};
use crate::terminal::note;
use crate::tokenizer::Tokenizer;
use crate::train::checkpoint::with_model;
use std::path::Path;

/// Questions that are answered at a time.
const SLOTS: usize = 32;

/// What makes tokens of conversations, as `sft` says.
pub(super) fn encoder(sft: &SftConfig, tokenizer: &Tokenizer) -> Result<Encoder> {
    let template = match &sft.chat_template {
        Some(path) => Template::open(path, tokenizer)?,
        None => Template::chatml(tokenizer)?,
    };
    Encoder::new(template, tokenizer.clone(), sft.sft_mask)
}

/// Whether a run learns from the embedded world's chats or questions, whose exam it can sit.
fn is_of_world(config: &Config) -> bool {
    let sums = config.kind().draws() && config.task.as_ref().is_some_and(|task| task.kind == TaskKind::Arithmetic);
    config.sft.is_some() && config.data.path.is_empty() && config.kind() != Kind::Reward && !sums
}

/// How the newest model in the run folder `out` answers, if it was fine-tuned on the world's chats.
pub(super) fn of_run(out: &Path, run: &Config, device: &Device) -> Result<Option<Scores>> {
    if is_of_world(run) { with_model(out, |folder| sit(folder, run, device)) } else { Ok(None) }
}

/// Lets the model in `folder` answer the questions of the world that it was fine-tuned on.
pub(super) fn sit(folder: &Path, run: &Config, device: &Device) -> Result<Option<Scores>> {
    let Some(sft) = run.sft.as_ref().filter(|_| is_of_world(run)) else { return Ok(None) };
    let config = model_config(folder)?;
    let tokenizer = model_tokenizer(folder, &config)?;
    let encoder = encoder(sft, &tokenizer)?;
    let most = config.max_position_embeddings;
    let exam = Exam::new(run.data.world_seed, &encoder, most)?;
    if exam.prompts.is_empty() {
        note(format_args!("no exam: its questions take more than {most} tokens, as many as the model takes"));
        return Ok(None);
    }
    let request = |prompt: &Vec<u32>| Request {
        prompt: prompt.clone(),
        max_tokens: exam.longest.min(most - prompt.len()),
        stop: vec![encoder.end()],
        sampling: Sampling::greedy(),
    };
    let requests: Vec<Request> = exam.prompts.iter().map(request).collect();
    let longest = requests.iter().map(|request| request.prompt.len() + request.max_tokens).max().unwrap_or(most);
    let known = tokenizer.vocab_size();
    let options = GeneratorOptions { slots: SLOTS, capacity: longest, chunk: CHUNK, known };
    let mut generator = Generator::new(&config, options, device)?;
    load_weights(folder, &config, |fill| generator.load(fill))?;
    let completions = generator.generate(&requests)?;
    let answers: Vec<String> = completions.iter().map(|completion| tokenizer.decode(&completion.tokens)).collect();
    Ok(Some(exam.mark(&answers)))
}
