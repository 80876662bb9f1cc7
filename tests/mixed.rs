//! Mixed precision on an adapter: storage in f16 beside storage in f32, its reproducibility, its loss scale, its
//! checkpoints.

mod common;
#[path = "common/runs.rs"]
mod runs;

use hadal::backend::Device;
use hadal::config::Config;
use hadal::graph::{Dtype, Role};
use hadal::kernels::state::{
    FIRST_LOSS_SCALE, LARGEST_LOSS_SCALE, RESULT_CLEAN, RESULT_CORRECTION1, RESULT_LOSS_SCALE, RESULT_SKIPPED,
    RESULT_WORDS,
};
use hadal::train::checkpoint::TrainerState;
use hadal::train::rotation::CHECKPOINTS;
use hadal::train::rows::{Row, TrainRow};
use runs::Start;
use std::path::Path;

/// The adapter with f16 storage and portable shaders, or `None` where there is none that has it.
fn device() -> Option<Device> {
    let gpu = common::gpu()?;
    if !gpu.summary.has_f16() {
        eprintln!("SKIPPED: {} has no f16", gpu.summary.name);
        return None;
    }
    Some(runs::mixed(&gpu))
}

/// `steps` updates without validations, and a checkpoint at the end.
fn config(steps: u64) -> Config {
    let mut config = runs::config(steps);
    (config.train.eval_interval, config.train.checkpoint_interval) = (0, 0);
    config.optimizer.learning_rate = 3e-3;
    config
}

fn train_rows(rows: &[Row]) -> Vec<&TrainRow> {
    rows.iter().filter_map(|row| if let Row::Train(row) = row { Some(row) } else { None }).collect()
}

#[test]
fn mixed_precision_trains_like_f32_and_twice_alike() {
    let Some(mixed) = device() else { return };
    let (config, folder) = (config(30), tempfile::tempdir().unwrap());
    let text = runs::text(&config);
    let whole = runs::losses(&runs::train(&config, &runs::cpu(), &text, &folder.path().join("f32"), Start::Fresh));
    let [first, second] = ["first", "second"].map(|name| {
        let run = folder.path().join(name);
        let rows = runs::train(&config, &mixed, &text, &run, Start::Fresh);
        assert!(train_rows(&rows).iter().all(|row| row.loss_scale == f64::from(FIRST_LOSS_SCALE) && row.skipped == 0));
        (runs::losses(&rows), runs::evidence(&run, 30, rows))
    });
    assert_eq!(runs::difference(&first.1, &second.1), None);
    assert!(whole[29] < 0.85 * whole[0], "{whole:?}");
    // Each of some ten roundings on the way to a logit is one of 2^-11, half a thousandth; updates then drift apart.
    for (step, (mixed, whole)) in first.0.iter().zip(&whole).enumerate() {
        let allowed = if step == 0 { 1e-3 } else { 2e-2 };
        assert!((mixed / whole - 1.0).abs() < allowed, "step {step}: {mixed} beside {whole}");
    }
    assert_ne!(first.0, whole, "something is stored as f16");
}

/// The words that stay from update to update, as the checkpoint of `step` has them.
fn state(run: &Path, step: u64) -> [f32; RESULT_WORDS] {
    let file = run.join(CHECKPOINTS).join(format!("step-{step:08}/trainer_state.json"));
    let state: TrainerState = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    state.result.expect("the words are saved")
}

#[test]
fn a_run_resumed_after_skipped_updates_ends_in_the_bits_of_an_uninterrupted_one() {
    let Some(mixed) = device() else { return };
    let mut config = config(6);
    config.train.checkpoint_interval = 2;
    let (folder, text) = (tempfile::tempdir().unwrap(), runs::text(&config));
    let run = |name: &str| folder.path().join(name);
    let first = LARGEST_LOSS_SCALE / 4.0;
    let rows = runs::train(&config, &mixed, &text, &run("whole"), Start::AtScale(first));
    let [after_skipped, between] = [2, 4].map(|step| state(&run("whole"), step));
    assert!(after_skipped[RESULT_SKIPPED] == 2.0 && after_skipped[RESULT_CORRECTION1] == 0.0, "{after_skipped:?}");
    assert!(between[RESULT_LOSS_SCALE] < first && (1.0..4.0).contains(&between[RESULT_SKIPPED]), "{between:?}");
    // Updates that were skipped do not count for the bias corrections.
    let clean = 4 - between[RESULT_SKIPPED] as i32;
    let expected = 1.0 - (config.optimizer.beta1 as f32).powi(clean);
    assert!((between[RESULT_CORRECTION1] - expected).abs() < 1e-6 && between[RESULT_CLEAN] == clean as f32);
    for step in [2, 4] {
        let (rest, middle) = (run(&format!("from {step}")), format!("step-{step:08}"));
        let middle = run("whole").join(CHECKPOINTS).join(middle);
        let resumed = runs::train(&config, &mixed, &text, &rest, Start::From(&middle));
        let later = rows.iter().filter(|row| row.step() > step).cloned().collect();
        let (resumed, whole) = (runs::evidence(&rest, 6, resumed), runs::evidence(&run("whole"), 6, later));
        assert_eq!(runs::difference(&resumed, &whole), None, "from step {step}");
    }
}

#[test]
fn an_overflow_is_skipped_halves_the_loss_scale_and_is_logged() {
    let Some(mixed) = device() else { return };
    let mut config = config(12);
    config.train.overfit = true; // one window, so that losses of skipped updates repeat
    let (folder, text) = (tempfile::tempdir().unwrap(), runs::text(&config));
    let run = folder.path().join("run");
    let rows = runs::train(&config, &mixed, &text, &run, Start::AtScale(LARGEST_LOSS_SCALE));
    let rows = train_rows(&rows);
    let skipped = rows.iter().filter(|row| row.skipped > 0).map(|row| row.skipped).max().unwrap_or(0) as usize;
    assert!((1..6).contains(&skipped), "{skipped} skipped of {rows:?}");
    for (i, row) in rows.iter().enumerate() {
        let halvings = (i + 1).min(skipped);
        assert_eq!(row.skipped, halvings as u64, "{row:?}");
        assert_eq!(row.loss_scale, f64::from(LARGEST_LOSS_SCALE) / f64::from(1 << halvings), "{row:?}");
        assert_eq!(row.grad_norm.is_finite(), i >= skipped, "{row:?}");
        assert_eq!(row.loss == rows[0].loss, i <= skipped, "{row:?}: only updates change the loss");
    }
    assert!(rows[11].loss < rows[0].loss - 0.1, "{rows:?}");
    let log = std::fs::read_to_string(run.join("log.txt")).unwrap();
    assert_eq!(log.matches("a gradient overflowed; update skipped, loss scale now").count(), skipped, "{log}");
}

#[test]
fn f16_takes_little_more_than_half_the_bytes_of_activations() {
    let Some(mixed) = device() else { return };
    assert_eq!((mixed.stored(), runs::cpu().stored()), (Dtype::F16, Dtype::F32));
    let bytes = |device| runs::session(&config(1), device).program.plan().bytes_of(Role::Activation);
    let (half, whole) = (bytes(&mixed), bytes(&runs::cpu()));
    // The residual stream, the router and statistics stay in f32.
    assert!(half * 10 <= whole * 8, "{half} bytes beside {whole}");
}
