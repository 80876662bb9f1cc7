//! The spike guard in a run: which updates it skips, and that a resumed run remembers the same losses.

use super::runs::{self, Start, Steady};
use hadal::config::Config;
use hadal::kernels::state::HISTORY_LOSSES_KEPT;
use hadal::train::journal::{Journal, read_rows};
use hadal::train::place::Place;
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
    config.schedule.kind = hadal::config::train::ScheduleKind::Constant;
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
