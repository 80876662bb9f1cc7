//! A program: the model's tensors and the recordings that run on them.

use super::decoder::{Decoder, DecoderOptions};
use super::goal::{Aims, Goal, Model};
use super::inputs::{BatchSize, Inputs};
use super::learning::Learning;
use super::lora::is_adapter;
use super::moe::bias_name;
use super::moments::{self, Moments};
use super::params::ParamSpec;
use super::transformer;
use super::weights::Weights;
use crate::config::model::ModelConfig;
use crate::config::train::{OptimizerConfig, Recompute};
use crate::graph::op::Weight;
use crate::graph::plan::Plan;
use crate::graph::recording::Recorder;
use crate::graph::tape::Tape;
use crate::graph::{Dtype, Recording, Role, Tensor, Tensors};
use crate::kernels::{cast, expert_bias, fill, grad_norm, grad_norm_finish};
use std::collections::HashSet;

/// Makes the copies of all parameters in f16 anew, after the host has written parameters.
pub const REFRESH: &str = "refresh";
/// Clears the sums and the experts' loads before a window.
pub const RESET: &str = "reset";
/// Forward and backward of one micro-batch; parameter gradients and sums accumulate.
pub const MICRO_STEP: &str = "micro_step";
/// The same as the first of a window, after an update or before any: products overwrite the gradients.
pub const FIRST_MICRO_STEP: &str = "first_micro_step";
/// Norm, clip, AdamW, selection biases; zeroes the gradients that [`FIRST_MICRO_STEP`] adds to and leaves the others as
/// they are.
pub const UPDATE: &str = "update";
/// Loss of one micro-batch; dropout and balance loss off.
pub const EVALUATE: &str = "evaluate";
/// Logits of chosen rows of one micro-batch.
pub const LOGITS: &str = "logits";
/// Log-probabilities of one micro-batch by the reference.
pub const REFERENCE: &str = "reference";

/// Updates in a row with finite gradients after which the loss scale doubles.
const GROWTH_INTERVAL: u32 = 2000;

/// What a program is to be able to do.
#[derive(Clone, Debug)]
pub struct ProgramOptions {
    /// Sizes of a micro-batch.
    pub size: BatchSize,
    /// Largest binding of the adapter, in bytes; larger weights are split.
    pub binding_limit: u64,
    /// Settings of the update; absent where nothing is trained.
    pub optimizer: Option<OptimizerConfig>,
    /// Rows of hidden states that logits are made of; absent for none.
    pub logit_rows: Option<usize>,
    /// What activations and the factors of products are stored as: f16 for mixed precision.
    pub stored: Dtype,
    /// What backward makes again of each block but the last; `auto`, which knows no limit here, is `none`.
    pub recompute: Recompute,
}

/// Rows whose logits are wanted, and the logits.
#[derive(Clone, Copy, Debug)]
pub struct LogitSlots {
    /// Numbers of the rows.
    pub rows: Tensor, // (S)
    /// Their logits.
    pub logits: Tensor, // (S, V)
}

/// Tensors and recordings of one model.
pub struct Program {
    /// The model.
    pub config: ModelConfig,
    /// Every tensor.
    pub tensors: Tensors,
    /// What can be run, by name.
    pub recordings: Vec<Recording>,
    /// What the host writes.
    pub inputs: Inputs,
    /// The parameters.
    pub weights: Weights,
    /// Optimizer state, in the order of the parameters' parts.
    pub moments: Vec<Moments>,
    /// What `reference::adamw8bit::maps` gives, to be written by the host, where some moments have 8 bits.
    pub maps: Option<Tensor>, // (2, 256)
    /// What activations and factors are stored as.
    pub stored: Dtype,
    /// Chosen rows and their logits, where wanted.
    pub logits: Option<LogitSlots>,
    /// What updates lower.
    pub aims: Aims,
    /// The weights that the run began with, where they stay: read alone, or beside adapters the frozen ones.
    pub reference: Option<Weights>,
    /// What draws answers, with the weights that are trained; beside adapters with weights of its own.
    pub decoder: Option<Decoder>,
}

impl Program {
    /// Records everything that `options` ask for. Allocates no memory.
    pub fn new(config: &ModelConfig, specs: &[ParamSpec], options: &ProgramOptions) -> Self {
        Program::learning(config, specs, options, Learning::default())
    }

    /// The same for preference training; `specs` have the heads that its goal needs.
    pub fn learning(config: &ModelConfig, specs: &[ParamSpec], options: &ProgramOptions, learning: Learning) -> Self {
        let mut tensors = Tensors::default();
        let training = options.optimizer.is_some();
        let whole = |spec: &ParamSpec| options.optimizer.as_ref().and_then(|o| moments::block(o, spec.elements()));
        let weights = Weights::new(&mut tensors, specs, options.binding_limit, training, options.stored, whole);
        let inputs = Inputs::new(&mut tensors, config, options.size);
        let aims = learning.goal.tensors(&mut tensors, &inputs);
        let mut program = Program {
            config: config.clone(),
            tensors,
            recordings: Vec::new(),
            inputs,
            weights,
            moments: Vec::new(),
            maps: None,
            stored: options.stored,
            logits: None,
            aims,
            reference: None,
            decoder: None,
        };
        program.record_refresh();
        program.record_reset(training);
        if let Some(optimizer) = &options.optimizer {
            let overwritten = program.record_micro_step(options.binding_limit, options.recompute);
            program.record_update(optimizer, &overwritten);
        }
        program.record_evaluate(options.binding_limit);
        if let Some(rows) = options.logit_rows {
            program.record_logits(rows, options.binding_limit);
        }
        if learning.reference {
            program.record_reference(specs, options.binding_limit);
        }
        if let Some(draws) = learning.draws {
            program.record_draws(specs, draws);
        }
        program
    }

