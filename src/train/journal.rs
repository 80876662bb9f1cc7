//! The records that a run leaves in its folder.

use super::appender::Appender;
use super::clock::Clock;
use super::events::EventFile;
use super::history::{copy_rows, set_aside, survey};
use super::place::Place;
use super::rotation::make_folder;
use super::rows::{Row, Stamped};
use crate::checkpoint::disk::replace_text;
use crate::checkpoint::draft::SystemDisk;
use crate::config::Config;
use crate::error::{Error, Result};
use std::fs::OpenOptions;
use std::path::Path;

pub use super::history::{read_rows, read_stamped};

/// Resolved configuration of the run.
pub const CONFIG: &str = "config.toml";
/// One JSON object a line: a [`Row`].
pub const METRICS: &str = "metrics.jsonl";
/// What was told to the user.
pub const LOG: &str = "log.txt";
/// Folder of generated texts, `step-N.txt`.
pub const SAMPLES: &str = "samples";

/// What a run writes beside its checkpoints. None of it ends a run that trains: what a full disk does not take waits in
/// memory, and is said once ([`Journal::news`]).
#[derive(Debug)]
pub struct Journal {
    /// The run's configuration, as TOML.
    config: String,
    metrics: Appender,
    /// For TensorBoard. A run that goes on has one from when it is known where.
    events: Option<EventFile>,
    tensorboard: bool,
    log: Appender,
    clock: Clock,
    /// Whether something waits.
    failing: bool,
    news: Option<String>,
    /// Last, since a run that learnt nothing takes it away with the files above.
    place: Place,
}

