//! The same of runs that learn from pairs of answers: what the first weights thought of them stays what it was.

use super::runs;
use super::{devices, lost};
use hadal::backend::Device;
use hadal::config::Config;
use hadal::data::preferences::Preferences;
use hadal::error::Result;
use hadal::train::journal::{Journal, read_rows};
use hadal::train::lessons::{Lessons, PairLessons};
use hadal::train::place::Place;
use hadal::train::references::References;
use hadal::train::rows::Row;
use hadal::train::start::{self, Source};
use hadal::train::trainer::{Outcome, Trainer};
use std::path::Path;

const STEPS: u64 = 8;

/// Trains in `run`, or goes on there, on the machines of `source`; calls `begun` when the trainer takes over.
pub fn train(config: &Config, source: &mut dyn Source, run: &Path, begun: &dyn Fn()) -> Result<Outcome> {
    let (tokenizer, encoder) = runs::encoder(config);
    let open = if config.dpo.is_some() { Preferences::open } else { Preferences::open_whole };
    let pairs = open(&config.data, 0, encoder, config.train.sequence_length, config.train.seed)?;
    let resume = run.exists();
    let mut machine = source.machine()?;
    let mut journal = Journal::create(Place::of(run, resume)?, config)?;
    let state = match resume {
        true => start::resume(source, config, &mut machine.session, &mut journal, &mut |_| ())?,
        false => start::begin(source, config, &mut machine.session)?,
    };
    let references = match (config.dpo.is_some(), References::read(run, &pairs, config)?) {
        (false, _) => None,
        (true, None) => Some(References::make(run, &mut machine.session, &pairs, config)?),
        (true, known) => known,
    };
    begun();
    let lessons = PairLessons { pairs: &pairs, references };
    Trainer::new(config, source, machine, Lessons::Pairs(&lessons), &tokenizer, journal, state)?.run(false)
}

fn ends_alike(device: &Device, kind: &str, count: usize, seed: u64) {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("pairs.jsonl");
    let line = |i: usize| format!(r#"{{"prompt": "Why {i}?", "chosen": "so {i}", "rejected": "no {}"}}"#, i * i) + "\n";
    std::fs::write(&data, (0..20).map(line).collect::<String>()).unwrap();
    let mut config = runs::paired(kind, STEPS, &data);
    (config.train.eval_interval, config.train.checkpoint_interval) = (4, 3);
    let look = |whole: &Path| {
        let rows = read_rows(whole).unwrap();
        let margin = |row: &Row| if let Row::Train(row) = row { Some(row.numbers["rewards/margins"]) } else { None };
        let margins: Vec<f64> = rows.iter().filter_map(margin).collect();
        assert!(margins[0] == 0.0 && margins[1..].iter().all(|margin| *margin != 0.0), "{margins:?}");
    };
    lost::ends_alike(device, config, count, seed, &train, &look);
}

#[test]
fn a_device_that_is_lost_changes_no_byte_of_what_is_learnt_from_pairs() {
    for kind in ["reward", "dpo"] {
        ends_alike(&runs::cpu(), kind, 6, 10);
    }
    devices()[1..].iter().for_each(|device| ends_alike(device, "dpo", 1, 11));
}

#[test]
#[ignore = "takes minutes: the full number of moments"]
fn a_device_that_is_lost_at_any_of_fifty_moments_of_learning_from_pairs_changes_no_byte() {
    for device in &devices() {
        ["reward", "dpo"].iter().for_each(|kind| ends_alike(device, kind, 50, 12));
    }
}
