//! The same run twice gives the same bits: of parameters, moments and metrics, in one piece or resumed.

mod common;
#[path = "common/models.rs"]
mod models;
#[path = "common/runs.rs"]
mod runs;

use hadal::backend::Device;
use hadal::check::model::{fill, initial_values};
use hadal::config::Config;
use hadal::config::model::{ModelConfig, ScoringFunc, TopkMethod};
use hadal::config::train::OptimizerKind;
use hadal::graph::Executor;
use hadal::graph::run_cpu::CpuExecutor;
use hadal::model::params::start_values;
use hadal::model::program::{FIRST_MICRO_STEP, MICRO_STEP, RESET, UPDATE};
use hadal::train::checkpoint::TrainerState;
use hadal::train::moments::MomentValues;
use hadal::train::rotation::CHECKPOINTS;
use hadal::train::session::Session;
use models::{Fixture, NO_LIMIT, tiny};
use runs::Start;

/// Four updates with every kind of dropout, whose masks follow from seed and step.
fn config() -> Config {
    let mut config = runs::config(4);
    for rate in [&mut config.model.attention_dropout, &mut config.model.embed_dropout, &mut config.model.resid_dropout]
    {
        *rate = 0.1;
    }
    config
}

/// The same with moments of 8 bits, which have some parameters that are large enough.
fn config_of_8_bits() -> Config {
    let mut config = config();
    config.optimizer.kind = OptimizerKind::Adamw8bit;
    config.optimizer.block_size = 64;
    config
}

/// The same with sigmoid scores and selection biases that move.
fn config_of_biases() -> Config {
    let mut config = config();
    let model = &mut config.model;
    (model.scoring_func, model.topk_method, model.norm_topk_prob) = (ScoringFunc::Sigmoid, TopkMethod::NoauxTc, true);
    model.bias_update_speed = 0.03;
    config
}

#[test]
fn the_same_run_with_selection_biases_twice_leaves_the_same_bits_on_the_cpu_and_on_the_adapter() {
    leaves_the_same_bits_twice(config_of_biases());
}

#[test]
fn a_run_with_selection_biases_resumed_at_its_second_update_ends_in_the_bits_of_an_uninterrupted_one() {
    resumes_exactly(config_of_biases());
}

#[test]
fn the_same_run_twice_leaves_the_same_bits_on_the_cpu_and_on_the_adapter() {
    leaves_the_same_bits_twice(config());
}

#[test]
fn the_same_run_of_8_bit_moments_twice_leaves_the_same_bits_on_the_cpu_and_on_the_adapter() {
    leaves_the_same_bits_twice(config_of_8_bits());
}

fn leaves_the_same_bits_twice(config: Config) {
    let folder = tempfile::tempdir().unwrap();
    let text = runs::text(&config);
    let mut devices = vec![runs::cpu()];
    devices.extend(common::gpu().map(|gpu| runs::gpu(&gpu)));
    for (i, device) in devices.iter().enumerate() {
        let again = |name: String| {
            let run = folder.path().join(name);
            let rows = runs::train(&config, device, &text, &run, Start::Fresh);
            assert_eq!(rows.len(), 4 + 3, "four updates, and validations before, in between and after");
            runs::evidence(&run, 4, rows)
        };
        let [first, second] = ["first", "second"].map(|name| again(format!("{name}-{i}")));
        assert_eq!(runs::difference(&first, &second), None, "on {}", device.describe());
    }
}

#[test]
fn another_seed_leaves_other_bits() {
    let (config, folder) = (config(), tempfile::tempdir().unwrap());
    let text = runs::text(&config);
    let mut other = config.clone();
    other.train.seed += 1;
    let of = |config: &Config, name: &str| {
        let run = folder.path().join(name);
        let rows = runs::train(config, &runs::cpu(), &text, &run, Start::Fresh);
        runs::evidence(&run, 4, rows)
    };
    let (first, second) = (of(&config, "first"), of(&other, "second"));
    assert_eq!(runs::difference(&first, &second).as_deref(), Some("model.safetensors"));
}

#[test]
fn a_run_resumed_at_its_second_update_ends_in_the_bits_of_an_uninterrupted_one() {
    resumes_exactly(config());
}

#[test]
fn a_run_of_8_bit_moments_resumed_at_its_second_update_ends_in_the_bits_of_an_uninterrupted_one() {
    resumes_exactly(config_of_8_bits());
}

fn resumes_exactly(config: Config) {
    let folder = tempfile::tempdir().unwrap();
    let text = runs::text(&config);
    let [whole, rest] = ["whole", "rest"].map(|name| folder.path().join(name));
    let mut rows = runs::train(&config, &runs::cpu(), &text, &whole, Start::Fresh);
    let middle = whole.join(CHECKPOINTS).join("step-00000002");
    let resumed = runs::train(&config, &runs::cpu(), &text, &rest, Start::From(&middle));
    rows.retain(|row| row.step() > 2);
    assert_eq!(runs::difference(&runs::evidence(&rest, 4, resumed), &runs::evidence(&whole, 4, rows)), None);
}

