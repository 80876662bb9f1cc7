//! How large a micro-batch fits into a memory of a given size, and with what recomputed.

use crate::config::Config;
use crate::config::train::Recompute;
use crate::graph::plan::Plan;
use crate::graph::{Dtype, Role};
use crate::model::inputs::BatchSize;
use crate::model::learning::Learning;
use crate::model::lora::{adapted, is_adapter};
use crate::model::params::ParamSpec;
use crate::model::program::{MICRO_STEP, Program, ProgramOptions};
use crate::terminal::size;

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
    /// Tokens below this may be drawn.
    pub known: usize,
}

/// Everything that a training run of `config` records.
pub(super) fn program(config: &Config, target: Target) -> Program {
    let Target { binding_limit, stored, known } = target;
    let options = ProgramOptions {
        size: BatchSize { batch: config.train.micro_batch, length: config.train.sequence_length },
        binding_limit,
        optimizer: Some(config.optimizer.clone()),
        logit_rows: None,
        stored,
        recompute: config.train.recompute,
    };
    let learning = Learning::of(config, known, binding_limit, stored);
    let specs = learning.goal.specs(adapted(&config.model, &config.lora), config.model.hidden_size);
    Program::learning(&config.model, &specs, &options, learning)
}

/// All ways to recompute, the least first, as the configuration spells them.
const POLICIES: [(Recompute, &str); 3] =
    [(Recompute::None, "none"), (Recompute::Ffn, "ffn"), (Recompute::Block, "block")];

/// `config` with another micro-batch and recompute.
pub(super) fn with(config: &Config, micro_batch: usize, recompute: Recompute) -> Config {
    let mut config = config.clone();
    (config.train.micro_batch, config.train.recompute) = (micro_batch, recompute);
    config
}

/// What may be recomputed: what the configuration says, or anything where it leaves that open.
fn allowed(config: &Config) -> Vec<Recompute> {
    match config.train.recompute {
        Recompute::Auto => POLICIES.map(|(policy, _)| policy).into(),
        chosen => vec![chosen],
    }
}

/// A micro-batch with what is recomputed, and the memory of both.
pub(super) struct Fit {
    /// B: sequences.
    pub micro_batch: usize,
    /// What backward makes again.
    pub recompute: Recompute,
    /// Its memory.
    pub plan: Plan,
}

/// Whether there is room for the plan of a configuration.
pub(super) type Room<'a> = &'a dyn Fn(&Config, &Plan) -> bool;

/// The least recompute with which there is room for `micro_batch` sequences, and none of whose tensors needs more than
/// a binding holds; else the most that is allowed, as an error.
pub(super) fn fit(config: &Config, micro_batch: usize, target: Target, room: Room<'_>) -> Result<Fit, Fit> {
    let mut last = None;
    for recompute in allowed(config) {
        let tried = with(config, micro_batch, recompute);
        let plan = program(&tried, target).plan();
        let fits = plan.largest() <= target.binding_limit && room(&tried, &plan);
        let found = Fit { micro_batch, recompute, plan };
        if fits {
            return Ok(found);
        }
        last = Some(found);
    }
    last.map_or_else(|| unreachable!("one policy is always allowed"), Err)
}

/// Decides what `auto` leaves open: nothing is recomputed without a limit, else the least that fits, or the most where
/// nothing does.
pub(super) fn decide(config: &mut Config, target: Target, limit: Option<u64>) {
    config.train.recompute = match (config.train.recompute, limit) {
        (Recompute::Auto, None) => Recompute::None,
        (Recompute::Auto, Some(limit)) => {
            let (Ok(found) | Err(found)) =
                fit(config, config.train.micro_batch, target, &|_, plan| plan.bytes() <= limit);
            found.recompute
        }
        (chosen, _) => chosen,
    };
}

/// The largest micro-batch that there is room for; where not even one sequence does, what that needs.
pub(super) fn largest(config: &Config, target: Target, room: Room<'_>) -> Result<Fit, Fit> {
    let length = config.train.sequence_length;
    let fits = |micro_batch: usize| {
        let passes = config.model.check_pass("train.micro_batch", micro_batch.saturating_mul(length), "").is_ok();
        passes.then(|| fit(config, micro_batch, target, room).ok()).flatten()
    };
    let mut largest = fit(config, 1, target, room)?;
    while let Some(found) = fits(largest.micro_batch * 2) {
        largest = found;
    }
    let mut step = largest.micro_batch / 2;
    while step > 0 {
        largest = fits(largest.micro_batch + step).unwrap_or(largest);
        step /= 2;
    }
    Ok(largest)
}

/// How the configuration spells a policy.
pub(super) fn spelt(recompute: Recompute) -> &'static str {
    POLICIES.iter().find(|(policy, _)| *policy == recompute).map_or("auto", |(_, name)| name)
}

/// Floating-point operations of training on one token: beside adapters two a weight less, those of its gradient, and
/// six more a number of an adapter that the token meets.
pub(super) fn training_flops(config: &Config) -> f64 {
    let (model, length) = (&config.model, config.train.sequence_length);
    let whole = model.training_flops_per_token(length);
    if !config.lora.is_on() {
        return whole;
    }
    let met = |spec: &ParamSpec| match spec.shape.len() {
        3 => spec.elements() * model.num_experts_per_tok / model.n_routed_experts,
        _ => spec.elements(),
    };
    let adapters: usize = adapted(model, &config.lora).iter().filter(|spec| is_adapter(spec)).map(met).sum();
    whole - 2.0 * model.multiplied_weights() as f64 + 6.0 * adapters as f64
}

/// Floating-point operations a token that `program` makes a second time.
pub(super) fn repeated_flops(program: &Program) -> f64 {
    let micro_step = &program.recordings[program.recording(MICRO_STEP)];
    micro_step.repeated_flops / program.inputs.size.tokens() as f64
}

/// The activations of each policy and the operations that it repeats, a line a policy.
pub(super) fn policies(config: &Config, target: Target) -> String {
    let (batch, length) = (config.train.micro_batch, config.train.sequence_length);
    let mut text = format!("activations by train.recompute, {batch} x {length} tokens a pass");
    let all = training_flops(config);
    for (policy, name) in POLICIES {
        let program = program(&with(config, batch, policy), target);
        let (bytes, more) = (program.plan().bytes_of(Role::Activation), repeated_flops(&program));
        text += &format!("\n  {name:<20} {:>12}", size(bytes));
        if more > 0.0 {
            text += &format!(", {more:.4e} FLOP a token more ({:.1} %)", 100.0 * more / all);
        }
    }
    text
}

/// The memory of a plan, a line a role, and of `staging` buffers, which are in the part that is left to the driver.
pub(super) fn table(plan: &Plan, staging: u64) -> String {
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
        text += &format!("  {name:<20} {:>12}\n", size(bytes));
    }
    text += &format!("  {:<20} {:>12}", "all", size(plan.bytes()));
    if staging > 0 {
        text += &format!("\n  {:<20} {:>12}", "for transfers, beside", size(staging));
    }
    text
}
