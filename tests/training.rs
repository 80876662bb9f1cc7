//! Training as a whole: what a run must reach, what must stay untouched, and agreement with stored and other runs.

mod common;
#[path = "common/models.rs"]
mod models;
#[path = "common/parity.rs"]
#[expect(dead_code, reason = "only the reading of golden files is needed here")]
mod parity;
#[path = "common/runs.rs"]
mod runs;

use hadal::backend::Device;
use hadal::config::Config;
use hadal::config::model::ModelConfig;
use hadal::config::train::{OptimizerConfig, OptimizerKind, Recompute};
use hadal::data::batch::{Batch, IGNORED};
use hadal::data::preferences::Preferences;
use hadal::graph::Dtype;
use hadal::kernels::case::indices;
use hadal::model::inputs::BatchSize;
use hadal::model::params::{ParamSpec, initial, parameters, start_values};
use hadal::model::program::{EVALUATE, FIRST_MICRO_STEP, MICRO_STEP, Program, ProgramOptions, RESET, UPDATE};
use hadal::reference::model as judge;
use hadal::train::journal::{Journal, read_rows};
use hadal::train::lessons::{Lessons, PairLessons};
use hadal::train::place::Place;
use hadal::train::references::References;
use hadal::train::rows::Row;
use hadal::train::session::Session;
use hadal::train::start::{self, Source};
use hadal::train::trainer::Trainer;
use models::{NO_LIMIT, tiny};
use runs::Start;
use std::path::Path;

#[test]
fn overfit_mode_memorises_its_one_batch() {
    let mut config = runs::config(200);
    config.train.overfit = true;
    (config.train.eval_interval, config.train.checkpoint_interval, config.train.accumulation) = (0, 0, 1);
    config.optimizer.learning_rate = 1e-2;
    let folder = tempfile::tempdir().unwrap();
    let text = runs::text(&config);
    let rows = runs::train(&config, &runs::cpu(), &text, &folder.path().join("run"), Start::Fresh);
    let losses = runs::losses(&rows);
    assert!(losses[0] > 5.0 && losses.len() == 200, "{losses:?}");
    // Rows that begin alike and go on differently cannot be told apart there.
    let floor = ambiguity(&[text.1.train_window(0).unwrap(), text.1.train_window(1).unwrap()]);
    assert!(floor < 0.044 && losses[199] < 0.05, "after 200 updates the loss is {}", losses[199]);
    assert!((0.0..0.005).contains(&(losses[199] - floor)), "the loss is {}, its floor {floor}", losses[199]);
}

#[test]
fn moments_of_8_bits_train_about_as_well_as_those_of_32() {
    let mut config = runs::config(150);
    (config.train.eval_interval, config.train.checkpoint_interval) = (0, 0);
    config.optimizer.learning_rate = 3e-3;
    let (folder, text) = (tempfile::tempdir().unwrap(), runs::text(&config));
    let [whole, coded] = [OptimizerKind::Adamw, OptimizerKind::Adamw8bit].map(|kind| {
        config.optimizer.kind = kind;
        let rows = runs::train(&config, &runs::cpu(), &text, &folder.path().join(format!("{kind:?}")), Start::Fresh);
        let losses = runs::losses(&rows);
        let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
        [mean(&losses[..5]), mean(&losses[130..])]
    });
    assert!(whole[1] < 0.8 * whole[0], "{whole:?}");
    assert!((coded[1] / whole[1] - 1.0).abs() < 0.03, "{coded:?} beside {whole:?}");
    assert_ne!(coded[1], whole[1], "some moments have 8 bits");
}

