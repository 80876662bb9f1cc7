//! Runs that are killed in their last save: going on, which then trains nothing, leaves the folder of a run without a
//! stop.

#[path = "common/runs.rs"]
mod runs;

use hadal::checkpoint::disk::NewFile;
use hadal::checkpoint::draft::{Disk, SystemDisk};
use hadal::config::Config;
use hadal::data::Dataset;
use hadal::tokenizer::Tokenizer;
use hadal::train::journal::{Journal, read_rows};
use hadal::train::place::Place;
use hadal::train::rotation::CHECKPOINTS;
use hadal::train::start::{self, Source};
use hadal::train::trainer::Trainer;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

const STEPS: u64 = 5;
const LAST: &str = "step-00000005";
const BEFORE: &str = "step-00000004";

/// The system's disk; before each operation of the last save it copies the run folder, as a kill would leave it.
struct Witness {
    run: PathBuf,
    copies: PathBuf,
    /// What was about to be done with what, once the last save has begun.
    seen: Mutex<Vec<String>>,
}

impl Witness {
    fn copy(&self, what: &str, path: &Path) {
        let mut seen = self.seen.lock().unwrap();
        let name = path.file_name().unwrap().to_string_lossy();
        if !seen.is_empty() || name.starts_with(LAST) {
            copy(&self.run, &self.copies.join(seen.len().to_string()));
            seen.push(format!("{what} {name}"));
        }
    }
}

impl Disk for Witness {
    fn create_folder(&self, path: &Path) -> io::Result<()> {
        self.copy("create", path);
        SystemDisk.create_folder(path)
    }

    fn create_file(&self, path: &Path) -> io::Result<Box<dyn NewFile>> {
        self.copy("create", path);
        SystemDisk.create_file(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.copy("rename", from);
        SystemDisk.rename(from, to)
    }

    fn synchronise_folder(&self, path: &Path) -> io::Result<()> {
        self.copy("synchronise", path);
        SystemDisk.synchronise_folder(path)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.copy("remove", path);
        SystemDisk.remove(path)
    }

    fn free(&self, path: &Path) -> Option<u64> {
        SystemDisk.free(path)
    }
}

/// All but hidden files: the picture that is drawn beside the save begins as one.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, name) = entry.map(|entry| (entry.path(), entry.file_name())).unwrap();
        match path.is_dir() {
            _ if name.to_string_lossy().starts_with('.') => {}
            true => copy(&path, &to.join(name)),
            false => drop(fs::copy(&path, to.join(name)).unwrap()),
        }
    }
}

/// Every file under the folder of checkpoints, and every row without its times.
fn contents(run: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let (mut found, mut folders) = (BTreeMap::new(), vec![run.join(CHECKPOINTS)]);
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
            match path.is_dir() {
                true => folders.push(path),
                false => drop(found.insert(path.strip_prefix(run).unwrap().to_owned(), fs::read(&path).unwrap())),
            }
        }
    }
    let rows = runs::evidence(run, STEPS, read_rows(run).unwrap());
    found.extend(rows.into_iter().map(|(name, bytes)| (name.into(), bytes)));
    found
}

/// Trains in `run`, or goes on there.
fn train(config: &Config, (tokenizer, dataset): &(Tokenizer, Dataset), run: &Path, disk: Arc<dyn Disk>) {
    let (device, resume) = (runs::cpu(), run.exists());
    let mut source = runs::Steady { config, device: &device };
    let mut machine = source.machine().unwrap();
    let mut journal = Journal::create(Place::of(run, resume).unwrap(), config).unwrap();
    let state = match resume {
        true => start::resume(&mut source, config, &mut machine.session, &mut journal, &mut |_| ()),
        false => start::begin(&mut source, config, &mut machine.session),
    };
    let trainer = Trainer::new(config, &mut source, machine, dataset, tokenizer, journal, state.unwrap()).unwrap();
    trainer.on_disk(disk).run(false).unwrap();
}

/// A run that keeps two checkpoints and gets better to its end, and copies of its folder from its last save.
struct Watched {
    at: tempfile::TempDir,
    config: Config,
    text: (Tokenizer, Dataset),
    seen: Vec<String>,
}

impl Watched {
    fn new() -> Watched {
        let at = tempfile::tempdir().unwrap();
        let mut config = runs::config(STEPS);
        (config.train.keep, config.train.checkpoint_interval, config.train.eval_interval) = (2, 1, 1);
        let text = runs::text(&config);
        let (run, seen) = (at.path().join("whole"), Mutex::default());
        let witness = Arc::new(Witness { run: run.clone(), copies: at.path().to_owned(), seen });
        train(&config, &text, &run, witness.clone());
        let seen = witness.seen.lock().unwrap().clone();
        Watched { at, config, text, seen }
    }

