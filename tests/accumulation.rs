//! Accumulating micro-batches with unequal numbers of targets gives the gradient of one big batch.

mod common;
#[path = "common/models.rs"]
mod models;

use hadal::backend::Device;
use hadal::config::model::ModelConfig;
use hadal::config::train::LossReduction;
use hadal::data::batch::{Batch, IGNORED};
use hadal::gpu::pipeline::Allowed;
use hadal::graph::run_cpu::{CpuExecutor, CpuReal};
use hadal::graph::{Dtype, Executor};
use hadal::kernels::adamw;
use hadal::kernels::case::indices;
use hadal::kernels::state::METRIC_BALANCE;
use hadal::model::params::start_values;
use hadal::model::program::{FIRST_MICRO_STEP, MICRO_STEP, Program, RESET, UPDATE};
use hadal::train::session::{Metrics, Session, feed};
use hadal::train::window::weigh;
use models::{NO_LIMIT, gradients, program, relative, relative_l2, state_words, tiny};

const PASSES: usize = 3;
const LENGTH: usize = 11;

/// The rows of a window one by one, with 10, 3 and 7 targets, or all in one batch.
fn window(together: bool) -> Vec<Batch> {
    let n = PASSES * LENGTH;
    let (ids, mut targets) = (indices(21, n, 17), indices(22, n, 17));
    for (row, counted) in [10, 3, 7].into_iter().enumerate() {
        targets[row * LENGTH + counted..(row + 1) * LENGTH].fill(IGNORED);
    }
    let part = |ids: &[u32], targets: &[u32]| Batch::new(ids.to_vec(), targets.to_vec(), ids.len() / LENGTH, LENGTH);
    let rows = if together { n } else { LENGTH };
    ids.chunks(rows).zip(targets.chunks(rows)).map(|(ids, targets)| part(ids, targets)).collect()
}

fn program_for(batch: &Batch) -> Program {
    program(&tiny(), NO_LIMIT, batch.batch, batch.length)
}

/// The balance losses, as trained on, of the rows of a window one by one and in one batch.
fn balances(seq_aux: bool) -> [f64; 2] {
    [false, true].map(|together| {
        let window = window(together);
        let program = program(&ModelConfig { seq_aux, ..tiny() }, NO_LIMIT, window[0].batch, LENGTH);
        let mut cpu = CpuExecutor::<f64>::new(&program.tensors, &program.recordings);
        hadal::check::model::fill(&program, &mut cpu, start_values(3)).unwrap();
        cpu.upload_indices(program.inputs.state, &state_words(PASSES)).unwrap();
        for batch in &window {
            feed(&mut cpu, &program.inputs, batch).unwrap();
            cpu.run(program.recording(MICRO_STEP)).unwrap();
        }
        cpu.get(program.inputs.loss.metrics)[METRIC_BALANCE]
    })
}

#[test]
fn a_balance_over_batches_is_the_mean_of_the_micro_batches_and_not_that_of_one_batch() {
    let ([rows, _], [apart, together]) = (balances(true), balances(false));
    // Micro-batches of one row are sequences.
    assert!((apart - rows).abs() < 1e-7, "{apart} {rows}");
    assert!((apart - together).abs() > 1e-3, "{apart} {together}");
}

/// The gradient of a window on the CPU executor in the precision of `F`.
fn on_cpu<F: CpuReal>(together: bool, reduction: LossReduction) -> Vec<f64> {
    let mut window = window(together);
    let program = program_for(&window[0]);
    let mut cpu = CpuExecutor::<F>::new(&program.tensors, &program.recordings);
    hadal::check::model::fill(&program, &mut cpu, start_values(3)).unwrap();
    weigh(&mut window, reduction);
    cpu.upload_indices(program.inputs.state, &state_words(PASSES)).unwrap();
    for batch in &window {
        feed(&mut cpu, &program.inputs, batch).unwrap();
        cpu.run(program.recording(MICRO_STEP)).unwrap();
    }
    gradients(&program, &cpu).concat()
}

/// The gradient and the sums of a window through a session on `device`.
fn on_device(device: &Device, together: bool) -> (Vec<f64>, Metrics) {
    let mut window = window(together);
    weigh(&mut window, LossReduction::Tokens);
    let mut session = Session::new(program_for(&window[0]), device, None).unwrap();
    session.load(start_values(3)).unwrap();
    session.run(RESET).unwrap();
    session.set_sequences(PASSES).unwrap();
    for batch in &window {
        session.feed(batch).unwrap();
        session.run(MICRO_STEP).unwrap();
    }
    let parameters = 0..session.program.weights.all.len();
    let gradient = parameters.flat_map(|i| session.gradient(i).unwrap()).map(f64::from).collect();
    (gradient, session.metrics().unwrap())
}

#[test]
fn three_unequal_micro_batches_have_the_gradient_of_one_batch_in_f64() {
    let [apart, together] = [false, true].map(|t| on_cpu::<f64>(t, LossReduction::Tokens));
    // The same terms, summed in another order; loss weights are f32 on both sides.
    assert!(relative_l2(&apart, &together) <= 1e-12, "{:e}", relative_l2(&apart, &together));
}

#[test]
fn three_unequal_micro_batches_have_the_gradient_of_one_batch_in_f32() {
    let [apart, together] = [false, true].map(|t| on_cpu::<f32>(t, LossReduction::Tokens));
    // Orders of summation differ in some ten roundings of 6e-8 a term, of either sign.
    assert!(relative_l2(&apart, &together) <= 1e-6, "{:e}", relative_l2(&apart, &together));
}

