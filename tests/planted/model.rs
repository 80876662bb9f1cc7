//! Gradients of a whole model's recordings beside central differences of the independent judge, which shares nothing
//! with the graph. Unlike in `tests/model.rs` there are two micro-batches of different numbers of targets, accumulated,
//! and the differences are taken once for all bugs.

use super::recording::Patient;
use hadal::config::model::ModelConfig;
use hadal::config::train::{OptimizerConfig, Recompute};
use hadal::data::batch::Batch;
use hadal::graph::op::Weight;
use hadal::graph::run_cpu::CpuExecutor;
use hadal::graph::{Dtype, Executor};
use hadal::kernels::case::{indices, uniform};
use hadal::kernels::state;
use hadal::model::inputs::BatchSize;
use hadal::model::params::{initial, parameters};
use hadal::model::positions;
use hadal::model::program::{MICRO_STEP, Program, ProgramOptions, RESET};
use hadal::reference::model::{self, Params, Targets};

/// Allowed error of a derivative as a share of the largest of its parameter: the rotation table and the loss weights
/// are f32, which costs 6e-8 each, and central differences cost less.
const TOLERANCE: f64 = 1e-6;
/// Half the distance of a central difference.
const STEP: f64 = 1e-5;
/// Random directions in which the derivative of each parameter is compared.
const DIRECTIONS: usize = 3;
const SIZE: BatchSize = BatchSize { batch: 2, length: 7 };

/// A small model with every part; factors that the graph keeps in f32 are exact there, and `o_proj` is square.
pub fn config(tied: bool) -> ModelConfig {
    ModelConfig {
        vocab_size: 23,
        hidden_size: 16,
        num_hidden_layers: 3,
        num_attention_heads: 2,
        q_lora_rank: Some(6),
        kv_lora_rank: 8,
        qk_nope_head_dim: 12,
        qk_rope_head_dim: 4,
        v_head_dim: 8,
        intermediate_size: 12,
        moe_intermediate_size: 6,
        n_routed_experts: 5,
        n_shared_experts: 1,
        num_experts_per_tok: 2,
        first_k_dense_replace: 1,
        routed_scaling_factor: 1.75,
        aux_loss_alpha: 0.5,
        tie_word_embeddings: tied,
        initializer_range: 0.4, // large enough that every term matters
        ..ModelConfig::default()
    }
}

/// A program with what the host feeds it: what bugs are planted in.
pub struct Model {
    pub program: Program,
    pub batches: Vec<Batch>,
    /// 1 / sequences of the window.
    pub inverse_sequences: f32,
}

impl Model {
    /// The model without a bug.
    pub fn new(config: &ModelConfig) -> Model {
        let optimizer = Some(OptimizerConfig { clip_norm: 0.5, ..OptimizerConfig::default() });
        let (size, binding_limit, recompute) = (SIZE, 1 << 30, Recompute::None);
        let options =
            ProgramOptions { size, binding_limit, optimizer, logit_rows: None, stored: Dtype::F32, recompute };
        let program = Program::new(config, &parameters(config), &options);
        let mut batches: Vec<Batch> = [(1, 3), (2, 11)].map(|(seed, hidden)| batch(config, seed, hidden)).into();
        let counted = batches.iter().map(Batch::counted).sum();
        batches.iter_mut().for_each(|batch| batch.set_weight(counted));
        let sequences = SIZE.batch * batches.len();
        Model { program, batches, inverse_sequences: 1.0 / sequences as f32 }
    }

    /// The micro-step's recording, to be patched.
    pub fn micro_step(&mut self) -> Patient<'_> {
        self.named(MICRO_STEP)
    }

    /// A recording by its name.
    pub fn named(&mut self, name: &str) -> Patient<'_> {
        let at = self.program.recording(name);
        Patient { tensors: &self.program.tensors, recording: &mut self.program.recordings[at] }
    }

    /// Accumulates the gradients of all micro-batches.
    pub fn run(&self, params: &Params<f64>) -> CpuExecutor<f64> {
        let Program { tensors, recordings, inputs, .. } = &self.program;
        let mut cpu = CpuExecutor::<f64>::new(tensors, recordings);
        for parameter in &self.program.weights.all {
            cpu.set(whole(&parameter.weight), &params[&parameter.spec.name]);
        }
        let put = |cpu: &mut CpuExecutor<f64>, tensor, values: &[u32]| {
            cpu.upload_indices(tensor, values).expect("main memory takes integers");
        };
        cpu.upload(inputs.rope_table, &positions::table(&self.program.config, SIZE.length, SIZE.length))
            .expect("memory takes floats");
        let mut words = [0; state::STATE_WORDS];
        words[state::STATE_INVERSE_SEQUENCES] = self.inverse_sequences.to_bits();
        words[state::STATE_LEARNING_RATE] = 0.01f32.to_bits();
        put(&mut cpu, inputs.state, &words);
        cpu.upload(inputs.loss.result, &state::first_result(1.0)).expect("memory takes floats");
        cpu.run(self.program.recording(RESET)).expect("the CPU runs");
        for batch in &self.batches {
            put(&mut cpu, inputs.ids, &batch.ids);
            put(&mut cpu, inputs.token_order, &batch.token_order);
            put(&mut cpu, inputs.segments, &batch.segments);
            put(&mut cpu, inputs.positions, &batch.positions);
            put(&mut cpu, inputs.document_start, &batch.document_start);
            put(&mut cpu, inputs.real, &batch.real);
            put(&mut cpu, inputs.loss.targets, &batch.targets);
            cpu.upload(inputs.loss.loss_weights, &batch.loss_weights).expect("memory takes floats");
            cpu.run(self.program.recording(MICRO_STEP)).expect("the CPU runs");
        }
        cpu
    }
}