impl Journal {
    /// The records of a run of `config` in a folder of its own; where the run resumes, from where [`Journal::trim`] or
    /// [`Journal::restart`] then says. Writes the configuration unless there is one.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn create(place: Place, config: &Config) -> Result<Journal> {
        let (folder, text) = (place.folder(), config.to_toml()?);
        if !folder.join(CONFIG).exists() {
            replace_text(&folder.join(CONFIG), &text)?;
        }
        make_folder(&SystemDisk, folder)?;
        let (metrics, log) = (Appender::open(&folder.join(METRICS))?, Appender::open(&folder.join(LOG))?);
        let tensorboard = config.log.tensorboard;
        let events = (tensorboard && !place.resumes()).then(|| EventFile::create(folder, 0)).transpose()?;
        let (clock, failing, news) = (Clock::default(), false, None);
        Ok(Journal { config: text, metrics, events, tensorboard, log, clock, failing, news, place })
    }

    /// The run folder.
    pub fn folder(&self) -> &Path {
        self.place.folder()
    }

    /// The run's configuration, which each of its checkpoints holds.
    pub fn config(&self) -> &str {
        &self.config
    }

    /// Writes the configuration in the place of the one before, once it is sure that the run goes on with it.
    pub fn keep_config(&self) -> Result<()> {
        replace_text(&self.folder().join(CONFIG), &self.config)
    }

    /// Removes every row after `step`, from which the run goes on: each update has one row, however often it is redone.
    /// A file with lines that are no rows is kept under another name, which is said, and its rows are copied.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn trim(&mut self, step: u64) -> Result<Option<String>> {
        let path = self.metrics.path().to_owned();
        let found = survey(&path, step)?;
        let said = match found.damage {
            None => {
                truncate(&path, found.kept)?;
                None
            }
            Some(damage) => {
                let aside = set_aside(&path)?;
                copy_rows(&aside, &path, step)?;
                self.metrics.reopen()?;
                Some(format!("{}: {damage}; kept as {}, of which only the rows go on", path.display(), aside.display()))
            }
        };
        self.metrics.retain(|line| serde_json::from_slice(line).is_ok_and(|line: Stamped| line.row.step() <= step));
        self.clock = Clock::behind(found.elapsed);
        self.void_events(step + 1);
        Ok(said)
    }

    /// Steps and losses of all validations.
    ///
    /// # Errors
    /// If the rows cannot be read.
    pub fn val_losses(&self) -> Result<Vec<(u64, f64)>> {
        let of_val = |row| if let Row::Val(row) = row { Some((row.step, row.judged())) } else { None };
        Ok(read_rows(self.folder())?.into_iter().filter_map(of_val).collect())
    }

    /// Begins anew with no row. The rows of updates so far are kept under another name, which is said.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn restart(&mut self) -> Result<Option<String>> {
        let path = self.metrics.path().to_owned();
        let found = survey(&path, 0)?;
        let mut said = None;
        if found.later || found.damage.is_some() {
            let aside = set_aside(&path)?;
            said = Some(format!("the rows so far are kept as {}", aside.display()));
            self.metrics.reopen()?;
        } else {
            truncate(&path, 0)?;
        }
        self.metrics.retain(|_| false);
        self.clock = Clock::default();
        self.void_events(0);
        Ok(said)
    }

    /// Begins a new event file, at which readers drop the events of step `from` and later ones.
    fn void_events(&mut self, from: u64) {
        if self.tensorboard {
            let made = EventFile::create(self.folder(), from);
            let left_out = |e: &Error| format!("{e}; TensorBoard will not see what follows");
            self.news = made.as_ref().err().map(left_out).or(self.news.take());
            self.events = made.ok();
        }
    }

    /// Appends one row with its time and hands it to the operating system, or keeps it until the disk takes it.
    ///
    /// # Errors
    /// If it cannot be written as JSON.
    pub fn record(&mut self, row: &Row) -> Result<()> {
        if matches!(row, Row::Train(_)) {
            self.place.keep();
        }
        let stamped = self.clock.stamp(row);
        let mut line = serde_json::to_vec(&stamped).map_err(|e| Error::io(self.metrics.path(), e.into()))?;
        line.push(b'\n');
        let written = self.metrics.append(line);
        let events = self.events.as_mut().map_or(Ok(()), |events| events.record(&stamped));
        self.note(written.and(events));
        Ok(())
    }

    /// Appends one line to the log, or keeps it until the disk takes it.
    pub fn log(&mut self, line: &str) {
        let written = self.log.append(format!("{line}\n").into_bytes());
        self.note(written);
    }

    /// Writes a generated text, replacing the one that an earlier run wrote at this step, if the disk takes it.
    pub fn sample(&mut self, step: u64, text: &str) {
        let folder = self.folder().join(SAMPLES);
        let made = std::fs::create_dir_all(&folder).map_err(|e| Error::write(&folder, e));
        if let Err(e) = made.and_then(|()| replace_text(&folder.join(format!("step-{step}.txt")), text)) {
            self.news = Some(format!("{e}; the sample is left out"));
        }
    }

    /// Notes whether the disk took what it was given.
    fn note(&mut self, written: Result<()>) {
        match written {
            Err(e) if !self.failing => {
                self.failing = true;
                self.news = Some(format!("{e}; what is to be recorded waits in memory, and training goes on"));
            }
            Ok(()) if self.failing && self.flush().is_ok() => {
                self.failing = false;
                self.news = Some("what waited in memory is recorded".to_owned());
            }
            _ => {}
        }
    }

    /// What there is to say of the disk, once.
    pub fn news(&mut self) -> Option<String> {
        self.news.take()
    }

    /// Writes what waits in memory.
    ///
    /// # Errors
    /// If the disk does not take it.
    pub fn flush(&mut self) -> Result<()> {
        self.metrics.flush()?;
        self.events.as_mut().map_or(Ok(()), EventFile::flush)?;
        self.log.flush()
    }

    /// From now on the folder stays, whether or not something was learnt.
    pub fn keep(&mut self) {
        self.place.keep();
    }
}