#[test]
fn a_mean_of_means_is_another_gradient() {
    let [tokens, seed] = [LossReduction::Tokens, LossReduction::Seed].map(|r| on_cpu::<f64>(false, r));
    assert!(relative_l2(&seed, &tokens) > 0.01, "{:e}", relative_l2(&seed, &tokens));
    // With one micro-batch the two agree.
    let [tokens, seed] = [LossReduction::Tokens, LossReduction::Seed].map(|r| on_cpu::<f64>(true, r));
    assert_eq!(tokens, seed);
}

#[test]
fn sessions_on_the_cpu_and_on_the_adapter_accumulate_to_the_gradient_of_one_batch() {
    let mut devices = vec![Device::Cpu { note: String::new() }];
    if let Some(gpu) = common::gpu() {
        devices.push(Device::Gpu { gpu, allowed: Allowed::portable(), stored: Dtype::F32, note: String::new() });
    }
    for device in devices {
        let [(apart, sums), (together, whole)] = [false, true].map(|t| on_device(&device, t));
        // As above; a device may sum the tiles of a product in orders of its own.
        assert!(
            relative_l2(&apart, &together) <= 1e-5,
            "{:e} on {}",
            relative_l2(&apart, &together),
            device.describe()
        );
        assert_eq!((sums.counted, sums.correct), (whole.counted, whole.correct));
        let (found, expected) = ([sums.loss_sum, sums.balance], [whole.loss_sum, whole.balance]);
        assert!(relative(&found[..1], &expected[..1]) < 1e-6 && relative(&found[1..], &expected[1..]) < 1e-6);
        assert!(whole.balance > 0.1, "the balance loss is part of this");
    }
}

/// What windows of `passes` micro-batches each leave behind: the losses of every window, then all parameters. With
/// `cleared`, gradients are zeroed before each window, and every micro-step adds to them.
fn updates(program: Program, device: &Device, passes: usize, cleared: bool) -> (Vec<f64>, Vec<f32>) {
    let mut session = Session::new(program, device, None).unwrap();
    session.load(start_values(3)).unwrap();
    session.set_sequences(passes).unwrap();
    session.set_learning_rate(1e-2).unwrap();
    let losses = (0..4).map(|step| {
        session.run(RESET).unwrap();
        let gradients = session.program.moments.iter().filter_map(|m| session.program.tensors.gradient_of(m.parameter));
        for gradient in gradients.filter(|_| cleared).collect::<Vec<_>>() {
            let zeros = vec![0.0; session.program.tensors.elements(gradient)];
            session.executor().upload(gradient, &zeros).unwrap();
        }
        for pass in 0..passes {
            // Few tokens and others in every window: experts and rows of the embedding go without for a while.
            let seed = (step * passes + pass) as u64;
            let mut batch = Batch::new(indices(31 + 2 * seed, 3, 17), indices(32 + 2 * seed, 3, 17), 1, 3);
            batch.set_weight(3 * passes);
            session.feed(&batch).unwrap();
            session.run(if pass == 0 && !cleared { FIRST_MICRO_STEP } else { MICRO_STEP }).unwrap();
        }
        session.run(UPDATE).unwrap();
        session.metrics().unwrap().loss()
    });
    let losses = losses.collect();
    let parameters = 0..session.program.weights.all.len();
    (losses, parameters.flat_map(|i| session.parameter(i).unwrap()).collect())
}

#[test]
fn nothing_is_left_of_a_gradient_after_its_update() {
    let config = ModelConfig { n_routed_experts: 8, ..tiny() };
    let mut devices = vec![Device::Cpu { note: String::new() }];
    if let Some(gpu) = common::gpu() {
        devices.push(Device::Gpu { gpu, allowed: Allowed::portable(), stored: Dtype::F32, note: String::new() });
    }
    for passes in [1, 2] {
        let mut of_devices = Vec::new();
        for device in &devices {
            let of = |program: Program, cleared: bool| updates(program, device, passes, cleared);
            let plain = || program(&config, NO_LIMIT, 1, 3);
            let (usual, cleared) = (of(plain(), false), of(plain(), true));
            assert!(usual == cleared, "{passes} micro-steps on {}", device.describe());
            // Left unzeroed, a gradient that is only added to shows.
            for name in ["model.embed_tokens.weight", "model.norm.weight"] {
                let mut program = plain();
                let part = program.weights.get(name).parts[0].1;
                let gradient = program.tensors.gradient_of(part).unwrap();
                let update = program.recording(UPDATE);
                let steps = program.recordings[update].steps.iter_mut();
                let step = steps.filter(|s| s.kernel.stem == "adamw").find(|s| s.tensors[3] == gradient).unwrap();
                let p: adamw::Params = bytemuck::pod_read_unaligned(&step.params);
                assert_eq!(p.zeroed, 1, "{name}");
                step.params = bytemuck::bytes_of(&adamw::Params { zeroed: 0, ..p }).to_vec();
                assert!(of(program, false) != usual, "{name} on {}", device.describe());
            }
            of_devices.push(usual.0);
        }
        // Roundings differ, and AdamW's first steps have the size of the learning rate whatever a gradient's size.
        assert!(of_devices.iter().all(|losses| relative(losses, &of_devices[0]) < 1e-3), "{of_devices:?}");
    }
}
