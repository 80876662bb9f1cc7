//! The run folder: who may write to it, and the records that a run leaves there.

use super::clock::Clock;
use super::events::EventFile;
use super::rows::{Row, Stamped};
use crate::checkpoint::disk::replace_text;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::input;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Resolved configuration of the run.
pub const CONFIG: &str = "config.toml";
/// One JSON object a line: a [`Row`].
pub const METRICS: &str = "metrics.jsonl";
/// What was told to the user.
pub const LOG: &str = "log.txt";
/// Folder of generated texts, `step-N.txt`.
pub const SAMPLES: &str = "samples";
/// Held, by the operating system, as long as a run writes here.
pub const LOCK: &str = "lock";

/// Bytes that no row has: one of a hundred layers with experts has a tenth.
const LONGEST_LINE: u64 = 1 << 20;

/// A run folder that this process alone writes to, as long as the value lives.
#[derive(Debug)]
pub struct Journal {
    folder: PathBuf,
    /// The run's configuration, as TOML.
    config: String,
    metrics: File,
    /// For TensorBoard. A run that goes on has one from when it is known where.
    events: Option<EventFile>,
    tensorboard: bool,
    log: File,
    clock: Clock,
    _lock: File,
}

impl Journal {
    /// Makes `folder` a run folder and takes its lock, or with `resume` goes on in one, from where [`Journal::trim`] or
    /// [`Journal::restart`] then says; writes the configuration unless there is one.
    ///
    /// Errors: the folder has content and `resume` is off ([`Error::Usage`]); another process holds it
    /// ([`Error::Locked`]).
    pub fn create(folder: &Path, config: &Config, resume: bool) -> Result<Journal> {
        if !resume {
            vacant(folder)?;
        }
        std::fs::create_dir_all(folder).map_err(|e| Error::write(folder, e))?;
        let lock = take_lock(folder, true)?.ok_or_else(|| Error::Locked { path: folder.to_owned() })?;
        let config_text = config.to_toml()?;
        if !folder.join(CONFIG).exists() {
            replace_text(&folder.join(CONFIG), &config_text)?;
        }
        let metrics = open_for_appending(&folder.join(METRICS))?;
        drop_torn_line(&folder.join(METRICS))?;
        let log = open_for_appending(&folder.join(LOG))?;
        let tensorboard = config.log.tensorboard;
        let events = (tensorboard && !resume).then(|| EventFile::create(folder, 0)).transpose()?;
        let (folder, config, clock) = (folder.to_owned(), config_text, Clock::default());
        Ok(Journal { folder, config, metrics, events, tensorboard, log, clock, _lock: lock })
    }

    /// The run folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The run's configuration, which each of its checkpoints holds.
    pub fn config(&self) -> &str {
        &self.config
    }

    /// Writes the configuration in the place of the one before, once it is sure that the run goes on with it.
    pub fn keep_config(&self) -> Result<()> {
        replace_text(&self.folder.join(CONFIG), &self.config)
    }

    /// Removes every row after `step`, from which the run goes on: each update has one row, however often it is redone.
    pub fn trim(&mut self, step: u64) -> Result<()> {
        let path = self.folder.join(METRICS);
        let (mut end, mut elapsed) = (0, 0.0);
        for_each_row(&path, |line, after| {
            let keep = line.row.step() <= step;
            (end, elapsed) = if keep { (after, line.elapsed) } else { (end, elapsed) };
            keep
        })?;
        truncate(&path, end)?;
        self.clock = Clock::behind(elapsed);
        self.void_events(step + 1)
    }

    /// Steps and losses of all validations.
    pub fn val_losses(&self) -> Result<Vec<(u64, f64)>> {
        let mut losses = Vec::new();
        for_each_row(&self.folder.join(METRICS), |line, _| {
            if let Row::Val(row) = line.row {
                losses.push((row.step, row.judged()));
            }
            true
        })?;
        Ok(losses)
    }

    /// Removes all rows: the run begins anew.
    pub fn restart(&mut self) -> Result<()> {
        truncate(&self.folder.join(METRICS), 0)?;
        self.clock = Clock::default();
        self.void_events(0)
    }

    /// Begins a new event file, at which readers drop the events of step `from` and later ones.
    fn void_events(&mut self, from: u64) -> Result<()> {
        if self.tensorboard {
            self.events = Some(EventFile::create(&self.folder, from)?);
        }
        Ok(())
    }

