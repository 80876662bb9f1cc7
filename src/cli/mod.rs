//! The command line: one module a command.

mod advice; // what is said of a run that has no room
mod bench;
mod beside; // what a run has on its device beside training
mod chat;
mod check;
mod complete; // what a shell offers for arguments
mod completions;
mod convert; // a model into a new folder
mod data;
mod dump;
mod eval;
mod exam; // questions to a fine-tuned model
mod export;
mod fit; // how large a micro-batch fits
mod import;
mod hub; // models by the names of the Hub
mod info;
mod kernels;
mod lora; // what adapters stand beside
mod machines; // what a run computes with
mod man;
mod material; // what it learns from
mod origin; // what --model takes over
mod parse; // the command line as a whole
mod pipeline;
mod place; // where a run lives
mod plan;
mod plot;
mod resume; // what --resume takes over
mod sample;
mod serve;
mod setup; // what a run is made of
mod stage; // sft, reward, dpo, grpo and ppo
mod stage_eval;
mod story; // what a pipeline came to
mod study;
mod summary; // what a run is, in words
mod train;
mod typed; // what somebody is typing
mod vocabulary; // which tokenizer a run uses

use crate::backend::{Backend, Device};
use crate::checkpoint::folder::inside_if_there;
use crate::checkpoint::weights::{Fill, Weights};
use crate::config::Kind;
use crate::config::hf::{is_reward_model, read_config};
use crate::config::model::ModelConfig;
use crate::config::train::Precision;
use crate::error::{Error, Result};
use crate::model::params::parameters;
use crate::terminal::{note, printable};
use crate::tokenizer::Tokenizer;
use clap::builder::RangedU64ValueParser;
use clap::{Args, Parser, Subcommand};
use hub::existing;
use std::path::Path;

/// Trains DeepSeek-V2-style language models on any GPU, through Vulkan, Metal or DX12: no CUDA, no Python.
#[derive(Parser, Debug)]
#[command(name = "hadal", version, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Pretrain a model; without arguments, the embedded default
    Train(train::TrainArgs),
    /// Fine-tune a model on conversations
    ///
    /// Without data, on the embedded world's chats.
    Sft(stage::StageArgs),
    /// Train a reward model on pairs of answers
    ///
    /// Without data, on the embedded world's preferences.
    Reward(stage::StageArgs),
    /// Align a model with pairs of answers, by their log-probabilities
    ///
    /// Direct preference optimisation; without data, with the embedded world's preferences.
    Dpo(stage::StageArgs),
    /// Align a model by rewards of answers that it draws, in groups
    ///
    /// Each answer counts against the others to its prompt. Without data, on the embedded world's questions.
    Grpo(stage::StageArgs),
    /// Align a model by rewards of answers, with a value function
    ///
    /// Proximal policy optimisation; without data, on the embedded world's questions.
    Ppo(stage::StageArgs),
    /// Train a model through several stages, drawn in one picture
    ///
    /// From pretraining to rewards.
    Pipeline(pipeline::PipelineArgs),
    /// Train runs that differ in one thing, and compare them
    ///
    /// Two pictures and a table come of it.
    Study(study::StudyArgs),
    /// Continue a text with a trained model
    Sample(sample::SampleArgs),
    /// Talk to a fine-tuned model
    Chat(chat::ChatArgs),
    /// Serve a model by the interface that clients of OpenAI's know
    Serve(serve::ServeArgs),
    /// Loss and accuracy of a model, or rewards of its answers
    ///
    /// Of pretraining loss, bits per byte and accuracy; of preference training pairs ranked right, or rewards.
    Eval(eval::EvalArgs),
    /// Compare every kernel on this adapter with the CPU reference
    ///
    /// And the gradients of a whole model; takes minutes.
    Check(check::CheckArgs),
    /// Measure speed: whole updates, matrix products, or each kernel
    Bench(bench::BenchArgs),
    /// List adapters, their limits and features
    Info,
    /// Memory and compute of a run before it begins; needs no GPU
    Plan(plan::PlanArgs),
    /// Draw the loss of runs into one PNG
    Plot(plot::PlotArgs),
    /// List the kernels, or show a shader as it is compiled
    Kernels(kernels::KernelsArgs),
    /// Write logits, loss and gradients of a model on given tokens
    ///
    /// To compare them with those of other programs.
    Dump(dump::DumpArgs),
    /// Write a model as a folder that transformers opens
    Export(export::ExportArgs),
    /// Copy a Hugging Face folder into the form of a checkpoint
    ///
    /// Commands that take a model read such a folder themselves. An imported one holds f32 in one file with every
    /// expert by itself, and is known to be whole and finite.
    Import(import::ImportArgs),
    /// Count what is in data and check it, or write embedded data out
    Data(data::DataArgs),
    /// Print a script with which a shell completes commands and options
    Completions(completions::CompletionsArgs),
    /// Write the manual pages
    Man(man::ManArgs),
}

/// Which device runs the command.
#[derive(Args, Clone, Debug, Default)]
struct DeviceArgs {
    /// Where to compute
    #[arg(long, value_enum, default_value = "auto")]
    backend: Backend,
    /// Number or part of the name of an adapter, as `hadal info` lists them
    #[arg(long, value_name = "NAME|INDEX")]
    adapter: Option<String>,
}

