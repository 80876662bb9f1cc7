//! Recomputed activations: the same bits for less memory, and only what backward needs is made again.

mod common;
#[path = "common/models.rs"]
mod models;

use hadal::check::model::{fill, initial_values, small_biased_config, small_config};
use hadal::config::Config;
use hadal::config::model::ModelConfig;
use hadal::config::train::{OptimizerConfig, Recompute};
use hadal::gpu::executor::GpuExecutor;
use hadal::gpu::pipeline::Allowed;
use hadal::graph::run_cpu::CpuExecutor;
use hadal::graph::{Dtype, Executor, Role};
use hadal::model::inputs::BatchSize;
use hadal::model::params::parameters;
use hadal::model::program::{EVALUATE, FIRST_MICRO_STEP, MICRO_STEP, Program, ProgramOptions, REFRESH, RESET};
use models::{NO_LIMIT, SMALL_LIMIT, run};

const POLICIES: [Recompute; 3] = [Recompute::None, Recompute::Ffn, Recompute::Block];

/// Every option that a recording can have, with every kind of dropout and the balance loss.
fn program(recompute: Recompute, binding_limit: u64, stored: Dtype) -> Program {
    of(&small_config(), recompute, binding_limit, stored)
}

fn of(config: &ModelConfig, recompute: Recompute, binding_limit: u64, stored: Dtype) -> Program {
    let (size, optimizer) = (BatchSize { batch: 2, length: 13 }, Some(OptimizerConfig::default()));
    let options = ProgramOptions { size, binding_limit, optimizer, logit_rows: None, stored, recompute };
    Program::new(config, &parameters(config), &options)
}

/// Bits of every gradient and sum after two passes.
fn outcome(program: &Program, executor: &mut dyn Executor) -> Vec<(String, Vec<u32>)> {
    fill(program, executor, initial_values).unwrap();
    run(program, executor, &[REFRESH, RESET, FIRST_MICRO_STEP, MICRO_STEP]);
    let loss = program.inputs.loss;
    let wanted = |tensor, role| role == Role::Gradient || [loss.metrics, loss.losses].contains(&tensor);
    let mut bits = |tensor| executor.download(tensor).unwrap().into_iter().map(f32::to_bits).collect();
    let tensors = program.tensors.iter().filter(|(tensor, info)| wanted(*tensor, info.role));
    tensors.map(|(tensor, info)| (info.name.clone(), bits(tensor))).collect()
}

/// The first tensor in which two outcomes differ.
fn difference(a: &[(String, Vec<u32>)], b: &[(String, Vec<u32>)]) -> Option<String> {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).find(|(a, b)| a != b).map(|(a, _)| a.0.clone())
}

#[test]
fn every_policy_gives_the_same_bits_on_the_cpu() {
    for (config, limit) in
        [(small_config(), NO_LIMIT), (small_config(), SMALL_LIMIT), (small_biased_config(), NO_LIMIT)]
    {
        let outcomes = POLICIES.map(|policy| {
            let program = of(&config, policy, limit, Dtype::F32);
            outcome(&program, &mut CpuExecutor::<f32>::new(&program.tensors, &program.recordings))
        });
        // Parts of the embedding may hold no token of the batch.
        let filled = outcomes[0].iter().filter(|(_, bits)| bits.iter().any(|&b| b != 0)).count();
        assert!(10 * filled > 9 * outcomes[0].len(), "{filled} of {}", outcomes[0].len());
        assert_eq!(difference(&outcomes[0], &outcomes[1]), None, "ffn");
        assert_eq!(difference(&outcomes[0], &outcomes[2]), None, "block");
    }
}

#[test]
fn every_policy_gives_the_same_bits_on_the_adapter_in_f32_and_in_f16() {
    let Some(gpu) = common::gpu() else { return };
    let formats = [Dtype::F32, Dtype::F16].into_iter().filter(|&d| d == Dtype::F32 || gpu.summary.has_f16());
    let cases = formats.flat_map(|stored| [small_config(), small_biased_config()].map(|config| (config, stored)));
    for (config, stored) in cases {
        let outcomes = POLICIES.map(|policy| {
            let program = of(&config, policy, 1024, stored);
            let portable = Allowed::portable();
            outcome(
                &program,
                &mut GpuExecutor::new(gpu.clone(), &program.tensors, &program.recordings, &portable).unwrap(),
            )
        });
        assert_eq!(difference(&outcomes[0], &outcomes[1]), None, "ffn, {stored:?}");
        assert_eq!(difference(&outcomes[0], &outcomes[2]), None, "block, {stored:?}");
    }
}

