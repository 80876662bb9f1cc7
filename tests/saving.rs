//! Saves beside training: they hold the state at which they began, and a disk that fails stops or delays a run without
//! a trace in what it learns.

#[path = "common/runs.rs"]
mod runs;

use hadal::checkpoint::disk::NewFile;
use hadal::checkpoint::draft::{Disk, SystemDisk};
use hadal::config::Config;
use hadal::config::train::OnDiskFull;
use hadal::error::{Error, Result};
use hadal::model::params::{initial, start_values};
use hadal::tokenizer::Tokenizer;
use hadal::train::checkpoint::{TrainerState, load};
use hadal::train::journal::{Journal, read_rows};
use hadal::train::outline::Outline;
use hadal::train::place::Place;
use hadal::train::rotation::CHECKPOINTS;
use hadal::train::saving::Saving;
use hadal::train::session::Session;
use hadal::train::spare::Spare;
use hadal::train::start::{self, Source};
use hadal::train::trainer::{Outcome, Trainer};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};

/// The system's disk, but for what `file` and `free` say.
struct Altered<F, R>(F, R);

impl<F: Fn() -> io::Result<()> + Send + Sync, R: Fn(u64) -> u64 + Send + Sync> Disk for Altered<F, R> {
    fn create_folder(&self, path: &Path) -> io::Result<()> {
        SystemDisk.create_folder(path)
    }