    /// Number of the recording called `name`; panics if the program was not built to have it.
    pub fn recording(&self, name: &str) -> usize {
        let at = self.recordings.iter().position(|r| r.name == name);
        at.unwrap_or_else(|| panic!("the program has no recording {name}"))
    }

    /// The memory that the program needs.
    pub fn plan(&self) -> Plan {
        Plan::new(&self.tensors, &self.recordings)
    }

    fn record_refresh(&mut self) {
        let mut r = Recorder::new(&mut self.tensors);
        for parameter in &self.weights.all {
            for (&(_, part), &copy) in parameter.weight.parts.iter().zip(parameter.weight.copies.iter().flatten()) {
                let params = cast::Params { count: r.tensors.elements(part) as u32 };
                r.step(&cast::KERNEL, &params, &[part, copy]);
            }
        }
        self.recordings.push(r.finish(REFRESH));
    }

    fn record_reset(&mut self, training: bool) {
        let mut r = Recorder::new(&mut self.tensors);
        let of_goal = self.aims.results().into_iter().flatten().map(|results| results.metrics);
        for metrics in [self.inputs.loss.metrics].into_iter().chain(of_goal) {
            let count = r.tensors.elements(metrics) as u32;
            r.step(&fill::KERNEL, &fill::Params { count, value: 0.0 }, &[metrics]);
        }
        if let Some(loads) = self.inputs.expert_loads.filter(|_| training) {
            let count = r.tensors.elements(loads) as u32;
            r.step(&fill::KERNEL, &fill::Params { count, value: 0.0 }, &[loads]);
        }
        self.recordings.push(r.finish(RESET));
    }

    /// Gives the gradients that the first micro-step of a window overwrites whole.
    fn record_micro_step(&mut self, binding_limit: u64, recompute: Recompute) -> HashSet<Tensor> {
        let mut config = self.config.clone();
        if self.aims.goal != Goal::CrossEntropy {
            config.aux_loss_alpha = 0.0; // where answers are equally good, nothing is to change
        }
        let mut t = Tape::training(&mut self.tensors, binding_limit).storing(self.stored);
        let h = transformer::hidden(&mut t, &config, &self.weights, &self.inputs, recompute);
        self.aims.record(&mut t, Model { config: &self.config, weights: &self.weights, inputs: &self.inputs }, h);
        let recording = t.finish(MICRO_STEP);
        let (first, overwritten) = recording.overwriting_gradients(&self.tensors, FIRST_MICRO_STEP);
        self.recordings.extend([recording, first]);
        overwritten
    }

    fn record_evaluate(&mut self, binding_limit: u64) {
        let mut t = Tape::evaluation(&mut self.tensors, binding_limit).storing(self.stored);
        let h = transformer::hidden(&mut t, &self.config, &self.weights, &self.inputs, Recompute::None);
        let model = Model { config: &self.config, weights: &self.weights, inputs: &self.inputs };
        self.aims.scores = self.aims.record_evaluation(&mut t, model, h);
        let recording = t.finish(EVALUATE);
        self.recordings.push(recording);
    }

    /// Beside adapters the frozen weights are what the run began with; else they are kept a second time, as products
    /// read them.
    fn record_reference(&mut self, specs: &[ParamSpec], binding_limit: u64) {
        let weights = match self.weights.adapted() {
            true => self.weights.without_adapters(),
            false => Weights::frozen(&mut self.tensors, specs, binding_limit, self.stored, "reference."),
        };
        let mut t = Tape::evaluation(&mut self.tensors, binding_limit).storing(self.stored);
        let h = transformer::hidden(&mut t, &self.config, &weights, &self.inputs, Recompute::None);
        self.aims.record_log_probs(&mut t, Model { config: &self.config, weights: &weights, inputs: &self.inputs }, h);
        let recording = t.finish(REFERENCE);
        self.recordings.push(recording);
        self.reference = Some(weights);
    }

    /// The passes that draw. Beside adapters they have weights of their own, in which these are to be merged.
    fn record_draws(&mut self, specs: &[ParamSpec], options: DecoderOptions) {
        let weights = match self.weights.adapted() {
            true => {
                let whole = specs.iter().filter(|spec| !is_adapter(spec));
                let bare: Vec<ParamSpec> = whole.map(|spec| ParamSpec { adapter: None, ..spec.clone() }).collect();
                Weights::frozen(&mut self.tensors, &bare, options.binding_limit, options.stored, "drawing.")
            }
            false => self.weights.read(),
        };
        let decoder = Decoder::add(&mut self.tensors, &mut self.recordings, &self.config, weights, options);
        self.decoder = Some(decoder);
    }

