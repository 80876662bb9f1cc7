//! `hadal plan`

use super::{bytes, gib, train::summary};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::model::inputs::BatchSize;
use crate::model::params::parameters;
use crate::model::program::{Program, ProgramOptions};
use crate::terminal::print;
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
    let config = Config::resolve(args.config.as_deref(), &args.set)?;
    config.validate()?;
    config.model.validate()?;
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
    let mut largest = 1;
    while largest < 1 << 16 && needs(largest * 2) <= limit {
        largest *= 2;
    }
    let mut step = largest / 2;
    while step > 0 {
        if needs(largest + step) <= limit {
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
    };
    Program::new(&config.model, &parameters(&config.model), &options)
}