/// The one tensor of a weight that is not split.
pub fn whole(weight: &Weight) -> hadal::graph::Tensor {
    assert_eq!(weight.parts.len(), 1, "the model is small");
    weight.parts[0].1
}

/// Random tokens; the first `hidden` targets are ignored, and the last two tokens are padding.
fn batch(config: &ModelConfig, seed: u64, hidden: usize) -> Batch {
    let n = SIZE.tokens();
    let ids = indices(seed, n, config.vocab_size as u32 / 2); // some repeat, some are never used
    let mut targets = indices(seed + 10, n, config.vocab_size as u32);
    targets[..hidden].fill(state::IGNORED);
    targets[n - 2..].fill(state::IGNORED);
    let mut batch = Batch::new(ids, targets, SIZE.batch, SIZE.length);
    batch.real[n - 2..].fill(0);
    batch
}

/// Initial values, with norms that differ from one.
pub fn values(config: &ModelConfig) -> Params<f64> {
    let mut params = Params::new();
    for (seed, spec) in (100..).zip(parameters(config)) {
        let noise = uniform(seed, spec.elements());
        let value = |(x, noise): (f32, f64)| f64::from(x) + if spec.decay { 0.0 } else { noise / 2.0 };
        params.insert(spec.name.clone(), initial(&spec, 3).into_iter().zip(noise).map(value).collect());
    }
    params
}

/// Derivatives of the judge's loss along random directions inside each parameter.
pub struct Judge {
    pub params: Params<f64>,
    slopes: Vec<Slope>,
}

struct Slope {
    name: String,
    direction: Vec<f64>,
    derivative: f64,
}

impl Judge {
    /// Differentiates the loss of `sound`, a model without a bug.
    pub fn new(sound: &Model) -> Judge {
        let config = &sound.program.config;
        let params = values(config);
        let mut slopes = Vec::new();
        for (seed, spec) in (1000..).zip(parameters(config)) {
            for number in 0..DIRECTIONS {
                let direction = uniform(seed + 1000 * number as u64, spec.elements());
                let at = |step: f64| {
                    let mut moved = params.clone();
                    let values = moved.get_mut(&spec.name).expect("the parameter exists");
                    values.iter_mut().zip(&direction).for_each(|(x, d)| *x += step * d);
                    moved
                };
                let derivative = difference(sound, &at(STEP), &at(-STEP));
                slopes.push(Slope { name: spec.name.clone(), direction, derivative });
            }
        }
        Judge { params, slopes }
    }

    /// The share of the allowed error that the gradients of `model` use, or the first that is too far off.
    pub fn verdict(&self, model: &Model) -> Result<f64, String> {
        let cpu = model.run(&self.params);
        let mut worst = 0.0f64;
        for slopes in self.slopes.chunks(DIRECTIONS) {
            let name = &slopes[0].name;
            let parameter = whole(model.program.weights.get(name));
            let gradient = cpu.get(model.program.tensors.gradient_of(parameter).expect("it is trained"));
            let largest = slopes.iter().fold(0.0f64, |m, s| m.max(s.derivative.abs()));
            assert!(largest > 0.0, "{name} does not matter");
            for slope in slopes {
                let found: f64 = gradient.iter().zip(&slope.direction).map(|(g, d)| g * d).sum();
                let share = (found - slope.derivative).abs() / (TOLERANCE * largest);
                let passes = share <= 1.0; // which a NaN does not
                if !passes {
                    return Err(format!("{name}: a derivative is {found}, the judge says {}", slope.derivative));
                }
                worst = worst.max(share);
            }
        }
        Ok(worst)
    }
}

/// Central difference of the judge's loss over all micro-batches.
fn difference(model: &Model, up: &Params<f64>, down: &Params<f64>) -> f64 {
    let config = &model.program.config;
    let sequences = SIZE.batch * model.batches.len();
    let one = |batch: &Batch| {
        let weights: Vec<f64> = batch.loss_weights.iter().map(|&w| f64::from(w)).collect();
        let targets = Targets { targets: &batch.targets, weights: &weights, sequences };
        let read = model::Batch { real: Some(&batch.real), ..model::Batch::of(&batch.ids, batch.batch, batch.length) };
        let chosen = |params| model::selections(config, params, &read);
        assert_eq!(chosen(up), chosen(down), "the step crosses a tie of the router; take another seed");
        let loss = |params| model::loss(config, params, &read, &targets).total();
        (loss(up) - loss(down)) / (2.0 * STEP)
    };
    model.batches.iter().map(one).sum()
}