/// Bits of all parameters, their moments and the sums, after each of two windows of two passes.
fn two_windows(session: &mut Session, fresh: Option<&mut Session>) -> Vec<u32> {
    window(session, 0);
    let mut bits = bits_of(session);
    match fresh {
        None => {
            window(session, 1);
            bits.extend(bits_of(session));
        }
        Some(fresh) => {
            for i in 0..session.program.weights.all.len() {
                fresh.load_parameter(i, &session.parameter(i).unwrap()).unwrap();
                fresh.load_moments(i, &session.moments(i).unwrap()).unwrap();
            }
            fresh.load_result(&session.result().unwrap()).unwrap();
            window(fresh, 1);
            bits.extend(bits_of(fresh));
        }
    }
    bits
}

fn window(session: &mut Session, step: u64) {
    let mut batch = Fixture::new("window", tiny(), NO_LIMIT).batch;
    batch.set_weight(2 * batch.counted());
    session.run(RESET).unwrap();
    session.set_sequences(2 * batch.batch).unwrap();
    session.set_learning_rate(1e-2).unwrap();
    session.feed(&batch).unwrap();
    for pass in 0..2 {
        session.set_keys(7, step, pass).unwrap();
        session.run(if pass == 0 { FIRST_MICRO_STEP } else { MICRO_STEP }).unwrap();
    }
    session.run(UPDATE).unwrap();
}

fn bits_of(session: &mut Session) -> Vec<u32> {
    let mut all = session.read(session.program.inputs.loss.metrics).unwrap();
    for i in 0..session.program.weights.all.len() {
        all.extend(session.parameter(i).unwrap());
        let MomentValues::Whole(moments) = session.moments(i).unwrap() else { panic!("of 32 bits") };
        all.extend(moments.concat());
    }
    all.into_iter().map(f32::to_bits).collect()
}

fn dropping() -> ModelConfig {
    ModelConfig { attention_dropout: 0.25, resid_dropout: 0.25, ..tiny() }
}

#[test]
fn replaying_a_recording_gives_the_bits_of_recording_it_afresh() {
    let mut devices = vec![runs::cpu()];
    devices.extend(common::gpu().map(|gpu| runs::gpu(&gpu)));
    for device in &devices {
        let session = || -> Session {
            let program = Fixture::new("replay", dropping(), NO_LIMIT).program();
            let mut session = Session::new(program, device as &Device, None).unwrap();
            session.load(start_values(3)).unwrap();
            session
        };
        let replayed = two_windows(&mut session(), None);
        let afresh = two_windows(&mut session(), Some(&mut session()));
        assert!(replayed == afresh, "on {}", device.describe());
        let half = replayed.len() / 2;
        assert!(replayed[..half] != replayed[half..], "the second window changes something");
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    // Wide and long enough that loops over rows, heads and elements are cut into several tasks.
    let config = ModelConfig { vocab_size: 700, hidden_size: 96, intermediate_size: 300, ..dropping() };
    let outcome = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let program = models::program(&config, NO_LIMIT, 4, 16);
            let mut cpu = CpuExecutor::<f32>::new(&program.tensors, &program.recordings);
            fill(&program, &mut cpu, initial_values).unwrap();
            for recording in [RESET, MICRO_STEP, MICRO_STEP, UPDATE] {
                cpu.run(program.recording(recording)).unwrap();
            }
            let values = program.tensors.iter().filter(|(_, info)| info.role != hadal::graph::Role::Activation);
            let floats = values.filter(|(_, info)| info.dtype == hadal::graph::Dtype::F32);
            floats.flat_map(|(tensor, _)| cpu.get(tensor).iter().map(|x| x.to_bits())).collect::<Vec<u32>>()
        })
    };
    let one = outcome(1);
    assert!(one.len() > 400_000, "{} numbers", one.len());
    assert!(one == outcome(3));
}

#[test]
fn the_best_loss_survives_the_text_of_a_checkpoint_bit_for_bit() {
    for (i, sum) in hadal::kernels::case::uniform(9, 5000).into_iter().enumerate() {
        let loss = (5.0 + sum) / (64.0 + i as f64);
        let text = serde_json::to_string_pretty(&TrainerState { best_val_loss: Some(loss), ..start() }).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        let state: TrainerState = serde_json::from_value(value).unwrap();
        assert_eq!(state.best_val_loss.map(f64::to_bits), Some(loss.to_bits()), "{loss}");
    }
}

fn start() -> TrainerState {
    TrainerState::first(1)
}
