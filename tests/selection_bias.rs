//! DeepSeek-V3's balancing without a loss: what selection biases do over windows and updates.

#[path = "common/models.rs"]
mod models;
#[path = "common/runs.rs"]
mod runs;

use hadal::check::model::{fill, initial_values};
use hadal::config::model::{ModelConfig, ScoringFunc, TopkMethod};
use hadal::data::batch::Batch;
use hadal::graph::Executor;
use hadal::graph::run_cpu::CpuExecutor;
use hadal::kernels::case::indices;
use hadal::kernels::state::RESULT_FINITE;
use hadal::model::moe::bias_name;
use hadal::model::params::{ParamSpec, start_values};
use hadal::model::program::{FIRST_MICRO_STEP, MICRO_STEP, RESET, UPDATE};
use hadal::train::session::{Session, feed};
use hadal::train::window::{weigh, window};
use models::{NO_LIMIT, biased, program, relative_l2, state_words, tiny};

const ROWS: usize = 8;
const LENGTH: usize = 11;

/// Loads and biases of all layers after one update, by `rows` rows a micro-batch.
fn after_an_update(rows: usize) -> [Vec<f64>; 2] {
    let config = ModelConfig { num_hidden_layers: 3, ..biased(tiny()) };
    let program = program(&config, NO_LIMIT, rows, LENGTH);
    let mut cpu = CpuExecutor::<f64>::new(&program.tensors, &program.recordings);
    fill(&program, &mut cpu, initial_values).unwrap();
    cpu.upload_indices(program.inputs.state, &state_words(ROWS)).unwrap();
    cpu.run(program.recording(RESET)).unwrap();
    let (ids, targets) = (indices(21, ROWS * LENGTH, 17), indices(22, ROWS * LENGTH, 17));
    let parts = ids.chunks(rows * LENGTH).zip(targets.chunks(rows * LENGTH));
    for (pass, (ids, targets)) in parts.enumerate() {
        let mut batch = Batch::new(ids.to_vec(), targets.to_vec(), rows, LENGTH);
        batch.set_weight(ROWS * LENGTH);
        feed(&mut cpu, &program.inputs, &batch).unwrap();
        cpu.run(program.recording(if pass == 0 { FIRST_MICRO_STEP } else { MICRO_STEP })).unwrap();
    }
    cpu.run(program.recording(UPDATE)).unwrap();
    let loads = cpu.get(program.inputs.expert_loads.unwrap()).to_vec();
    let biases = [1, 2].map(|layer| cpu.get(program.weights.vector(&bias_name(layer))).to_vec());
    [loads, biases.concat()]
}

#[test]
fn a_window_of_eight_micro_batches_moves_biases_as_one_of_eight_rows_does() {
    let [apart, together] = [1, ROWS].map(after_an_update);
    assert_eq!(apart, together);
    let [loads, biases] = together;
    let mut before = [0.0; 8];
    initial_values(&bias_of(&biased(tiny())), &mut before).unwrap();
    let mean = (ROWS * LENGTH * 2) as f64 / 8.0;
    for (layer, (loads, biases)) in loads.chunks(8).zip(biases.chunks(8)).enumerate() {
        assert_eq!(loads.iter().sum::<f64>(), 8.0 * mean, "layer {layer}");
        for ((load, bias), before) in loads.iter().zip(biases).zip(before) {
            let expected = if *load == mean { 0.0 } else { (mean - load).signum() };
            let moved = bias - f64::from(before);
            assert!((moved - 0.001 * expected).abs() < 1e-9, "layer {layer}: {load} pairs of {mean} moved it {moved}");
        }
        assert!(loads.iter().any(|&load| load > mean) && loads.iter().any(|&load| load < mean), "{loads:?}");
    }
}

fn bias_of(config: &ModelConfig) -> ParamSpec {
    hadal::model::params::parameters(config).into_iter().find(|spec| !spec.trained).unwrap()
}

#[test]
fn a_skipped_update_leaves_the_biases_as_they_are() {
    for broken in [false, true] {
        let program = program(&biased(tiny()), NO_LIMIT, 2, 7);
        let mut cpu = CpuExecutor::<f32>::new(&program.tensors, &program.recordings);
        fill(&program, &mut cpu, initial_values).unwrap();
        if broken {
            let norm = program.weights.vector("model.norm.weight");
            cpu.upload(norm, &[f32::NAN; 16]).unwrap();
        }
        let bias = program.weights.vector(&bias_name(1));
        let before = cpu.get(bias).to_vec();
        for name in [RESET, FIRST_MICRO_STEP, UPDATE] {
            cpu.run(program.recording(name)).unwrap();
        }
        assert_eq!(cpu.get(program.inputs.loss.result)[RESULT_FINITE], if broken { 0.0 } else { 1.0 });
        assert!(cpu.get(program.inputs.expert_loads.unwrap()).iter().any(|&load| load > 0.0));
        assert_eq!(cpu.get(bias) == before, broken);
    }
}