#[test]
fn rows_say_how_evenly_each_layer_used_its_experts_and_that_nothing_was_dropped() {
    let mut config = runs::config(3);
    config.train.eval_interval = 1; // its resets must not mix with the windows'
    let (folder, text) = (tempfile::tempdir().unwrap(), runs::text(&config));
    let rows = runs::train(&config, &runs::cpu(), &text, &folder.path().join("run"), Start::Fresh);
    let train: Vec<_> =
        rows.iter().filter_map(|row| if let Row::Train(row) = row { Some(row) } else { None }).collect();
    assert_eq!(train.len(), 3);
    for row in train {
        let [load] = &row.expert_load[..] else { panic!("one layer has experts: {row:?}") };
        assert!(load.layer == 1 && load.min < 0.125 && load.max > 0.125 && load.max <= 0.5, "{load:?}");
        assert!(load.entropy > 0.3 && load.entropy < 1.0 && row.dropped == 0, "{row:?}");
        let pairs = load.max * (2 * 2 * 16 * 2) as f64;
        assert_eq!(pairs.fract(), 0.0, "a share of the window's pairs");
    }
    config.model.first_k_dense_replace = config.model.num_hidden_layers;
    let rows = runs::train(&config, &runs::cpu(), &text, &folder.path().join("dense"), Start::Fresh);
    let text = serde_json::to_string(&rows).unwrap();
    assert!(text.contains("grad_norm") && !text.contains("expert_load"), "{text}");
}

/// Mean entropy, in nats, of the next token among windows with the same tokens before it.
fn ambiguity(windows: &[Vec<u32>]) -> f64 {
    let (mut sum, mut targets) = (0.0, 0);
    for window in windows {
        for end in 1..window.len() {
            let alike = |length: usize| windows.iter().filter(|w| w[..length] == window[..length]).count() as f64;
            sum += (alike(end) / alike(end + 1)).ln();
            targets += 1;
        }
    }
    sum / f64::from(targets)
}

#[test]
fn windows_that_part_after_one_token_leave_half_a_bit_each() {
    assert_eq!(ambiguity(&[vec![1, 2, 3], vec![1, 4, 3]]), 0.5 * 2f64.ln());
    assert_eq!(ambiguity(&[vec![1, 2, 3], vec![2, 4, 3]]), 0.0);
}

/// A session for `config` on one row of `ids`, with seeded weights.
fn session(config: &ModelConfig, device: &hadal::backend::Device, length: usize) -> Session {
    let program = models::program(config, NO_LIMIT, 1, length);
    let mut session = Session::new(program, device, None).unwrap();
    session.load(start_values(3)).unwrap();
    session
}

#[test]
fn an_expert_that_no_token_chose_has_a_gradient_of_zeros_and_the_others_have_not() {
    let config = ModelConfig { n_routed_experts: 8, num_hidden_layers: 1, first_k_dense_replace: 0, ..tiny() };
    let (ids, targets) = (vec![3, 11], vec![7, 2]);
    let params = parameters(&config).iter().map(|spec| (spec.name.clone(), initial(spec, 3))).collect();
    let chosen = judge::selections::<f32>(&config, &params, &judge::Batch::of(&ids, 1, 2)).concat().concat();
    let mut batch = Batch::new(ids, targets, 1, 2);
    batch.set_weight(2);
    let mut devices = vec![runs::cpu()];
    devices.extend(common::gpu().map(|gpu| runs::gpu(&gpu)));
    for device in devices {
        let mut session = session(&config, &device, 2);
        session.feed(&batch).unwrap();
        session.run(RESET).unwrap();
        session.run(MICRO_STEP).unwrap();
        for i in 0..session.program.weights.all.len() {
            let name = session.program.weights.all[i].spec.name.clone();
            if !name.contains("mlp.experts.") {
                continue;
            }
            let gradient = session.gradient(i).unwrap();
            for (expert, d) in gradient.chunks(gradient.len() / 8).enumerate() {
                let zeros = d.iter().all(|&x| x == 0.0);
                assert_eq!(zeros, !chosen.contains(&expert), "{name}, expert {expert} of {chosen:?}");
            }
        }
    }
}