    fn record_logits(&mut self, rows: usize, binding_limit: u64) {
        let chosen = self.tensors.index("logit_rows", &[rows], Role::Input);
        let mut t = Tape::evaluation(&mut self.tensors, binding_limit).storing(self.stored);
        let h = transformer::hidden(&mut t, &self.config, &self.weights, &self.inputs, Recompute::None);
        let all = Weight { parts: vec![(0, h)], copies: None, rows: self.inputs.size.tokens() };
        let h = t.embed(chosen, &all, self.inputs.token_order, self.inputs.segments); // (S, d)
        let logits = t.logits(h, transformer::head(&self.config, &self.weights)); // (S, V)
        let recording = t.finish(LOGITS);
        self.recordings.push(recording);
        self.logits = Some(LogitSlots { rows: chosen, logits });
    }

    /// Every trained parameter's gradient enters one norm; each part is then updated with the clipped gradient.
    /// Gradients that are not `overwritten` become zeros. Selection biases move against the window's loads.
    fn record_update(&mut self, optimizer: &OptimizerConfig, overwritten: &HashSet<Tensor>) {
        let trained = self.weights.all.iter().filter(|parameter| parameter.spec.trained);
        self.maps = moments::maps(&mut self.tensors, trained.clone().map(|p| &p.spec), optimizer);
        let mut parts = Vec::new();
        for parameter in trained {
            let decays = parameter.spec.decay || optimizer.decay_all;
            let weight_decay = if decays { optimizer.weight_decay as f32 } else { 0.0 };
            for (i, (_, _, tensor)) in parameter.weight.spans().enumerate() {
                let count = self.tensors.elements(tensor) as u32;
                // Without a copy there is nothing to write, but a binding there must be.
                let copy = match &parameter.weight.copies {
                    Some(copies) => copies[i],
                    None => self.tensors.real("no_copy", &[4], Role::State),
                };
                let moments = Moments::new(&mut self.tensors, optimizer, &parameter.spec, self.maps, [tensor, copy]);
                parts.push((moments, count, weight_decay));
            }
        }
        let total = parts.iter().map(|&(_, count, ..)| grad_norm::partials(count)).sum();
        let partials = self.tensors.real("norm_partials", &[total as usize], Role::State);
        let gradient =
            |t: &Tensors, p: Tensor| t.gradient_of(p).unwrap_or_else(|| panic!("a parameter has no gradient"));
        let mut r = Recorder::new(&mut self.tensors);
        let mut first_partial = 0;
        for &(moments, count, ..) in &parts {
            let params = grad_norm::Params { count, first_partial, partials: grad_norm::partials(count) };
            let d = gradient(r.tensors, moments.parameter);
            r.step(&grad_norm::KERNEL, &params, &[d, partials]);
            first_partial += params.partials;
        }
        let result = self.inputs.loss.result;
        let params = grad_norm_finish::Params {
            partials: total,
            clip_norm: optimizer.clip_norm as f32,
            beta1: optimizer.beta1 as f32,
            beta2: optimizer.beta2 as f32,
            growth_interval: if self.stored == Dtype::F16 { GROWTH_INTERVAL } else { 0 },
        };
        let metrics = self.inputs.loss.metrics;
        self.aims.record_guard(&mut r, &self.inputs);
        r.step(&grad_norm_finish::KERNEL, &params, &[partials, metrics, result]);
        for &(moments, _, weight_decay) in &parts {
            let d = gradient(r.tensors, moments.parameter);
            let zeroed = !overwritten.contains(&d);
            moments.record(&mut r, optimizer, weight_decay, [self.inputs.state, result], d, zeroed);
        }
        // A preference says nothing about loads: where answers are equally good, nothing is to change.
        if self.aims.goal == Goal::CrossEntropy {
            record_biases(&mut r, &self.config, &self.weights, &self.inputs);
        }
        self.recordings.push(r.finish(UPDATE));
        self.moments = parts.iter().map(|&(moments, ..)| moments).collect();
    }
}

/// Moves the selection biases of every layer that has them; not beside adapters, with which they are not kept.
fn record_biases(r: &mut Recorder<'_>, config: &ModelConfig, weights: &Weights, inputs: &Inputs) {
    let Some(loads) = inputs.expert_loads.filter(|_| weights.kept().len() == weights.all.len()) else { return };
    if !config.has_expert_bias() || config.bias_update_speed == 0.0 {
        return;
    }
    let (experts, speed) = (config.n_routed_experts as u32, config.bias_update_speed as f32);
    for layer in (0..config.num_hidden_layers).filter(|&layer| config.is_moe(layer)) {
        let params = expert_bias::Params { row: config.moe_layers_before(layer) as u32, experts, speed };
        let bias = weights.vector(&bias_name(layer));
        r.step(&expert_bias::KERNEL, &params, &[loads, inputs.loss.result, bias]);
    }
}
