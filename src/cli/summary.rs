//! What a run is, in the words that it begins with.

use super::fit;
use crate::config::Config;
use crate::config::train::Recompute;
use crate::graph::plan::Plan;
use crate::model::lora::{adapted, is_adapter};
use crate::model::params::{ParamSpec, parameters};
use crate::model::program::Program;
use crate::terminal::size;
use crate::train::schedule;

/// Parameter table, compute and memory, as printed before the first step.
pub(super) fn summary(config: &Config, program: &Program, staging: &dyn Fn(&Plan) -> u64) -> String {
    let model = &config.model;
    let (length, train, specs) = (config.train.sequence_length, &config.train, parameters(model));
    let trained = || specs.iter().filter(|spec| spec.trained);
    let of =
        |pattern: &str| -> u64 { trained().filter(|s| s.name.contains(pattern)).map(|s| s.elements() as u64).sum() };
    let (embedding, attention) = (of("embed_tokens") + of("lm_head"), of("self_attn"));
    let (experts, shared, router) = (of(".experts."), of("shared_experts"), of("mlp.gate.weight"));
    let total = model.total_parameters();
    let dense = of(".mlp.") - experts - shared - router;
    let norms = total - embedding - attention - experts - shared - router - dense;
    let rows = [
        ("embedding and head", embedding),
        ("attention", attention),
        ("dense feed-forward", dense),
        ("routed experts", experts),
        ("shared experts", shared),
        ("routers", router),
        ("norms", norms),
        ("total", total),
        ("active for a token", model.activated_parameters()),
    ];
    let mut text = String::from("parameters\n");
    for (name, count) in rows {
        text += &format!("  {name:<20} {:>15}\n", grouped(count));
    }
    let adapters = adapted(model, &config.lora);
    let adapters: usize = adapters.iter().filter(|spec| is_adapter(spec)).map(ParamSpec::elements).sum();
    if adapters > 0 {
        let share = 100.0 * adapters as f64 / (total + adapters as u64) as f64;
        text += &format!("  {:<20} {:>15}, {share:.3} % of all\n", "trained: adapters", grouped(adapters as u64));
    }
    text += &format!(
        "compute: {:.4e} FLOP a token (forward and backward, {length} positions)\n",
        fit::training_flops(config)
    );
    text += &match fit::repeated_flops(program) {
        0.0 => format!("recompute: {}\n", fit::spelt(train.recompute)),
        more => format!("recompute: {}, {more:.4e} FLOP a token more\n", fit::spelt(train.recompute)),
    };
    text += &format!(
        "batch: {} x {} tokens a pass, {} passes an update, {} tokens an update\n",
        train.micro_batch,
        length,
        train.accumulation,
        grouped(train.tokens_per_update())
    );
    let plan = program.plan();
    text + &fit::table(&plan, staging(&plan))
}

/// Model, memory and schedule, a line each; the plan takes `memory` bytes with all that is beside it.
pub(super) fn brief(config: &Config, memory: u64) -> [String; 3] {
    let (model, train) = (&config.model, &config.train);
    let counts = [model.total_parameters(), model.activated_parameters()].map(grouped);
    let mut about = format!("model: {} parameters, {} active for a token", counts[0], counts[1]);
    if config.lora.is_on() {
        let adapters = adapted(model, &config.lora);
        let trained: usize = adapters.iter().filter(|spec| is_adapter(spec)).map(ParamSpec::elements).sum();
        about += &format!(", {} trained in adapters", grouped(trained as u64));
    }
    if let Some(folder) = &train.model {
        about += &format!("; from the weights in {}", folder.display());
    }
    let mut room = format!("memory: {} planned", size(memory));
    if train.recompute != Recompute::None {
        room += &format!("; recomputes {}", fit::spelt(train.recompute));
    }
    let update = match config.kind().draws() {
        true => String::new(),
        false => format!(", {} tokens a step", grouped(train.tokens_per_update())),
    };
    let batch = format!("; {} x {} tokens a pass{update}", train.micro_batch, train.sequence_length);
    [about, room + &batch, format!("steps: {}; lr {}", grouped(train.steps), schedule::describe(config))]
}

pub(super) fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