#[test]
fn the_untrained_loss_is_that_of_normal_logits() {
    let sigma = 0.1;
    let config = ModelConfig { hidden_size: 64, vocab_size: 512, initializer_range: sigma, ..tiny() };
    let (batches, n) = (8, 256);
    let program = models::program(&config, NO_LIMIT, 16, 16);
    let mut session = Session::new(program, &runs::cpu(), None).unwrap();
    session.load(start_values(3)).unwrap();
    let batch = |i: u64| Batch::new(indices(2 * i, n, 512), indices(2 * i + 1, n, 512), 16, 16);
    let metrics = session.evaluate(&(0..batches).map(batch).collect::<Vec<_>>()).unwrap();
    // Final hidden rows have length sqrt(d), so that logits are normal with variance d sigma^2 = 0.64.
    let variance = 64.0 * sigma * sigma;
    let expected = 512f64.ln() + variance / 2.0;
    // Four standard errors of the mean of 2048 targets' logits; the rows' log-sums vary far less.
    let allowed = 4.0 * (variance / metrics.counted).sqrt();
    assert!((metrics.loss() - expected).abs() < allowed, "{} instead of {expected}", metrics.loss());
    assert!(allowed < variance / 4.0, "the bound tells ln V from the expected loss");
}

/// The optimiser of the stored trajectories.
fn golden_optimizer() -> OptimizerConfig {
    OptimizerConfig { learning_rate: 1e-3, weight_decay: 0.1, clip_norm: 1.0, ..OptimizerConfig::default() }
}

#[test]
fn ten_updates_follow_the_golden_trajectories() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    for name in ["lite", "qlora", "groups", "tied", "router_sigmoid"] {
        let folder = root.join(name);
        if !folder.join("expected.safetensors").is_file() {
            eprintln!("SKIPPED: {} holds no golden files; make them with make_golden.py", folder.display());
            continue;
        }
        let case = parity::Case::read(&folder);
        let (losses, norms) = trajectory(&case);
        // f32 beside float64: roundings of 6e-8, some hundred on the way to a loss; norms hold the square of each.
        assert!(parity::relative(&losses, case.expected("adamw_losses")) < 1e-5, "{name}: {losses:?}");
        assert!(parity::relative(&norms, case.expected("adamw_grad_norms")) < 1e-4, "{name}: {norms:?}");
    }
}

/// Loss before each of ten updates on the case's one batch, and the norm of its gradient.
fn trajectory(case: &parity::Case) -> (Vec<f64>, Vec<f64>) {
    let mut batch = Batch::new(case.ids.clone(), case.targets.clone(), case.batch, case.length);
    batch.set_weight(batch.counted());
    let size = BatchSize { batch: batch.batch, length: batch.length };
    let optimizer = golden_optimizer();
    let config = ModelConfig { aux_loss_alpha: 0.0, ..case.config.clone() }; // transformers has no balance loss
    let options = ProgramOptions {
        size,
        binding_limit: NO_LIMIT,
        optimizer: Some(optimizer.clone()),
        logit_rows: None,
        stored: Dtype::F32,
        recompute: Recompute::None,
    };
    let program = Program::new(&config, &case.specs, &options);
    let mut session = Session::new(program, &runs::cpu(), None).unwrap();
    let fill = |spec: &ParamSpec, values: &mut [f32]| {
        values.iter_mut().zip(&case.params[&spec.name]).for_each(|(value, &x)| *value = x as f32);
        Ok(())
    };
    session.load(fill).unwrap();
    session.feed(&batch).unwrap();
    let update = |_| {
        session.run(RESET).unwrap();
        session.set_learning_rate(optimizer.learning_rate).unwrap();
        session.run(FIRST_MICRO_STEP).unwrap();
        session.run(UPDATE).unwrap();
        let result = session.result().unwrap();
        (session.metrics().unwrap().loss(), f64::from(result[hadal::kernels::state::RESULT_NORM]))
    };
    (1..=10).map(update).unzip()
}

