//! The spike guard in a run: which updates it skips, and that a resumed run remembers the same losses.

use super::runs::{self, Start, Steady};
use super::{drawn, pairs};
use hadal::config::Config;
use hadal::kernels::state::{HISTORY_COUNT, HISTORY_LOSSES, HISTORY_LOSSES_KEPT};
use hadal::train::checkpoint::TrainerState;
use hadal::train::journal::{Journal, read_rows};
use hadal::train::place::Place;
use hadal::train::rotation::CHECKPOINTS;
use hadal::train::rows::{Row, TrainRow};
use hadal::train::start::{self, Source};
use hadal::train::trainer::Trainer;
use std::path::Path;

/// Losses of so small batches scatter: at one standard deviation, many are spikes.
fn config(steps: u64) -> Config {
    let mut config = runs::config(steps);
    config.train.spike_guard = 1.0;
    config.optimizer.learning_rate = 1e-6; // the losses scatter and do not fall
    (config.train.micro_batch, config.train.accumulation) = (1, 1);
    (config.train.eval_interval, config.train.checkpoint_interval) = (0, 70);
    config.schedule.kind = hadal::config::schedule::ScheduleKind::Constant;
    config
}

fn updates(rows: Vec<Row>) -> Vec<TrainRow> {
    rows.into_iter().filter_map(|row| if let Row::Train(row) = row { Some(row) } else { None }).collect()
}

fn go_on(config: &Config, run: &Path) {
    let (text, device) = (runs::text(config), runs::cpu());
    let mut source = Steady { config, device: &device };
    let mut machine = source.machine().unwrap();
    let mut journal = Journal::create(Place::of(run, true).unwrap(), config).unwrap();
    let state = start::resume(&mut source, config, &mut machine.session, &mut journal, &mut |_| ()).unwrap();
    Trainer::new(config, &mut source, machine, &text.1, &text.0, journal, state).unwrap().run(false).unwrap();
}

#[test]
fn updates_whose_loss_is_a_spike_are_skipped_and_a_resumed_run_skips_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let [whole, parts] = ["whole", "parts"].map(|name| folder.path().join(name));
    let config = config(170);
    let text = runs::text(&config);
    let rows = runs::train(&config, &runs::cpu(), &text, &whole, Start::Fresh);
    let found = updates(rows.clone());
    let mut spikes = 0;
    for (i, row) in found.iter().enumerate() {
        let last = &found[i.saturating_sub(HISTORY_LOSSES_KEPT)..i];
        let n = last.len() as f64;
        let mean = last.iter().map(|row| row.loss).sum::<f64>() / n;
        let deviation = (last.iter().map(|row| (row.loss - mean).powi(2)).sum::<f64>() / n).sqrt();
        let above = (row.loss - mean) / deviation;
        let skipped = row.skipped - if i > 0 { found[i - 1].skipped } else { 0 };
        let known = last.len() == HISTORY_LOSSES_KEPT;
        assert!(
            !known || (above - 1.0).abs() > 1e-3,
            "update {i} is at the threshold, where rounding decides: choose another"
        );
        assert_eq!(skipped, u64::from(known && above > 1.0), "update {i}: {above}");
        spikes += skipped;
    }
    let log = std::fs::read_to_string(whole.join("log.txt")).unwrap();
    assert_eq!(log.matches("standard deviations above the last 128; the update was skipped").count() as u64, spikes);
    assert!(spikes > 0 && found.len() == 170, "{spikes}");
    // In two parts, cut among the spikes.
    let mut first = config.clone();
    first.train.steps = 150;
    runs::train(&first, &runs::cpu(), &text, &parts, Start::Fresh);
    go_on(&config, &parts);
    let evidence = |run: &Path, rows| runs::evidence(run, 170, rows);
    let train_only = |rows: Vec<Row>| updates(rows).into_iter().map(Row::Train).collect::<Vec<_>>();
    let again = train_only(read_rows(&parts).unwrap());
    assert_eq!(runs::difference(&evidence(&parts, again), &evidence(&whole, train_only(rows))), None);
}

/// What a checkpoint says besides weights.
fn state(run: &Path, step: u64) -> TrainerState {
    let path = run.join(CHECKPOINTS).join(format!("step-{step:08}/trainer_state.json"));
    TrainerState::parse(&path, &std::fs::read(&path).unwrap()).unwrap()
}

#[test]
fn the_guard_watches_the_loss_that_the_stage_lowers() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("pairs.jsonl");
    let line = |i: usize| format!(r#"{{"prompt": "Why {i}?", "chosen": "so {i}", "rejected": "no {}"}}"#, i * i) + "\n";
    std::fs::write(&data, (0..20).map(line).collect::<String>()).unwrap();
    for kind in ["pretrain", "reward", "dpo", "grpo", "ppo"] {
        let run = folder.path().join(kind);
        let mut config = match kind {
            "pretrain" => runs::config(4),
            "reward" | "dpo" => runs::paired(kind, 4, &data),
            _ => drawn::config(kind),
        };
        (config.train.steps, config.train.spike_guard) = (4, 3.0);
        (config.train.eval_interval, config.train.checkpoint_interval) = (0, 4);
        let device = runs::cpu();
        let mut source = Steady { config: &config, device: &device };
        if kind == "pretrain" {
            runs::train(&config, &device, &runs::text(&config), &run, Start::Fresh);
        } else {
            let train = if ["grpo", "ppo"].contains(&kind) { drawn::train } else { pairs::train };
            train(&config, &mut source, &run, &|| ()).unwrap();
        }
        let losses: Vec<f64> = updates(read_rows(&run).unwrap()).iter().map(|row| row.loss).collect();
        let history = state(&run, 4).history.unwrap();
        assert_eq!((losses.len(), history[HISTORY_COUNT]), (4, 4.0), "{kind}");
        assert!(losses.iter().any(|loss| *loss != losses[0]), "{kind}: {losses:?}");
        for (loss, kept) in losses.iter().zip(&history[HISTORY_LOSSES..]) {
            assert!((loss - f64::from(*kept)).abs() <= 1e-6 * loss.abs().max(0.1), "{kind}: {losses:?} {history:?}");
        }
    }
}

#[test]
fn a_validation_loss_that_is_no_number_is_never_the_best() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = runs::config(4);
    (config.optimizer.learning_rate, config.optimizer.weight_decay) = (1e9, 0.0);
    config.schedule.kind = hadal::config::schedule::ScheduleKind::Constant;
    (config.schedule.warmup_steps, config.train.non_finite_limit) = (hadal::config::schedule::Warmup::Steps(0), 1000);
    let rows = runs::train(&config, &runs::cpu(), &runs::text(&config), &folder.path().join("run"), Start::Fresh);
    let val = |row: &Row| if let Row::Val(row) = row { Some(row.loss) } else { None };
    assert!(rows.iter().filter_map(val).any(f64::is_nan), "{rows:?}");
    let run = folder.path().join("run");
    assert_eq!(state(&run, 4).best_val_loss.filter(|loss| !loss.is_finite()), None);
    assert!(!run.join(CHECKPOINTS).join("best").exists());
}