    /// Appends one row with its time and hands it to the operating system.
    pub fn record(&mut self, row: &Row) -> Result<()> {
        let path = || self.folder.join(METRICS);
        let stamped = self.clock.stamp(row);
        let mut line = serde_json::to_vec(&stamped).map_err(|e| Error::io(path(), e.into()))?;
        line.push(b'\n');
        // A single write: a reader sees the whole line or, at worst after a crash, a torn one at the end.
        self.metrics.write_all(&line).map_err(|e| Error::io(path(), e))?;
        self.events.as_mut().map_or(Ok(()), |events| events.record(&stamped))
    }

    /// Appends one line to the log.
    pub fn log(&mut self, line: &str) -> Result<()> {
        let text = format!("{line}\n");
        self.log.write_all(text.as_bytes()).map_err(|e| Error::io(self.folder.join(LOG), e))
    }

    /// Writes a generated text, replacing the one that an earlier run wrote at this step.
    pub fn sample(&self, step: u64, text: &str) -> Result<()> {
        let folder = self.folder.join(SAMPLES);
        std::fs::create_dir_all(&folder).map_err(|e| Error::io(&folder, e))?;
        replace_text(&folder.join(format!("step-{step}.txt")), text)
    }
}

/// All rows of the run in `folder`. A torn last line, as a crash leaves it, ends the rows without an error.
///
/// Errors: there is no such file; a line that is no row, named by its number.
pub fn read_rows(folder: &Path) -> Result<Vec<Row>> {
    Ok(read_stamped(folder)?.into_iter().map(|line| line.row).collect())
}

/// The same with the times at which they were written.
///
/// Errors: those of [`read_rows`].
pub fn read_stamped(folder: &Path) -> Result<Vec<Stamped>> {
    let mut lines = Vec::new();
    for_each_row(&folder.join(METRICS), |line, _| {
        lines.push(line);
        true
    })?;
    Ok(lines)
}

/// Calls `each` with every row and the byte after its line, until that returns false.
fn for_each_row(path: &Path, mut each: impl FnMut(Stamped, u64) -> bool) -> Result<()> {
    let mut reader = BufReader::new(input::open(path)?);
    let (mut line, mut after) = (Vec::new(), 0);
    for number in 1.. {
        line.clear();
        let read = reader.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line);
        after += read.map_err(|e| Error::io(path, e))? as u64;
        if line.len() as u64 == LONGEST_LINE {
            return Err(Error::file(path, format!("line {number}: longer than {LONGEST_LINE} bytes, so no row")));
        }
        if line.last() != Some(&b'\n') {
            break;
        }
        let row = serde_json::from_slice(&line)
            .map_err(|e| Error::file(path, format!("line {number}: not a row of metrics: {}", input::one_line(&e))))?;
        if !each(row, after) {
            break;
        }
    }
    Ok(())
}

/// Refuses a folder with content, for which `--resume` would be needed.
///
/// Errors: it has content ([`Error::Usage`]); another process holds it ([`Error::Locked`]).
pub fn vacant(folder: &Path) -> Result<()> {
    if has_content(folder)? {
        take_lock(folder, false)?;
        let hint = "continue it with --resume, or choose another --out";
        return Err(Error::Usage(format!("{}: the folder is not empty; {hint}", folder.display())));
    }
    Ok(())
}

