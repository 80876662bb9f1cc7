//! The same amid a batch of answers that the run drew itself: what was drawn is not drawn again, and learnt from as if
//! nothing had happened.

use super::poison::Sick;
use super::runs::{self, School};
use super::{devices, lost};
use hadal::backend::Device;
use hadal::config::Config;
use hadal::config::schedule::{ScheduleKind, Warmup};
use hadal::config::train::OnNonFinite;
use hadal::error::Result;
use hadal::train::journal::{Journal, read_rows};
use hadal::train::lessons::Lessons;
use hadal::train::place::Place;
use hadal::train::rows::{Row, TrainRow};
use hadal::train::start::{self, Source};
use hadal::train::trainer::{Outcome, Trainer};
use std::path::Path;

/// Two batches of four updates.
const STEPS: u64 = 8;

pub fn config(kind: &str) -> Config {
    let mut config = runs::drawing(kind, STEPS);
    (config.train.eval_interval, config.train.checkpoint_interval) = (0, 3);
    if let Some(grpo) = &mut config.grpo {
        grpo.beta = 0.1;
    }
    config
}

/// Trains in `run`, or goes on there, on the machines of `source`; calls `begun` when the trainer takes over.
pub fn train(config: &Config, source: &mut dyn Source, run: &Path, begun: &dyn Fn()) -> Result<Outcome> {
    let (school, resume) = (School::new(config), run.exists());
    let mut machine = source.machine()?;
    let mut journal = Journal::create(Place::of(run, resume)?, config)?;
    let state = match resume {
        true => start::resume(source, config, &mut machine.session, &mut journal, &mut |_| ())?,
        false => start::begin(source, config, &mut machine.session)?,
    };
    let answers = school.answers(config, &machine.session);
    begun();
    let trainer = Trainer::new(config, source, machine, Lessons::Answers, &school.tokenizer, journal, state)?;
    trainer.drawing(answers).run(false)
}

fn updates(run: &Path) -> Vec<TrainRow> {
    let of = |row| if let Row::Train(row) = row { Some(row) } else { None };
    read_rows(run).unwrap().into_iter().filter_map(of).collect()
}

/// Whether the policy of an update is to the last bit the one that drew the answers, as PPO notes; of GRPO whether it
/// is the reference.
fn unmoved(row: &TrainRow) -> bool {
    let number = |name: &str| row.numbers[name];
    match row.numbers.get("val/ratio") {
        Some(&ratio) => ratio == 1.0 && number("policy/approxkl_avg") == 0.0 && number("policy/clipfrac_avg") == 0.0,
        None => number("kl") == 0.0 && number("clip_ratio/region_mean") == 0.0,
    }
}

/// Loses the device at `count` moments, as [`lost::ends_alike`], after a look at the first run.
fn ends_alike(device: &Device, kind: &str, count: usize, seed: u64) {
    let look = |whole: &Path| {
        let rows = updates(whole);
        // Exactly so in the first update of a batch, whatever rows and passes that takes, and in no other.
        let first = rows.iter().filter(|row| unmoved(row)).map(|row| row.step).collect::<Vec<_>>();
        assert_eq!(first, if kind == "ppo" { vec![1, 5] } else { vec![1] }, "{rows:?}");
        assert!(rows.iter().any(|row| row.numbers["rewards/format/std"] > 0.0), "rewards differ: {rows:?}");
    };
    lost::ends_alike(device, config(kind), count, seed, &train, &look);
}

#[test]
fn a_device_that_is_lost_amid_a_batch_of_answers_changes_no_byte() {
    for kind in ["grpo", "ppo"] {
        ends_alike(&runs::cpu(), kind, 6, 7);
    }
}

#[test]
fn on_an_adapter_a_lost_device_changes_no_byte_of_what_is_learnt_from_answers() {
    for device in &devices()[1..] {
        ends_alike(device, "grpo", 1, 8);
        ends_alike(device, "ppo", 0, 8); // the ratio alone: a device takes seconds to open
    }
}

#[test]
#[ignore = "takes minutes: the full number of moments"]
fn a_device_that_is_lost_at_any_of_fifty_moments_of_drawing_and_learning_changes_no_byte() {
    for device in &devices() {
        ["grpo", "ppo"].iter().for_each(|kind| ends_alike(device, kind, 50, 9));
    }
}

#[test]
fn updates_that_are_not_finite_amid_a_batch_are_skipped_and_gone_back_from() {
    let (folder, mut config) = (tempfile::tempdir().unwrap(), config("grpo"));
    config.grpo = Some(Default::default());
    (config.train.on_non_finite, config.train.non_finite_limit) = (OnNonFinite::RollBack, 2);
    config.train.checkpoint_interval = 2;
    (config.schedule.kind, config.schedule.warmup_steps) = (ScheduleKind::Constant, Warmup::Steps(STEPS));
    let (peak, run) = (config.optimizer.learning_rate, |name: &str| folder.path().join(name));
    let train = |config: &Config, name: &str| {
        train(config, &mut Sick { config, limit: 0.6 * peak as f32 }, &run(name), &|| ()).unwrap();
    };
    // The sixth update, at two thirds of the peak, is the first that is bad; the seventh brings the run back to where
    // it was skipped, in the middle of the second batch.
    train(&config, "whole");
    let log = std::fs::read_to_string(run("whole").join("log.txt")).unwrap();
    assert!(log.contains("step 6: rolled back (1 of 3)") && log.contains("up_proj.weight, number 1029"), "{log}");
    let rewards = |name: &str| updates(&run(name)).iter().map(|row| row.numbers["reward"]).collect::<Vec<_>>();
    assert_eq!(rewards("whole").len() as u64, STEPS);
    // Stopped amid the first batch, and between the two updates that are bad.
    for steps in [3, 6, STEPS] {
        config.train.steps = steps;
        train(&config, "parts");
    }
    assert_eq!(rewards("parts"), rewards("whole"));
    let [whole, parts] = ["whole", "parts"].map(|name| runs::evidence(&run(name), STEPS, Vec::new()));
    assert_eq!(runs::difference(&whole, &parts), None);
}