#[test]
fn the_cpu_and_the_adapter_train_alike() {
    let Some(gpu) = common::gpu() else { return };
    let mut config = runs::config(5);
    (config.train.eval_interval, config.train.checkpoint_interval) = (0, 0);
    let (folder, text) = (tempfile::tempdir().unwrap(), runs::text(&config));
    let [cpu, gpu] = [("cpu", runs::cpu()), ("gpu", runs::gpu(&gpu))].map(|(name, device)| {
        runs::losses(&runs::train(&config, &device, &text, &folder.path().join(name), Start::Fresh))
    });
    assert!(cpu.len() == 5 && cpu[4] < cpu[0] - 0.1, "{cpu:?}");
    // Roundings differ, and AdamW's first steps have the size of the learning rate whatever a gradient's size.
    assert!(parity::relative(&gpu, &cpu) < 1e-3, "{gpu:?}\n{cpu:?}");
}

#[test]
fn ignored_targets_and_evaluation_leave_no_gradient() {
    let mut session = session(&tiny(), &runs::cpu(), 4);
    let mut batch = Batch::new(vec![1, 2, 3, 4], vec![IGNORED; 4], 1, 4);
    batch.set_weight(batch.counted());
    session.feed(&batch).unwrap();
    for recording in [RESET, EVALUATE] {
        session.run(recording).unwrap();
    }
    assert_eq!(session.metrics().unwrap(), hadal::train::session::Metrics::default());
    let all = 0..session.program.weights.all.len();
    assert!(all.flat_map(|i| session.gradient(i).unwrap()).all(|g| g == 0.0));
}

#[test]
fn of_pairs_that_nothing_was_learnt_of_the_loss_is_ln_2_and_margins_are_0_on_every_device() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("pairs.jsonl");
    let line = |i: usize| {
        let (better, worse) = ("so ".repeat(i % 3 + 1), i * i);
        format!("{{\"prompt\": \"Why {i}?\", \"chosen\": \"{better}{i}\", \"rejected\": \"no {worse}\"}}\n")
    };
    std::fs::write(&data, (0..20).map(line).collect::<String>()).unwrap();
    let mut devices = vec![runs::cpu()];
    devices.extend(common::gpu().map(|gpu| runs::gpu(&gpu)));
    for (i, device) in devices.iter().enumerate() {
        for kind in ["dpo", "reward"] {
            let config = runs::paired(kind, 2, &data);
            let rows = learn_pairs(&config, device, &folder.path().join(format!("{kind}-{i}")));
            let found: Vec<[f64; 2]> = rows.iter().map(loss_and_margin).collect();
            let [val, first, second, last] = found[..] else { panic!("{rows:?}") };
            for [loss, margin] in [val, first] {
                let off = (loss - std::f64::consts::LN_2).abs();
                assert!(off < 2e-7 && margin == 0.0, "{kind} on {}: {found:?}", device.describe());
            }
            assert!(
                second[1] != 0.0 && last[1] > 0.0 && last[0] < val[0],
                "{kind} on {}: {found:?}",
                device.describe()
            );
        }
    }
}

/// Loss and margin of a row.
fn loss_and_margin(row: &Row) -> [f64; 2] {
    match row {
        Row::Train(row) => [row.loss, row.numbers["rewards/margins"]],
        Row::Val(row) => [row.loss, row.numbers["rewards/margins"]],
    }
}

/// A run that learns from pairs.
fn learn_pairs(config: &Config, device: &Device, run: &Path) -> Vec<Row> {
    let (tokenizer, encoder) = runs::encoder(config);
    let open = if config.dpo.is_some() { Preferences::open } else { Preferences::open_whole };
    let pairs = open(&config.data, 0, encoder, config.train.sequence_length, config.train.seed).unwrap();
    let mut source = runs::Steady { config, device };
    let mut machine = source.machine().unwrap();
    let journal = Journal::create(Place::of(run, false).unwrap(), config).unwrap();
    let state = start::begin(&mut source, config, &mut machine.session).unwrap();
    let known = config.dpo.is_some().then(|| References::make(run, &mut machine.session, &pairs, config).unwrap());
    let lessons = PairLessons { pairs: &pairs, references: known };
    let lessons = Lessons::Pairs(&lessons);
    Trainer::new(config, &mut source, machine, lessons, &tokenizer, journal, state).unwrap().run(false).unwrap();
    read_rows(run).unwrap()
}