/// Whether the folder exists and holds anything but the lock file of a run that never began.
fn has_content(folder: &Path) -> Result<bool> {
    let entries = match std::fs::read_dir(folder) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(false),
        Err(e) if e.kind() == ErrorKind::NotADirectory && folder.exists() => {
            return Err(Error::Usage(format!("{}: is a file; --out must name a folder", folder.display())));
        }
        entries => entries.map_err(|e| Error::write(folder, e))?,
    };
    for entry in entries {
        if entry.map_err(|e| Error::io(folder, e))?.file_name() != LOCK {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Locks the folder's lock file, which is made only if `create`; `None` if there is none.
fn take_lock(folder: &Path, create: bool) -> Result<Option<File>> {
    let path = folder.join(LOCK);
    let file = match OpenOptions::new().read(true).write(true).create(create).truncate(false).open(&path) {
        Err(e) if e.kind() == ErrorKind::NotFound && !create => return Ok(None),
        file => file.map_err(|e| Error::io(&path, e))?,
    };
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Err(Error::Locked { path: folder.to_owned() }),
        Err(TryLockError::Error(e)) => Err(Error::io(path, e)),
    }
}

fn open_for_appending(path: &Path) -> Result<File> {
    OpenOptions::new().append(true).create(true).open(path).map_err(|e| Error::io(path, e))
}

/// Shortens a file. The handle that appends to it may not do this on Windows.
fn truncate(path: &Path, length: u64) -> Result<()> {
    let cut = || OpenOptions::new().write(true).open(path)?.set_len(length);
    cut().map_err(|e| Error::io(path, e))
}

/// Cuts the file after its last complete line, so that the next row begins a line of its own.
fn drop_torn_line(path: &Path) -> Result<()> {
    let complete = || {
        let mut file = File::open(path)?;
        let mut end = file.seek(SeekFrom::End(0))?;
        let mut block = [0; 4096];
        while end > 0 {
            let start = end.saturating_sub(block.len() as u64);
            let part = &mut block[..(end - start) as usize];
            file.seek(SeekFrom::Start(start))?;
            file.read_exact(part)?;
            if let Some(newline) = part.iter().rposition(|b| *b == b'\n') {
                return Ok(start + newline as u64 + 1);
            }
            end = start;
        }
        Ok(0)
    };
    truncate(path, complete().map_err(|e| Error::io(path, e))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::rows::{TrainRow, ValRow};

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
        Journal::create(folder, &Config::default(), resume)
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
    fn a_folder_with_content_is_refused_unless_the_run_resumes() {
        let (_parent, folder) = run();
        drop(open(&folder, false).unwrap());
        let error = open(&folder, false).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("--resume"), "{error}");
        assert!(open(&folder, true).is_ok());
        let foreign = folder.parent().unwrap();
        assert_eq!(open(foreign, false).unwrap_err().exit_code(), 2);
        assert!(!foreign.join(LOCK).exists(), "a refused folder is left as it was");
        std::fs::write(folder.join("file"), "x").unwrap();
        assert_eq!(open(&folder.join("file"), false).unwrap_err().exit_code(), 2);
    }

    #[test]
    fn a_run_folder_has_one_owner_at_a_time() {
        let (_parent, folder) = run();
        let journal = open(&folder, false).unwrap();
        assert_eq!(open(&folder, true).unwrap_err().exit_code(), 6);
        assert_eq!(open(&folder, false).unwrap_err().exit_code(), 6);
        drop(journal);
        assert!(open(&folder, true).is_ok());
    }

    #[test]
    fn the_written_configuration_is_the_one_given() {
        let (_parent, folder) = run();
        let config = Config::resolve(Some("seed"), &[]).unwrap();
        drop(Journal::create(&folder, &config, false).unwrap());
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
        for torn in ["{\"split\":\"tra", &"x".repeat(10_000)] {
            let mut journal = open(&folder, true).unwrap();
            journal.trim(0).unwrap();
            journal.record(&train(1, 3.0)).unwrap();
            drop(journal);
            open_for_appending(&folder.join(METRICS)).unwrap().write_all(torn.as_bytes()).unwrap();
            assert_eq!(read_rows(&folder).unwrap(), [train(1, 3.0)]);
            let mut journal = open(&folder, true).unwrap();
            journal.record(&train(2, 2.0)).unwrap();
            assert_eq!(read_rows(&folder).unwrap(), [train(1, 3.0), train(2, 2.0)]);
        }
    }

    #[test]
    fn a_broken_line_in_the_middle_is_named() {
        let (_parent, folder) = run();
        let mut journal = open(&folder, false).unwrap();
        journal.record(&train(1, 3.0)).unwrap();
        open_for_appending(&folder.join(METRICS)).unwrap().write_all(b"nonsense\n").unwrap();
        let error = read_rows(&folder).unwrap_err();
        assert!(error.to_string().contains("line 2") && error.exit_code() == 2, "{error}");
    }

    #[test]
    fn log_lines_are_appended_and_samples_replaced() {
        let (_parent, folder) = run();
        let mut journal = open(&folder, false).unwrap();
        journal.log("one").unwrap();
        journal.sample(100, "old").unwrap();
        drop(journal);
        let mut journal = open(&folder, true).unwrap();
        journal.log("two").unwrap();
        journal.sample(100, "new").unwrap();
        assert_eq!(std::fs::read_to_string(folder.join(LOG)).unwrap(), "one\ntwo\n");
        assert_eq!(std::fs::read_to_string(folder.join("samples/step-100.txt")).unwrap(), "new");
    }
}