/// The largest load over the mean, averaged over the last 20 of 100 updates of a router that begins uneven.
fn overload(speed: f64) -> f64 {
    let mut config = runs::config(100);
    let model = &mut config.model;
    (model.scoring_func, model.topk_method) = (ScoringFunc::Sigmoid, TopkMethod::NoauxTc);
    (model.norm_topk_prob, model.aux_loss_alpha, model.bias_update_speed) = (true, 0.0, speed);
    let (_, dataset) = runs::text(&config);
    let mut session: Session = runs::session(&config, &runs::cpu());
    let uneven = |spec: &ParamSpec, values: &mut [f32]| {
        let scale = if spec.name.ends_with("mlp.gate.weight") { 20.0 } else { 1.0 };
        start_values(3)(spec, values)?;
        values.iter_mut().for_each(|x| *x *= scale);
        Ok(())
    };
    session.load(uneven).unwrap();
    session.set_learning_rate(1e-3).unwrap();
    let loads = session.program.inputs.expert_loads.unwrap();
    let of_update = |step: u64| {
        let mut window = window(&config, &dataset, step).unwrap();
        weigh(&mut window, config.train.loss_reduction);
        session.run(RESET).unwrap();
        session.set_sequences(config.train.micro_batch * window.len()).unwrap();
        for (i, micro) in window.iter().enumerate() {
            session.feed(micro).unwrap();
            session.run(if i == 0 { FIRST_MICRO_STEP } else { MICRO_STEP }).unwrap();
        }
        session.run(UPDATE).unwrap();
        let loads = session.read(loads).unwrap();
        let mean = loads.iter().sum::<f32>() / loads.len() as f32;
        f64::from(loads.iter().fold(0.0f32, |m, &load| m.max(load)) / mean)
    };
    (0..100).map(of_update).skip(80).sum::<f64>() / 20.0
}

#[test]
fn loads_become_even_by_the_biases_alone() {
    let [without, with] = [0.0, 0.02].map(overload);
    println!("the largest load is {without:.2} of the mean without biases and {with:.2} with them");
    assert!(with < 1.75 && with < 1.0 + 0.6 * (without - 1.0), "{with} of the mean, {without} without");
}

#[test]
fn biases_change_what_is_selected_and_weights_are_made_without_them() {
    let config = ModelConfig { n_group: 1, topk_group: 1, first_k_dense_replace: 0, ..biased(tiny()) };
    let logits = |bias: f32| {
        let program = program(&config, NO_LIMIT, 2, 7);
        let mut cpu = CpuExecutor::<f64>::new(&program.tensors, &program.recordings);
        fill(&program, &mut cpu, initial_values).unwrap();
        for layer in 0..2 {
            cpu.upload(program.weights.vector(&bias_name(layer)), &[0.0, 0.0, bias, bias, 0.0, 0.0, 0.0, 0.0]).unwrap();
        }
        cpu.run(program.recording(RESET)).unwrap();
        cpu.run(program.recording(MICRO_STEP)).unwrap();
        let loads = cpu.get(program.inputs.expert_loads.unwrap()).to_vec();
        (loads, cpu.get(program.inputs.loss.losses).to_vec())
    };
    let (free, (two, ten)) = (logits(0.0), (logits(2.0), logits(10.0)));
    assert_eq!(two.0, [[0.0, 0.0, 14.0, 14.0, 0.0, 0.0, 0.0, 0.0]; 2].concat());
    assert_ne!(free.0, two.0);
    // The same experts: a larger bias changes nothing more.
    assert!(relative_l2(&two.1, &ten.1) < 1e-14 && relative_l2(&free.1, &two.1) > 1e-3);
}

/// Loads and biases after an update of two rows of which the second ends in five places of padding with these tokens.
fn beside_padding(tokens: [u32; 5]) -> [Vec<f64>; 2] {
    let program = program(&biased(tiny()), NO_LIMIT, 2, LENGTH);
    let mut cpu = CpuExecutor::<f64>::new(&program.tensors, &program.recordings);
    fill(&program, &mut cpu, initial_values).unwrap();
    cpu.upload_indices(program.inputs.state, &state_words(2)).unwrap();
    cpu.run(program.recording(RESET)).unwrap();
    let mut ids = indices(21, 2 * LENGTH, 17);
    ids[2 * LENGTH - 5..].copy_from_slice(&tokens);
    let mut batch = Batch::new(ids, indices(22, 2 * LENGTH, 17), 2, LENGTH);
    for place in 2 * LENGTH - 5..2 * LENGTH {
        (batch.real[place], batch.targets[place]) = (0, hadal::data::batch::IGNORED);
        batch.document_start[place] = (place - LENGTH) as u32;
    }
    batch.set_weight(batch.counted());
    feed(&mut cpu, &program.inputs, &batch).unwrap();
    cpu.run(program.recording(FIRST_MICRO_STEP)).unwrap();
    cpu.run(program.recording(UPDATE)).unwrap();
    let loads = cpu.get(program.inputs.expert_loads.unwrap()).to_vec();
    [loads, cpu.get(program.weights.vector(&bias_name(1))).to_vec()]
}

#[test]
fn padding_counts_in_no_load_and_moves_no_bias() {
    let [zeros, others] = [[0; 5], [9, 3, 16, 3, 1]].map(beside_padding);
    assert_eq!(zeros, others);
    assert_eq!(zeros[0].iter().sum::<f64>(), ((2 * LENGTH - 5) * 2) as f64);
    // That biases do move is seen where the text is another.
    assert!(zeros[1].iter().any(|bias| *bias != 0.0));
}

#[test]
fn stages_that_learn_preferences_keep_the_biases() {
    let moves = |config: &hadal::config::Config| {
        let mut config = config.clone();
        (config.model.scoring_func, config.model.topk_method) = (ScoringFunc::Sigmoid, TopkMethod::NoauxTc);
        let program = runs::program(&config, &runs::cpu());
        let update = &program.recordings[program.recording(UPDATE)];
        update.steps.iter().filter(|step| step.kernel.stem == "expert_bias").count()
    };
    assert!(moves(&runs::config(1)) > 0);
    let pairs = ["reward", "dpo"].map(|kind| runs::paired(kind, 1, std::path::Path::new("pairs.jsonl")));
    let drawn = ["grpo", "ppo"].map(|kind| runs::drawing(kind, 1));
    for config in pairs.iter().chain(&drawn) {
        assert_eq!(moves(config), 0, "{:?}", config.kind());
    }
}
