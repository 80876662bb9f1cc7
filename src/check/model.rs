//! A model's recordings on the GPU beside the CPU: first step by step, each on the same inputs, so that the first step
//! that differs is named; then as a whole, which also judges buffers, bindings and barriers.

use super::Finding;
use super::ops::judge;
use crate::config::model::{ModelConfig, ScoringFunc, TopkMethod};
use crate::config::train::{OptimizerConfig, Recompute};
use crate::data::batch::Batch;
use crate::error::Result;
use crate::gpu::device::Gpu;
use crate::gpu::executor::GpuExecutor;
use crate::gpu::pipeline::{Allowed, Pipelines};
use crate::graph::op::Weight;
use crate::graph::run_cpu::CpuExecutor;
use crate::graph::{Dtype, Executor, Tensors};
use crate::kernels::case::{indices, uniform};
use crate::kernels::state;
use crate::model::inputs::BatchSize;
use crate::model::params::{ParamSpec, parameters, start_values};
use crate::model::positions;
use crate::model::program::{FIRST_MICRO_STEP, MICRO_STEP, Program, ProgramOptions, REFRESH, RESET, UPDATE};
use crate::reference::adamw8bit::maps;
use crate::train::session::feed;
use std::sync::Arc;

/// Allowed relative L2 error of a parameter's gradient in f32 against f64, whole model.
const GRADIENT_TOLERANCE: f64 = 1e-4;
/// The same in mixed precision: both sides round to f16 in the same places, but not always the same way.
const HALF_TOLERANCE: f64 = 5e-3;
/// Micro-steps that are accumulated.
const PASSES: usize = 2;

/// A small model with every option that a recording can have: query latent, groups, shared experts, dropout, balance
/// loss, weights in parts.
pub fn small_config() -> ModelConfig {
    ModelConfig {
        vocab_size: 67,
        hidden_size: 24,
        num_hidden_layers: 3,
        num_attention_heads: 2,
        q_lora_rank: Some(10),
        kv_lora_rank: 12,
        qk_nope_head_dim: 6,
        qk_rope_head_dim: 4,
        v_head_dim: 5,
        intermediate_size: 29,
        moe_intermediate_size: 11,
        n_routed_experts: 6,
        n_shared_experts: 2,
        num_experts_per_tok: 2,
        first_k_dense_replace: 1,
        topk_method: TopkMethod::GroupLimitedGreedy,
        n_group: 3,
        topk_group: 2,
        routed_scaling_factor: 1.7,
        aux_loss_alpha: 0.1,
        initializer_range: 0.2, // large enough that every term matters
        attention_dropout: 0.1,
        embed_dropout: 0.1,
        resid_dropout: 0.1,
        ..ModelConfig::default()
    }
}

/// The same with sigmoid scores and selection biases.
pub fn small_biased_config() -> ModelConfig {
    let (scoring_func, topk_method, norm_topk_prob) = (ScoringFunc::Sigmoid, TopkMethod::NoauxTc, true);
    ModelConfig { scoring_func, topk_method, norm_topk_prob, ..small_config() }
}

/// A program for `config` with an update, on batches of 2 x 13.
pub fn small_program(config: &ModelConfig, binding_limit: u64, stored: Dtype) -> Program {
    let size = BatchSize { batch: 2, length: 13.min(config.max_position_embeddings) };
    let optimizer = Some(OptimizerConfig { clip_norm: 0.5, ..OptimizerConfig::default() });
    Program::new(
        config,
        &parameters(config),
        &ProgramOptions { size, binding_limit, optimizer, logit_rows: None, stored, recompute: Recompute::None },
    )
}

/// A program in mixed precision with widths and rows enough for matrix units, on batches of 2 x 64.
pub fn wide_program() -> Program {
    let config = ModelConfig {
        vocab_size: 384,
        hidden_size: 128,
        num_hidden_layers: 2,
        num_attention_heads: 2,
        q_lora_rank: None,
        kv_lora_rank: 128,
        qk_nope_head_dim: 64,
        qk_rope_head_dim: 32,
        v_head_dim: 64,
        intermediate_size: 256,
        moe_intermediate_size: 128,
        n_routed_experts: 4,
        topk_method: TopkMethod::Greedy,
        attention_dropout: 0.0,
        initializer_range: 0.05,
        ..small_config()
    };
    let size = BatchSize { batch: 2, length: 64 };
    let optimizer = Some(OptimizerConfig { clip_norm: 0.5, ..OptimizerConfig::default() });
    let (binding_limit, recompute) = (1 << 30, Recompute::None);
    let options = ProgramOptions { size, binding_limit, optimizer, logit_rows: None, stored: Dtype::F16, recompute };
    Program::new(&config, &parameters(&config), &options)
}

/// Fills an executor of `program` with weights and one batch, with some ignored targets.
pub fn fill(
    program: &Program,
    executor: &mut dyn Executor,
    mut values: impl FnMut(&ParamSpec, &mut [f32]) -> Result<()>,
) -> Result<()> {
    let inputs = &program.inputs;
    for parameter in &program.weights.all {
        let mut data = vec![0.0; parameter.spec.elements()];
        values(&parameter.spec, &mut data)?;
        upload(executor, &parameter.weight, &data)?;
    }
    let length = inputs.size.length;
    executor.upload(inputs.rope_table, &positions::table(&program.config, length, length))?;
    if let Some(tensor) = program.maps {
        executor.upload(tensor, &maps())?;
    }
    let tokens = inputs.size.tokens();
    let ids = indices(11, tokens, program.config.vocab_size as u32);
    let mut targets = indices(12, tokens, program.config.vocab_size as u32);
    targets.iter_mut().step_by(5).for_each(|target| *target = state::IGNORED);
    let mut batch = Batch::new(ids, targets, inputs.size.batch, inputs.size.length);
    batch.set_weight(PASSES * batch.counted());
    feed(executor, inputs, &batch)?;
    let bits = |x: f64| (x as f32).to_bits();
    let mut words = [0; state::STATE_WORDS];
    words[state::STATE_KEY0] = 5;
    words[state::STATE_KEY1] = 6;
    words[state::STATE_INVERSE_SEQUENCES] = bits(1.0 / (PASSES * inputs.size.batch) as f64);
    words[state::STATE_LEARNING_RATE] = bits(1e-3);
    executor.upload_indices(inputs.state, &words)?;
    // A scale other than 1, so that a place that forgets it shows.
    executor.upload(inputs.loss.result, &state::first_result(64.0))
}

