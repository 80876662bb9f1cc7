//! `hadal plan`

use super::{bytes, gib, train::summary};
use crate::config::Config;
use crate::config::train::Precision;
use crate::error::{Error, Result};
use crate::graph::Dtype;
use crate::model::inputs::BatchSize;
use crate::model::params::parameters;
use crate::model::program::{Program, ProgramOptions};
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
    /// Find the largest micro-batch that needs no more than this, such as 24GiB
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
    print(summary(&config, &parameters(&config.model), &program(&config, &args)))?;
    let Some(limit) = args.vram else { return Ok(()) };
    let needs = |micro_batch: usize| {
        let mut config = config.clone();
        config.train.micro_batch = micro_batch;
        program(&config, &args).plan().bytes()
    };
    if needs(1) > limit {
        return Err(Error::Memory(format!("one sequence already needs {:.2} GiB of {:.2}", gib(needs(1)), gib(limit))));
    }
    let length = config.train.sequence_length;
    let fits = |micro_batch: usize| {
        config.model.check_pass("train.micro_batch", micro_batch * length, "").is_ok() && needs(micro_batch) <= limit
    };
    let mut largest = 1;
    while fits(largest * 2) {
        largest *= 2;
    }
    let mut step = largest / 2;
    while step > 0 {
        if fits(largest + step) {
            largest += step;
        }
        step /= 2;
    }
    let found = gib(needs(largest));
    print(format_args!("largest micro-batch within {:.2} GiB: {largest} ({found:.2} GiB)", gib(limit)))
}

fn program(config: &Config, args: &PlanArgs) -> Program {
    let options = ProgramOptions {
        size: BatchSize { batch: config.train.micro_batch, length: config.train.sequence_length },
        binding_limit: args.binding,
        optimizer: Some(config.optimizer.clone()),
        logit_rows: None,
        // `auto` as a card with matrix units decides it.
        stored: if config.train.precision == Precision::F32 { Dtype::F32 } else { Dtype::F16 },
    };
    Program::new(&config.model, &parameters(&config.model), &options)
}
