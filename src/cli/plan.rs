//! `hadal plan`

use super::beside::Beside;
use super::fit::{Fit, Target, decide, largest, policies, program, reserve, spelt, table, with};
use super::{bytes, gib, summary::summary};
use crate::config::Config;
use crate::config::train::Precision;
use crate::error::{Error, Result};
use crate::gpu::transfer::staging_bytes;
use crate::graph::Dtype;
use crate::graph::plan::Plan;
use crate::terminal::print;
use crate::tokenizer::Tokenizer;
use clap::Args;

#[derive(Args, Debug)]
pub(super) struct PlanArgs {
    /// A preset or a TOML file; tiny by default
    config: Option<String>,
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
    let mut config = Config::resolve(args.config.as_deref(), &args.set)?;
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
        Error::Memory(too_much(&least.plan, taken, memory, args.binding))
    })?;
    let fitting = with(&config, micro_batch, recompute);
    let table = table(&plan, staging_bytes(&plan)) + &lines(&fitting);
    print(format_args!("with {micro_batch} sequences a pass: {table}"))?;
    print(format_args!(
        "largest micro-batch within {:.2} GiB: {micro_batch} ({:.2} GiB{}, and {:.2} left to the driver; recompute {})",
        gib(memory),
        gib(plan.bytes()),
        also(beside.bytes(&fitting, &staging_bytes)),
        gib(reserve(memory)),
        spelt(recompute)
    ))
}

/// What stands beside a plan, if anything does.
fn also(taken: u64) -> String {
    if taken > 0 { format!(", {:.2} beside", gib(taken)) } else { String::new() }
}

/// Why not even one sequence fits.
fn too_much(plan: &Plan, taken: u64, memory: u64, binding: u64) -> String {
    if plan.largest() > binding {
        return format!("a tensor of one sequence needs {} bytes, more than a binding of {binding}", plan.largest());
    }
    format!(
        "one sequence already needs {:.2} GiB{} of {:.2}, of which {:.2} are left to the driver",
        gib(plan.bytes()),
        also(taken),
        gib(memory),
        gib(reserve(memory))
    )
}
