//! How large a micro-batch fits into a memory of a given size.

use super::gib;
use crate::config::Config;
use crate::graph::plan::Plan;
use crate::graph::{Dtype, Role};
use crate::model::inputs::BatchSize;
use crate::model::params::parameters;
use crate::model::program::{Program, ProgramOptions};

/// The part of a card's memory that no plan may count on: a driver keeps its context, pipelines and staging buffers
/// there, and the unused ends of the blocks that it cuts buffers from. On an H100 these were 566 MiB beside a plan of
/// 16.4 GiB; small cards have less to spare, and smaller contexts.
pub(super) fn reserve(memory: u64) -> u64 {
    (memory / 16).min(768 << 20)
}

/// What a program is made for, beside its configuration.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    /// Largest binding, in bytes.
    pub binding_limit: u64,
    /// What activations and the factors of products are stored as.
    pub stored: Dtype,
}

/// Everything that a training run of `config` records.
pub(super) fn program(config: &Config, target: Target) -> Program {
    let Target { binding_limit, stored } = target;
    let options = ProgramOptions {
        size: BatchSize { batch: config.train.micro_batch, length: config.train.sequence_length },
        binding_limit,
        optimizer: Some(config.optimizer.clone()),
        logit_rows: None,
        stored,
    };
    Program::new(&config.model, &parameters(&config.model), &options)
}

/// The plan of `config` with another micro-batch.
pub(super) fn plan(config: &Config, micro_batch: usize, target: Target) -> Plan {
    let mut config = config.clone();
    config.train.micro_batch = micro_batch;
    program(&config, target).plan()
}

/// The largest micro-batch whose plan needs at most `limit` bytes, and none of whose tensors needs more than a binding
/// holds; `None` if that is too much for one sequence.
pub(super) fn largest(config: &Config, target: Target, limit: u64) -> Option<usize> {
    let length = config.train.sequence_length;
    let fits = |micro_batch: usize| {
        let tokens = micro_batch.saturating_mul(length);
        let plan = || plan(config, micro_batch, target);
        let within = |plan: Plan| plan.bytes() <= limit && plan.largest() <= target.binding_limit;
        config.model.check_pass("train.micro_batch", tokens, "").is_ok() && within(plan())
    };
    if !fits(1) {
        return None;
    }
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
    Some(largest)
}

/// What a refused run is told.
pub(super) fn advice(config: &Config, target: Target, limit: u64) -> String {
    match largest(config, target, limit) {
        Some(fits) => format!("the largest micro-batch that fits is train.micro_batch={fits}"),
        None => "not even train.micro_batch=1 fits".to_owned(),
    }
}

/// The memory of a plan, a line a role.
pub(super) fn table(plan: &Plan) -> String {
    let mut text = String::from("memory\n");
    for (name, roles) in [
        ("parameters", &[Role::Parameter][..]),
        ("copies in f16", &[Role::Copy]),
        ("gradients", &[Role::Gradient]),
        ("moments", &[Role::Moment]),
        ("activations", &[Role::Activation]),
        ("inputs and sums", &[Role::Input, Role::State]),
    ] {
        let bytes = roles.iter().map(|&role| plan.bytes_of(role)).sum();
        text += &format!("  {name:<20} {:>10.4} GiB\n", gib(bytes));
    }
    text + &format!("  {:<20} {:>10.4} GiB", "all", gib(plan.bytes()))
}