impl DeviceArgs {
    fn open(&self, precision: Precision) -> Result<Device> {
        Device::open(self.backend, self.adapter.as_deref(), precision)
    }
}

impl Cli {
    /// Runs the command.
    pub fn run(self) -> Result<()> {
        match self.command {
            Command::Train(args) => train::run(args),
            Command::Sft(args) => stage::run(args, Kind::Sft),
            Command::Reward(args) => stage::run(args, Kind::Reward),
            Command::Dpo(args) => stage::run(args, Kind::Dpo),
            Command::Grpo(args) => stage::run(args, Kind::Grpo),
            Command::Ppo(args) => stage::run(args, Kind::Ppo),
            Command::Pipeline(args) => pipeline::run(args),
            Command::Study(args) => study::run(args),
            Command::Sample(args) => sample::run(args),
            Command::Chat(args) => chat::run(args),
            Command::Serve(args) => serve::run(args),
            Command::Eval(args) => eval::run(args),
            Command::Check(args) => check::run(args),
            Command::Bench(args) => bench::run(args),
            Command::Info => info::run(),
            Command::Plan(args) => plan::run(args),
            Command::Plot(args) => plot::run(args),
            Command::Kernels(args) => kernels::run(args),
            Command::Dump(args) => dump::run(args),
            Command::Export(args) => export::run(args),
            Command::Import(args) => import::run(args),
            Command::Data(args) => data::run(args),
            Command::Completions(args) => completions::run(&args),
            Command::Man(args) => man::run(&args),
        }
    }
}

/// The configuration in a model's folder; warnings go to standard error.
///
/// Errors: it cannot be used; the folder holds a reward model, which says nothing.
fn model_config(folder: &Path) -> Result<ModelConfig> {
    if is_reward_model(folder)? {
        return Err(Error::file(folder, "holds a reward model, which gives a number for an answer and writes none"));
    }
    let (config, warnings) = read_config(folder)?;
    warnings.iter().for_each(|warning| note(format_args!("warning: {}", printable(warning))));
    config.validate()?;
    Ok(config)
}

const TOKENIZER: &str = "tokenizer.json";

/// The tokenizer in a model's folder, which must not know more tokens than the model.
fn model_tokenizer(folder: &Path, config: &ModelConfig) -> Result<Tokenizer> {
    let Some(path) = inside_if_there(folder, TOKENIZER)? else {
        return Err(Error::file(folder.join(TOKENIZER), "is missing; text needs the model's tokenizer"));
    };
    let tokenizer = Tokenizer::load(&path.to_string_lossy())?;
    vocabulary::warn(&tokenizer);
    let (tokens, rows) = (tokenizer.vocab_size(), config.vocab_size);
    if tokens > rows {
        return Err(Error::file(&path, format!("has {tokens} tokens, but the model beside it has vocab_size {rows}")));
    }
    Ok(tokenizer)
}

/// Reads sizes such as `24GiB`, `24G`, `512MiB`, `8e9` or plain bytes.
fn bytes(text: &str) -> std::result::Result<u64, String> {
    let units = [
        ("TiB", 1u64 << 40),
        ("GiB", 1 << 30),
        ("MiB", 1 << 20),
        ("KiB", 1 << 10),
        ("TB", 1_000_000_000_000),
        ("GB", 1_000_000_000),
        ("MB", 1_000_000),
        ("KB", 1000),
        // Memory is counted in powers of two, by tools that leave the unit out too.
        ("T", 1 << 40),
        ("G", 1 << 30),
        ("M", 1 << 20),
        ("K", 1 << 10),
        ("B", 1),
    ];
    let lower = |text: &str| text.to_ascii_lowercase();
    let (unit, size) = units.iter().find(|(name, _)| lower(text).ends_with(&lower(name))).unwrap_or(&("", 1));
    let number = &text[..text.len() - unit.len()];
    match number.trim().parse::<f64>() {
        Ok(n) if n > 0.0 && n.is_finite() => Ok((n * *size as f64) as u64),
        _ => Err("expected a size such as 24GiB, 512MiB or a number of bytes".to_owned()),
    }
}

/// The arguments of the process, which ends where they cannot be understood.
pub fn parse() -> Cli {
    parse::parse()
}

/// Opens a model folder's weights and checks that they are those of a model so configured.
fn open_weights(folder: &Path, config: &ModelConfig) -> Result<Weights> {
    let weights = Weights::open(folder)?;
    weights.check(&parameters(config))?;
    Ok(weights)
}

/// Loads a model folder's weights into a session-like consumer. Refuses them in the end if some are not finite.
fn load_weights(folder: &Path, config: &ModelConfig, load: impl FnOnce(&mut Fill<'_>) -> Result<()>) -> Result<()> {
    open_weights(folder, config)?.load_all(load)
}

/// Checks, before any work is done for it, that a file can be written at `path`.
fn output(path: &Path) -> Result<()> {
    if path.is_dir() {
        return Err(Error::file(path, "is a folder; name a file"));
    }
    // A file is replaced as a whole, which would put a regular file in the place of a device or a link.
    if path.symlink_metadata().is_ok_and(|known| !known.is_file()) {
        return Err(Error::file(path, "is no regular file; name another"));
    }
    match path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        Some(folder) if !folder.is_dir() => Err(Error::file(folder, "is not a folder; make it first")),
        _ => Ok(()),
    }
}

/// Reads whole numbers from 1 on.
fn positive() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..)
}