    fn whole(&self) -> PathBuf {
        self.at.path().join("whole")
    }

    /// The copy from before the first operation that is called so.
    fn before(&self, what: &str) -> PathBuf {
        let at = self.seen.iter().position(|seen| seen.starts_with(what));
        self.at.path().join(at.unwrap_or_else(|| panic!("no {what} in {:?}", self.seen)).to_string())
    }

    fn settles(&self, run: &Path, context: &str) {
        train(&self.config, &self.text, run, Arc::new(SystemDisk));
        let (whole, found) = (contents(&self.whole()), contents(run));
        let other = whole.iter().find(|(path, bytes)| found.get(*path) != Some(*bytes)).map(|(path, _)| path);
        assert_eq!(other, None, "{context}: missing or different");
        let more: Vec<_> = found.keys().filter(|path| !whole.contains_key(*path)).collect();
        assert!(more.is_empty(), "{context}: left over {more:?}");
    }
}

fn says(run: &Path, mark: &str) -> String {
    fs::read_to_string(run.join(CHECKPOINTS).join(mark)).unwrap().trim().to_owned()
}

#[test]
fn a_run_that_was_killed_anywhere_in_its_last_save_ends_as_one_without_a_stop() {
    let watched = Watched::new();
    for mark in ["latest", "best"] {
        assert_eq!(says(&watched.whole(), mark), LAST, "the run got better to its end");
    }
    let renamed = watched.before(&format!("synchronise {CHECKPOINTS}"));
    assert!(renamed.join(CHECKPOINTS).join(LAST).is_dir() && says(&renamed, "latest") == BEFORE);
    assert!(watched.seen.last().unwrap().starts_with("remove step-00000003.old-"), "{:?}", watched.seen);
    for (at, what) in watched.seen.iter().enumerate() {
        watched.settles(&watched.at.path().join(at.to_string()), what);
    }
}

/// Points between which the disk is not asked, and what an earlier kill has left beside them.
#[test]
fn marks_and_leftovers_are_settled_each_by_itself() {
    let watched = Watched::new();
    let marked = watched.before("rename step-00000003");
    let make = |name: &str, change: &dyn Fn(&Path)| {
        let run = watched.at.path().join(name);
        copy(&marked, &run);
        change(&run.join(CHECKPOINTS));
        watched.settles(&run, name);
    };
    make("best is old", &|folder| fs::write(folder.join("best"), format!("{BEFORE}\n")).unwrap());
    make("latest is half written", &|folder| {
        fs::write(folder.join("latest"), format!("{BEFORE}\n")).unwrap();
        fs::write(folder.join(".latest.tmp"), "step").unwrap();
    });
    make("best is gone", &|folder| fs::remove_file(folder.join("best")).unwrap());
    make("leftovers", &|folder| {
        for name in ["step-00000005.tmp-0123456789abcdef", "step-00000002.old-0123456789abcdef"] {
            fs::create_dir(folder.join(name)).unwrap();
        }
    });
}

#[test]
fn a_finished_run_stays_as_it_is_and_so_does_the_first_of_equals_as_the_best() {
    let watched = Watched::new();
    let run = watched.at.path().join("again");
    copy(&watched.whole(), &run);
    let written = || fs::metadata(run.join(CHECKPOINTS).join("latest")).unwrap().modified().unwrap();
    let before = written();
    watched.settles(&run, "nothing to do");
    assert_eq!(written(), before);
    // An update that was skipped leaves the loss as it was: the checkpoint before stays the best.
    let rows = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let is_val = |line: &&str| line.contains("\"val\"");
    let last = rows.lines().rfind(is_val).unwrap();
    let equal = rows.lines().map(|line| match is_val(&line) && line.contains("\"step\":4") {
        true => last.replace("\"step\":5", "\"step\":4") + "\n",
        false => line.to_owned() + "\n",
    });
    fs::write(run.join("metrics.jsonl"), equal.collect::<String>()).unwrap();
    fs::write(run.join(CHECKPOINTS).join("best"), format!("{BEFORE}\n")).unwrap();
    for _ in 0..2 {
        train(&watched.config, &watched.text, &run, Arc::new(SystemDisk));
        assert_eq!(says(&run, "best"), BEFORE);
        let _ = fs::remove_file(run.join(CHECKPOINTS).join("best"));
    }
}