/// Shortens a file. The handle that appends to it may not do this on Windows.
fn truncate(path: &Path, length: u64) -> Result<()> {
    let cut = || OpenOptions::new().write(true).open(path)?.set_len(length);
    cut().map_err(|e| Error::io(path, e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::rows::{TrainRow, ValRow};
    use std::path::PathBuf;

    fn train(step: u64, loss: f64) -> Row {
        Row::Train(TrainRow { step, loss, lr: 1e-3, grad_norm: 0.5, tokens: 64 * step, ..Default::default() })
    }

    fn val(step: u64) -> Row {
        Row::Val(ValRow { step, loss: 2.5, bits_per_byte: 1.25, token_accuracy: 0.5, ..ValRow::default() })
    }

    fn run() -> (tempfile::TempDir, PathBuf) {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("runs/first");
        (parent, folder)
    }

    fn open(folder: &Path, resume: bool) -> Result<Journal> {
        Journal::create(Place::of(folder, resume)?, &Config::default())
    }

    fn append(folder: &Path, text: &[u8]) {
        let mut metrics = std::fs::read(folder.join(METRICS)).unwrap();
        metrics.extend(text);
        std::fs::write(folder.join(METRICS), metrics).unwrap();
    }

    #[test]
    fn rows_are_read_back_as_they_were_recorded() {
        let (_parent, folder) = run();
        let mut journal = open(&folder, false).unwrap();
        let rows = [val(0), train(1, 3.0), train(2, 1.0 / 3.0), val(2)];
        rows.iter().for_each(|row| journal.record(row).unwrap());
        assert_eq!(read_rows(&folder).unwrap(), rows);
        let text = std::fs::read_to_string(folder.join(METRICS)).unwrap();
        let first: serde_json::Value = serde_json::from_str(text.lines().nth(1).unwrap()).unwrap();
        assert_eq!((first["split"].as_str(), first["step"].as_u64()), (Some("train"), Some(1)));
    }

    #[test]
    fn numbers_that_are_not_finite_are_written_as_null() {
        let (_parent, folder) = run();
        let mut journal = open(&folder, false).unwrap();
        journal.record(&train(1, f64::NAN)).unwrap();
        journal.record(&train(2, f64::INFINITY)).unwrap();
        let text = std::fs::read_to_string(folder.join(METRICS)).unwrap();
        assert_eq!(text.matches("\"loss\":null").count(), 2, "{text}");
        let rows = read_rows(&folder).unwrap();
        assert!(rows.iter().all(|row| matches!(row, Row::Train(row) if row.loss.is_nan())));
    }

    #[test]
    fn the_written_configuration_is_the_one_given() {
        let (_parent, folder) = run();
        let config = Config::resolve(Some("seed"), &[]).unwrap();
        let _journal = Journal::create(Place::of(&folder, false).unwrap(), &config).unwrap();
        assert_eq!(Config::resolve(folder.join(CONFIG).to_str(), &[]).unwrap(), config);
    }

    #[test]
    fn trimming_drops_the_rows_after_the_step_and_recording_goes_on_behind_it() {
        let (_parent, folder) = run();
        let mut journal = open(&folder, false).unwrap();
        [val(0), train(1, 3.0), train(2, 2.0), val(2), train(3, 1.0), val(3)]
            .iter()
            .for_each(|row| journal.record(row).unwrap());
        drop(journal);
        let mut journal = open(&folder, true).unwrap();
        journal.trim(2).unwrap();
        journal.record(&train(3, 1.5)).unwrap();
        let expected = [val(0), train(1, 3.0), train(2, 2.0), val(2), train(3, 1.5)];
        assert_eq!(read_rows(&folder).unwrap(), expected);
        journal.trim(100).unwrap();
        assert_eq!(read_rows(&folder).unwrap(), expected);
    }

    #[test]
    fn a_torn_last_line_is_passed_over_and_overwritten() {
        let (_parent, folder) = run();
        open(&folder, false).unwrap().record(&train(1, 3.0)).unwrap();
        for step in 2..4 {
            append(&folder, b"{\"split\":\"tra");
            assert_eq!(read_rows(&folder).unwrap().len() as u64, step - 1);
            let mut journal = open(&folder, true).unwrap();
            assert_eq!(journal.trim(10).unwrap(), None);
            journal.record(&train(step, 2.0)).unwrap();
            assert_eq!(read_rows(&folder).unwrap().last(), Some(&train(step, 2.0)));
        }
        assert!(!folder.join("metrics-1.jsonl").exists());
    }

    #[test]
    fn lines_that_are_no_rows_are_named_and_kept_aside_when_the_run_goes_on() {
        let (_parent, folder) = run();
        for (i, (damage, word)) in
            [(&b"nonsense\n"[..], "line 2"), (&[0; 300], "line 2"), (b"\0\0\n", "line 2"), (b"{\"x\":1}", "line 2")]
                .into_iter()
                .enumerate()
        {
            let _ = std::fs::remove_file(folder.join(METRICS));
            let mut journal = open(&folder, i > 0).unwrap();
            journal.record(&train(1, 3.0)).unwrap();
            drop(journal);
            append(&folder, damage);
            if damage.ends_with(b"\n") {
                append(&folder, &[serde_json::to_vec(&train(2, 2.0)).unwrap(), b"\n".to_vec()].concat());
                let error = read_rows(&folder).unwrap_err();
                assert!(error.to_string().contains(word) && error.exit_code() == 2, "{error}");
            }
            let before = std::fs::read(folder.join(METRICS)).unwrap();
            let mut journal = open(&folder, true).unwrap();
            let said = journal.trim(2).unwrap().unwrap();
            let aside = format!("metrics-{}.jsonl", i + 1);
            assert!(said.contains(word) && said.contains(&aside), "{said}");
            assert_eq!(std::fs::read(folder.join(aside)).unwrap(), before);
            journal.record(&train(3, 1.0)).unwrap();
            let rows = read_rows(&folder).unwrap();
            assert!(rows.len() >= 2 && rows[0] == train(1, 3.0) && rows.last() == Some(&train(3, 1.0)), "{rows:?}");
            assert_eq!(rows.contains(&train(2, 2.0)), damage.ends_with(b"\n"));
        }
    }

    #[test]
    fn rows_of_a_run_that_begins_anew_are_kept_aside() {
        let (_parent, folder) = run();
        let mut journal = open(&folder, false).unwrap();
        journal.record(&val(0)).unwrap();
        assert_eq!(journal.restart().unwrap(), None, "a validation of the first weights comes again");
        assert_eq!(read_rows(&folder).unwrap(), []);
        journal.record(&train(1, 3.0)).unwrap();
        drop(journal);
        let said = open(&folder, true).unwrap().restart().unwrap().unwrap();
        assert!(said.ends_with("metrics-1.jsonl"), "{said}");
        assert_eq!(read_rows(&folder).unwrap(), []);
        assert!(std::fs::read_to_string(folder.join("metrics-1.jsonl")).unwrap().contains("\"step\":1"));
        // Where rows tell of checkpoints that are gone, a run that begins anew would be a surprise.
        open(&folder, true).unwrap().record(&train(9, 3.0)).unwrap();
        std::fs::remove_dir(folder.join("checkpoints")).unwrap();
        let error = open(&folder, true).unwrap_err();
        assert!(error.exit_code() == 2 && error.to_string().contains("step 9"), "{error}");
    }

    #[test]
    fn log_lines_are_appended_and_samples_replaced() {
        let (_parent, folder) = run();
        let mut journal = open(&folder, false).unwrap();
        journal.log("one");
        journal.sample(100, "old");
        journal.keep();
        drop(journal);
        let mut journal = open(&folder, true).unwrap();
        journal.log("two");
        journal.sample(100, "new");
        assert_eq!(journal.news(), None);
        assert_eq!(std::fs::read_to_string(folder.join(LOG)).unwrap(), "one\ntwo\n");
        assert_eq!(std::fs::read_to_string(folder.join("samples/step-100.txt")).unwrap(), "new");
    }
}