fn upload(executor: &mut dyn Executor, weight: &Weight, data: &[f32]) -> Result<()> {
    let row = data.len() / weight.rows;
    weight.spans().try_for_each(|(first, rows, part)| executor.upload(part, &data[first * row..(first + rows) * row]))
}

/// Compares the recordings of `program` step by step, then gradients and updated parameters of the whole.
pub fn check_model(
    gpu: &Arc<Gpu>,
    allowed: &Allowed,
    program: &Program,
    mut values: impl FnMut(&ParamSpec, &mut [f32]) -> Result<()>,
) -> Result<Vec<Finding>> {
    let mut findings = steps(gpu, allowed, program, &mut values)?;
    findings.extend(whole(gpu, allowed, program, &mut values)?);
    Ok(findings)
}

/// Initial values as the default source of weights, but for selection biases, which at zero would decide nothing.
pub fn initial_values(spec: &ParamSpec, values: &mut [f32]) -> Result<()> {
    if spec.trained {
        return start_values(3)(spec, values);
    }
    values.iter_mut().zip(uniform(3, spec.elements())).for_each(|(value, x)| *value = 0.25 * x as f32);
    Ok(())
}

fn steps(
    gpu: &Gpu,
    allowed: &Allowed,
    program: &Program,
    values: &mut impl FnMut(&ParamSpec, &mut [f32]) -> Result<()>,
) -> Result<Vec<Finding>> {
    let mut cpu = CpuExecutor::<f64>::new(&program.tensors, &program.recordings);
    fill(program, &mut cpu, values)?;
    let mut pipelines = Pipelines::default();
    let mut findings = Vec::new();
    for name in [REFRESH, RESET, FIRST_MICRO_STEP, MICRO_STEP, UPDATE] {
        let recording = program.recordings[program.recording(name)].clone();
        for (number, step) in recording.steps.iter().enumerate() {
            let tensor = step.tensors.last().map_or("", |&t| &program.tensors.info(t).name);
            let case = cpu.case(step, format!("{name} step {number}, {tensor}"));
            findings.push(judge(gpu, &mut pipelines, allowed, step.kernel, &case)?);
            cpu.run_step(step);
        }
    }
    Ok(findings)
}

fn whole(
    gpu: &Arc<Gpu>,
    allowed: &Allowed,
    program: &Program,
    values: &mut impl FnMut(&ParamSpec, &mut [f32]) -> Result<()>,
) -> Result<Vec<Finding>> {
    let mut judge = CpuExecutor::<f64>::new(&program.tensors, &program.recordings);
    let mut device = GpuExecutor::new(gpu.clone(), &program.tensors, &program.recordings, allowed)?;
    let tolerance = if program.stored == Dtype::F16 { HALF_TOLERANCE } else { GRADIENT_TOLERANCE };
    fill(program, &mut judge, &mut *values)?;
    fill(program, &mut device, &mut *values)?;
    let mut findings = Vec::new();
    for executor in [&mut judge as &mut dyn Executor, &mut device] {
        executor.run(program.recording(REFRESH))?;
        executor.run(program.recording(RESET))?;
        executor.run(program.recording(FIRST_MICRO_STEP))?;
        (1..PASSES).try_for_each(|_| executor.run(program.recording(MICRO_STEP)))?;
    }
    for moments in &program.moments {
        if let Some(gradient) = program.tensors.gradient_of(moments.parameter) {
            findings.push(compare_l2(&program.tensors, gradient, &judge, &mut device, tolerance)?);
        }
    }
    for executor in [&mut judge as &mut dyn Executor, &mut device] {
        executor.run(program.recording(UPDATE))?;
    }
    for part in program.weights.all.iter().flat_map(|parameter| &parameter.weight.parts) {
        findings.push(compare_l2(&program.tensors, part.1, &judge, &mut device, tolerance)?);
    }
    Ok(findings)
}

/// Relative L2 difference of one tensor, as a finding.
fn compare_l2(
    tensors: &Tensors,
    tensor: crate::graph::Tensor,
    judge: &CpuExecutor<f64>,
    device: &mut GpuExecutor,
    tolerance: f64,
) -> Result<Finding> {
    let expected = judge.get(tensor);
    let found = device.download(tensor)?;
    let square = |x: f64| x * x;
    let error: f64 = expected.iter().zip(&found).map(|(&e, &f)| square(e - f64::from(f))).sum();
    let size: f64 = expected.iter().map(|&e| square(e)).sum();
    let share = (error / size.max(f64::MIN_POSITIVE)).sqrt() / tolerance;
    let what = format!("whole model, {}", tensors.info(tensor).name);
    // A NaN compares false: ask for what passes.
    let outcome = if share <= 1.0 {
        Ok(share)
    } else {
        Err(format!("{what}: relative L2 error {:.3e} over the allowed {tolerance:.0e}", share * tolerance))
    };
    Ok(Finding { what, outcome })
}