    fn create_file(&self, path: &Path) -> io::Result<Box<dyn NewFile>> {
        (self.0)()?;
        SystemDisk.create_file(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        SystemDisk.rename(from, to)
    }

    fn synchronise_folder(&self, path: &Path) -> io::Result<()> {
        SystemDisk.synchronise_folder(path)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        SystemDisk.remove(path)
    }

    fn free(&self, path: &Path) -> Option<u64> {
        SystemDisk.free(path).map(&self.1)
    }
}

fn started() -> (tempfile::TempDir, Session) {
    let mut session = runs::session(&runs::config(1), &runs::cpu());
    session.load(start_values(2)).unwrap();
    (tempfile::tempdir().unwrap(), session)
}

fn begin(disk: Arc<dyn Disk>, run: &Path, session: &mut Session) -> Result<Saving> {
    let state = TrainerState { step: 2, ..TrainerState::first(1) };
    let outline = Outline::new(run, session, &Tokenizer::load("byte").unwrap(), &state).unwrap();
    let spare = Spare::begin(session); // filled with what no weight is
    Saving::begin(disk, outline, session, spare, || Ok(()))
}

#[test]
fn a_checkpoint_holds_the_state_at_which_its_save_began() {
    let (run, mut session) = started();
    let gate = Arc::new((Mutex::new(false), Condvar::new()));
    let (inside, opened) = (gate.clone(), AtomicU64::new(0));
    let blocked = move || {
        opened.fetch_add(1, Ordering::Relaxed);
        drop(inside.1.wait_while(inside.0.lock().unwrap(), |open| !*open).unwrap());
        Ok(())
    };
    let saving = begin(Arc::new(Altered(blocked, |free| free)), run.path(), &mut session).unwrap();
    assert!(!saving.is_finished() && saving.progress() == 0.0, "nothing can be written yet");
    session.load(start_values(3)).unwrap(); // training goes on
    *gate.0.lock().unwrap() = true;
    gate.1.notify_all();
    let (folder, _) = saving.finish().unwrap();
    assert_eq!(load(&folder, &mut session).unwrap().step, 2);
    for i in 0..session.program.weights.all.len() {
        let spec = session.program.weights.all[i].spec.clone();
        assert_eq!(session.parameter(i).unwrap(), initial(&spec, 2), "{}", spec.name);
    }
}

#[test]
fn a_save_that_is_let_go_of_is_waited_for() {
    let (run, mut session) = started();
    let slow = || {
        std::thread::sleep(std::time::Duration::from_millis(20));
        Ok(())
    };
    drop(begin(Arc::new(Altered(slow, |free| free)), run.path(), &mut session).unwrap());
    assert_eq!(load(&run.path().join(CHECKPOINTS).join("step-00000002"), &mut session).unwrap().step, 2);
}

#[test]
fn a_disk_without_room_is_refused_before_anything_is_made() {
    let (run, mut session) = started();
    let Err(error) = begin(Arc::new(Altered(|| Ok(()), |_| 4096)), run.path(), &mut session) else {
        panic!("4096 bytes are too few");
    };
    let text = error.to_string();
    assert!(error.exit_code() == 5 && text.contains("MiB, and 0.0 MiB are free"), "{text}");
    assert_eq!(std::fs::read_dir(run.path()).unwrap().count(), 0);
}

/// A run on `disk`, its folder, and how it ended.
fn train(config: &Config, disk: Arc<dyn Disk>) -> (tempfile::TempDir, Result<Outcome>) {
    let (folder, device, text) = (tempfile::tempdir().unwrap(), runs::cpu(), runs::text(config));
    let mut source = runs::Steady { config, device: &device };
    let mut machine = source.machine().unwrap();
    let state = start::begin(&mut source, config, &mut machine.session).unwrap();
    let journal = Journal::create(Place::of(&folder.path().join("run"), false).unwrap(), config).unwrap();
    let trainer = Trainer::new(config, &mut source, machine, &text.1, &text.0, journal, state).unwrap();
    let outcome = trainer.on_disk(disk).run(false);
    (folder, outcome)
}

fn evidence(folder: &Path, step: u64) -> Vec<(String, Vec<u8>)> {
    let run = folder.join("run");
    runs::evidence(&run, step, read_rows(&run).unwrap())
}

#[test]
fn a_run_that_waits_for_its_disk_learns_what_another_learns() {
    let mut config = runs::config(1);
    (config.train.steps, config.train.checkpoint_interval, config.train.on_disk_full) = (6, 2, OnDiskFull::Wait);
    let (whole, outcome) = train(&config, Arc::new(SystemDisk));
    outcome.unwrap();
    // The second file of the checkpoint of step 4 cannot be made, and only the second time can.
    let made = AtomicU64::new(0);
    let full = move || match made.fetch_add(1, Ordering::Relaxed) {
        10 => Err(io::ErrorKind::StorageFull.into()),
        _ => Ok(()),
    };
    let (delayed, outcome) = train(&config, Arc::new(Altered(full, |free| free)));
    outcome.unwrap();
    assert_eq!(runs::difference(&evidence(whole.path(), 6), &evidence(delayed.path(), 6)), None);
    let names = |folder: &Path| {
        let entries = std::fs::read_dir(folder.join("run").join(CHECKPOINTS)).unwrap();
        entries.map(|entry| entry.unwrap().file_name()).collect::<BTreeSet<_>>()
    };
    // What step 4 could not leave, the step left at which the run noticed: 5, or 6, which is saved anyway.
    let (mut whole, mut delayed) = (names(whole.path()), names(delayed.path()));
    assert!(whole.remove(OsStr::new("step-00000004")) && !delayed.contains(OsStr::new("step-00000004")));
    delayed.remove(OsStr::new("step-00000005"));
    assert_eq!(whole, delayed);
}

#[test]
fn a_run_that_does_not_wait_ends_with_the_checkpoint_before_intact() {
    let mut config = runs::config(1);
    (config.train.steps, config.train.checkpoint_interval) = (6, 2);
    let made = AtomicU64::new(0);
    let full = move || match made.fetch_add(1, Ordering::Relaxed) {
        0..10 => Ok(()),
        _ => Err(io::ErrorKind::StorageFull.into()),
    };
    let (folder, outcome) = train(&config, Arc::new(Altered(full, |free| free)));
    let error = outcome.unwrap_err();
    assert!(error.exit_code() == 5 && matches!(error, Error::Io { .. }), "{error}");
    let checkpoints = folder.path().join("run").join(CHECKPOINTS);
    let mut session = runs::session(&config, &runs::cpu());
    assert_eq!(load(&checkpoints.join("step-00000002"), &mut session).unwrap().step, 2);
    assert!(!checkpoints.join("step-00000004").exists());
    // And one whose disk has no room at all does not begin.
    let (_folder, outcome) = train(&config, Arc::new(Altered(|| Ok(()), |_| 4096)));
    assert_eq!(outcome.unwrap_err().exit_code(), 5);
}
