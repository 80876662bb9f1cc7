//! `hadal plan`

use super::advice::advice;
use super::beside::Beside;
use super::fit::{Fit, Target, decide, largest, policies, program, reserve, spelt, table, with};
use super::resume::own_config;
use super::setup::configure;
use super::stage::Stage;
use super::train::RunArgs;
use super::{bytes, summary::summary};
use crate::config::given::given;
use crate::config::train::Precision;
use crate::config::{Config, effects};
use crate::error::{Error, Result};
use crate::gpu::transfer::staging_bytes;
use crate::graph::Dtype;
use crate::graph::plan::Plan;
use crate::terminal::{note, print, size};
use crate::tokenizer::Tokenizer;
use clap::Args;
use std::path::{Path, PathBuf};

#[derive(Args, Debug)]
pub(super) struct PlanArgs {
    /// A preset, a TOML file or a run folder; tiny by default
    config: Option<String>,
    /// Start from the weights of a run folder, a checkpoint or a Hugging Face folder, with its network and tokenizer
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Files or folders that the run would learn from, as `hadal train` takes them; they are not read
    #[arg(long, value_name = "PATH")]
    data: Vec<PathBuf>,
    /// byte, gpt2, cl100k, world, or a tokenizer.json; byte for --data, if the configuration names none
    #[arg(long, value_name = "NAME|FILE")]
    tokenizer: Option<String>,
    /// Set one key, such as train.micro_batch=4
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Find the largest micro-batch for a card of this memory, such as 24GiB, of which a sixteenth, at most 768 MiB, is
    /// left to the driver
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    vram: Option<u64>,
    /// Largest binding of the adapter; larger weights are split
    #[arg(long, value_name = "SIZE", value_parser = bytes, default_value = "2GiB")]
    binding: u64,
}

pub(super) fn run(args: PlanArgs) -> Result<()> {
    let mut config = planned(&args)?;
    if config.model.vocab_size == 0 {
        config.model.vocab_size = Tokenizer::load(&config.data.tokenizer)?.vocab_size();
    }
    config.validate()?;
    // `auto` as a card with matrix units decides it.
    let stored = if config.train.precision == Precision::F32 { Dtype::F32 } else { Dtype::F16 };
    let target = Target { binding_limit: args.binding, stored, known: config.model.vocab_size };
    let beside = Beside::planned(&config, target)?;
    let limit = args.vram.map(|memory| memory - reserve(memory));
    let mut decided = config.clone();
    decide(&mut decided, target, beside.cap(&config, limit, &staging_bytes));
    let lines = |config: &Config| beside.lines(config, &staging_bytes);
    print(summary(&decided, &program(&decided, target), &staging_bytes) + &lines(&config))?;
    print(policies(&config, target))?;
    let (Some(memory), Some(limit)) = (args.vram, limit) else { return Ok(()) };
    let room = |tried: &Config, plan: &Plan| beside.has_room(tried, plan, limit, &staging_bytes);
    let Fit { micro_batch, recompute, plan } = largest(&config, target, &room).map_err(|least| {
        let taken = beside.bytes(&with(&config, least.micro_batch, least.recompute), &staging_bytes);
        let why = too_much(&least.plan, taken, memory, args.binding);
        Error::Memory(format!("{why}; {}", advice(&config, target, &room)))
    })?;
    let fitting = with(&config, micro_batch, recompute);
    let table = table(&plan, staging_bytes(&plan)) + &lines(&fitting);
    print(format_args!("with {micro_batch} sequences a pass: {table}"))?;
    print(format_args!(
        "largest micro-batch within {}: {micro_batch} ({}{}, and {} left to the driver; recompute {})",
        size(memory),
        size(plan.bytes()),
        also(beside.bytes(&fitting, &staging_bytes)),
        size(reserve(memory)),
        spelt(recompute)
    ))
}

/// The configuration of the run that is meant.
fn planned(args: &PlanArgs) -> Result<Config> {
    let folder = args.config.as_deref().filter(|config| Path::new(config).is_dir());
    let of_run = folder.and_then(|folder| own_config(folder.as_ref()));
    let config = of_run.or(args.config.clone());
    if args.model.is_none() && args.data.is_empty() && args.tokenizer.is_none() {
        let config = Config::resolve(config.as_deref(), &args.set)?;
        effects::check(&config, &config, &given(None, &args.set)?, &[])?.iter().for_each(note);
        return Ok(config);
    }
    let kind = Config::resolve(config.as_deref(), &args.set)?.kind();
    let run = RunArgs {
        config,
        model: args.model.clone(),
        data: args.data.clone(),
        tokenizer: args.tokenizer.clone(),
        set: args.set.clone(),
        ..RunArgs::default()
    };
    Ok(configure(&run, Stage::of(kind), Path::new(""), false)?.config)
}

/// What stands beside a plan, if anything does.
fn also(taken: u64) -> String {
    if taken > 0 { format!(", {} beside", size(taken)) } else { String::new() }
}

/// Why not even one sequence fits.
fn too_much(plan: &Plan, taken: u64, memory: u64, binding: u64) -> String {
    if plan.largest() > binding {
        return format!(
            "a tensor of one sequence needs {}, more than a binding of {}",
            size(plan.largest()),
            size(binding)
        );
    }
    format!(
        "one sequence already needs {}{} of {}, of which {} are left to the driver",
        size(plan.bytes()),
        also(taken),
        size(memory),
        size(reserve(memory))
    )
}