#[test]
fn a_mask_that_is_not_the_first_one_s_changes_gradients() {
    let outcome = |planted: bool| {
        let mut program = program(Recompute::Block, NO_LIMIT, Dtype::F32);
        let at = program.recording(MICRO_STEP);
        let tensors = &program.tensors;
        let dropped = program.recordings[at]
            .steps
            .iter_mut()
            .filter(|step| step.kernel.stem == "dropout" && tensors.info(step.tensors[2]).name == "dropped");
        let last = dropped.last().expect("residual dropout is made again");
        last.params[8] ^= u8::from(planted); // the lowest bits of the site
        outcome(&program, &mut CpuExecutor::<f32>::new(&program.tensors, &program.recordings))
    };
    assert!(difference(&outcome(false), &outcome(true)).is_some());
}

/// How often each kernel that makes something anew runs in a pass.
fn calls(program: &Program, stem: &str) -> usize {
    program.recordings[program.recording(MICRO_STEP)].steps.iter().filter(|step| step.kernel.stem == stem).count()
}

#[test]
fn choices_and_sums_are_made_once_and_only_what_backward_reads_again() {
    let [none, ffn, block] = POLICIES.map(|policy| program(policy, NO_LIMIT, Dtype::F32));
    let once = ["router", "balance_loss", "expert_count", "expert_scan", "expert_scatter", "expert_load", "loss_sum"];
    for stem in once.into_iter().chain(["embed"]) {
        for other in [&ffn, &block] {
            assert_eq!(calls(other, stem), calls(&none, stem), "{stem}");
        }
    }
    // Of three layers the first is dense, the second has experts, and the last stays. Made again: results of gate
    // and up, dense or shared, never the sum with the residual or the router's logits; all three products of experts,
    // since the gradient of their weights in the sum reads the last; for whole blocks also five products of attention.
    let more = |program: &Program, stem: &str| calls(program, stem) - calls(&none, stem);
    assert_eq!((more(&ffn, "matmul"), more(&block, "matmul")), (2 * 2, 2 * 2 + 2 * 5));
    assert_eq!((more(&ffn, "matmul_experts"), more(&block, "matmul_experts")), (3, 3));
    assert_eq!((more(&ffn, "attention"), more(&block, "attention")), (0, 2));
    assert_eq!((more(&ffn, "rms_norm"), more(&block, "rms_norm")), (2, 2 * 4));
    let steps = |program: &Program| program.recordings[program.recording(EVALUATE)].steps.len();
    assert_eq!(steps(&none), steps(&block), "evaluation has nothing to make again");
}

#[test]
fn each_policy_saves_memory_and_counts_what_it_costs() {
    let mut config = Config::resolve(Some("seed"), &[]).unwrap();
    config.train.micro_batch = 8;
    let model = &config.model;
    let tokens = config.train.micro_batch * config.train.sequence_length;
    let of = |recompute| {
        let size = BatchSize { batch: config.train.micro_batch, length: config.train.sequence_length };
        let optimizer = Some(config.optimizer.clone());
        let (binding_limit, stored) = (2 << 30, Dtype::F16);
        let options = ProgramOptions { size, binding_limit, optimizer, logit_rows: None, stored, recompute };
        let program = Program::new(model, &parameters(model), &options);
        let flops = program.recordings[program.recording(MICRO_STEP)].repeated_flops;
        (program.plan().bytes_of(Role::Activation), flops / tokens as f64)
    };
    let [none, ffn, block] = POLICIES.map(of);
    assert!(10 * ffn.0 < 8 * none.0 && 10 * block.0 < 9 * ffn.0, "{} {} {}", none.0, ffn.0, block.0);
    assert_eq!(of(Recompute::Auto), none);
    assert_eq!(none.1, 0.0);
    // Two operations for each weight that is used again: gate and up of the dense layer, and in two layers those of the
    // shared experts and everything of six routed experts.
    let (d, width, dense) = (1024.0, 1024.0, 4096.0);
    assert_eq!(ffn.1, 2.0 * (2.0 * d * dense + 2.0 * (2.0 * d * 2.0 * width + 6.0 * 3.0 * d * width)));
    // All matrices of attention, then 192 + 128 columns for each of 16 heads and 256.5 keys.
    let attention = d * 16.0 * 192.0 + d * 576.0 + 512.0 * 16.0 * 256.0 + 16.0 * 128.0 * d;
    assert_eq!(block.1 - ffn.1, 3.0 * 2.0 * (attention + 16.0 * 320.0 * 256.5));
}
