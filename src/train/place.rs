//! The folder of a run: which one a new run takes, who may write there, and what is left of a run that learnt nothing.

use super::events::PREFIX;
use super::history;
use super::journal::{CONFIG, LOG, METRICS, SAMPLES};
use super::references::REFERENCES;
use super::rotation::{CHECKPOINTS, any};
use crate::config::Config;
use crate::error::{Error, Result};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// Held, by the operating system, as long as a run writes here.
pub const LOCK: &str = "lock";
/// Folder inside a run folder with the base of its adapters, where no other folder holds these weights.
pub const BASE: &str = "base";
/// Where runs go that are given no folder.
const RUNS: &str = "runs";

/// A run folder that this process alone writes to, as long as the value lives.
#[derive(Debug)]
pub struct Place {
    folder: PathBuf,
    /// Of a new run that has learnt nothing yet: what was made for it.
    fresh: Option<Made>,
    _lock: File,
}

impl Place {
    /// The folder of a new run, or with `resume` of one that goes on.
    ///
    /// # Errors
    /// If a new run's folder has content, or another one's holds no run to go on with ([`Error::Usage`]); if another
    /// process holds it ([`Error::Locked`]).
    pub fn of(folder: &Path, resume: bool) -> Result<Place> {
        if resume {
            is_begun(folder)?;
            let lock = locked(folder)?;
            return Ok(Place { folder: folder.to_owned(), fresh: None, _lock: lock });
        }
        vacant(folder)?;
        Place::taken(folder, Made::folder(folder)?)
    }

    /// The folder of a new run that is given none: the first free one of runs/NAME-1, runs/NAME-2, ...
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn next(name: &str) -> Result<Place> {
        let (folder, made) = next_folder(name)?;
        Place::taken(&folder, made)
    }

    fn taken(folder: &Path, made: Made) -> Result<Place> {
        let lock = locked(folder)?;
        if has_content(folder)? {
            return Err(occupied(folder)); // by a run that has begun and ended since that was looked at
        }
        Ok(Place { folder: folder.to_owned(), fresh: Some(made), _lock: lock })
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether a run goes on here.
    pub fn resumes(&self) -> bool {
        self.fresh.is_none()
    }

    /// From now on the folder stays as it is: something was learnt.
    pub(super) fn keep(&mut self) {
        self.fresh = None;
    }
}

/// A run that ends before it has learnt anything leaves no folder, which would be in the way of the next one: what it
/// wrote is removed, and nothing else.
impl Drop for Place {
    fn drop(&mut self) {
        let Some(made) = self.fresh.take() else { return };
        let at = |name: &str| self.folder.join(name);
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let is_events = |name: &std::ffi::OsStr| name.to_string_lossy().starts_with(PREFIX);
        entries.filter(|entry| is_events(&entry.file_name())).for_each(|entry| ignore(fs::remove_file(entry.path())));
        [CONFIG, METRICS, LOG, REFERENCES].iter().for_each(|name| ignore(fs::remove_file(at(name))));
        ignore(fs::remove_file(at(SAMPLES).join("step-0.txt")));
        ignore(fs::remove_dir_all(at(BASE)));
        [SAMPLES, CHECKPOINTS].iter().for_each(|name| ignore(fs::remove_dir(at(name))));
        ignore(fs::remove_file(at(LOCK))); // while it is held: see `locked`
        drop(made);
    }
}

/// What cannot be removed stays; the error that the run ends with is the one to report.
fn ignore(_removed: io::Result<()>) {}

/// Folders that were made for something. Those that are empty in the end are removed again.
#[derive(Debug, Default)]
pub struct Made(Vec<PathBuf>);

impl Made {
    /// Makes `folder` and those above it that are missing.
    fn folder(folder: &Path) -> Result<Made> {
        let mut made = Made::default();
        made.add(folder).map_err(|e| Error::write(folder, e))?;
        Ok(made)
    }

    fn add(&mut self, folder: &Path) -> io::Result<()> {
        match self.try_add(folder) {
            Err(e) if e.kind() == ErrorKind::NotFound => {
                self.add(folder.parent().filter(|parent| !parent.as_os_str().is_empty()).ok_or(e)?)?;
                self.try_add(folder)
            }
            done => done,
        }
    }

    fn try_add(&mut self, folder: &Path) -> io::Result<()> {
        match fs::create_dir(folder) {
            Ok(()) => self.0.push(folder.to_owned()),
            Err(_) if folder.is_dir() => {}
            Err(e) => return Err(e),
        }
        Ok(())
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        self.0.iter().rev().for_each(|folder| ignore(fs::remove_dir(folder)));
    }
}

/// Makes the first free one of the folders runs/NAME-1, runs/NAME-2, ...: of several that begin at a time each gets one
/// of its own. It goes again with the value beside it, unless there is something in it.
///
/// # Errors
/// If it cannot be made.
pub fn next_folder(name: &str) -> Result<(PathBuf, Made)> {
    let mut made = Made::folder(Path::new(RUNS))?;
    let mut number = 1;
    loop {
        let folder = Path::new(RUNS).join(format!("{name}-{number}"));
        match fs::create_dir(&folder) {
            Ok(()) => {
                made.0.push(folder.clone());
                return Ok((folder, made));
            }
            Err(e) if e.kind() == ErrorKind::AlreadyExists => number += 1,
            // Another run that learnt nothing took the folder above with it.
            Err(e) if e.kind() == ErrorKind::NotFound => made = Made::folder(Path::new(RUNS))?,
            Err(e) => return Err(Error::write(&folder, e)),
        }
    }
}

/// Refuses a folder with content, for which `--resume` would be needed.
///
/// # Errors
/// If it has content ([`Error::Usage`]); if another process holds it ([`Error::Locked`]).
pub fn vacant(folder: &Path) -> Result<()> {
    if !has_content(folder)? {
        return Ok(());
    }
    if folder.join(LOCK).exists() {
        try_lock(folder)?;
    }
    Err(occupied(folder))
}

fn occupied(folder: &Path) -> Error {
    let hint = "continue it with --resume, or choose another --out";
    Error::Usage(format!("{}: the folder is not empty; {hint}", folder.display()))
}

/// Whether the folder exists and holds anything but the lock file of a run that never began.
fn has_content(folder: &Path) -> Result<bool> {
    let entries = match fs::read_dir(folder) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(false),
        Err(e) if e.kind() == ErrorKind::NotADirectory && folder.exists() => return Err(no_folder(folder)),
        entries => entries.map_err(|e| Error::write(folder, e))?,
    };
    for entry in entries {
        if entry.map_err(|e| Error::io(folder, e))?.file_name() != LOCK {
            return Ok(true);
        }
    }
    Ok(false)
}

fn no_folder(path: &Path) -> Error {
    Error::Usage(format!("{}: is a file; --out must name a folder", path.display()))
}

/// Refuses a folder in which no run has begun that could go on, or whose checkpoints somebody removed: another run
/// would begin at step 0 there, in the place of what is left.
fn is_begun(folder: &Path) -> Result<()> {
    let refused = |reason: String| Err(Error::Usage(format!("{}: {reason}", folder.display())));
    if folder.exists() && !folder.is_dir() {
        return Err(no_folder(folder));
    }
    [METRICS, LOG, LOCK].iter().try_for_each(|name| no_link(&folder.join(name)))?;
    if any(folder)? {
        return Ok(());
    }
    let config = folder.join(CONFIG);
    if !config.is_file() {
        let found = if folder.is_dir() { "holds no run" } else { "does not exist" };
        return refused(format!("{found}; correct the name, or begin a run there without --resume"));
    }
    let interval = Config::resolve(Some(&config.to_string_lossy()), &[])?.train.checkpoint_interval;
    let reached = history::reached(&folder.join(METRICS))?;
    // A run has the folder from the start, and waits for one save before the next.
    // With an interval of 0 there is one at the end alone.
    let most = if interval == 0 { u64::MAX } else { interval.saturating_mul(2) };
    let had_some = reached > 0 && (!folder.join(CHECKPOINTS).is_dir() || reached > most);
    if had_some {
        let hint = "to begin anew, choose another --out";
        return refused(format!("its rows reach step {reached}, but its checkpoints are gone; {hint}"));
    }
    Ok(())
}

/// Refuses a link in the place of a file that a run writes into: it may lead anywhere.
fn no_link(path: &Path) -> Result<()> {
    match path.symlink_metadata() {
        Ok(known) if !known.is_file() => {
            Err(Error::file(path, "is no regular file, and the run would write into it; move it away"))
        }
        _ => Ok(()),
    }
}

/// Makes and locks the folder's lock file.
fn locked(folder: &Path) -> Result<File> {
    loop {
        let file = try_lock(folder)?;
        // A run that learnt nothing removes the file that it holds: whoever had opened it before holds nothing then.
        if is_at(&file, &folder.join(LOCK)) {
            return Ok(file);
        }
    }
}

fn try_lock(folder: &Path) -> Result<File> {
    let path = folder.join(LOCK);
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
    let file = file.map_err(|e| Error::io(&path, e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::Locked { path: folder.to_owned() }),
        Err(TryLockError::Error(e)) => Err(Error::io(path, e)),
    }
}

/// Whether an open file is the one at `path`.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let both = (file.metadata(), fs::metadata(path));
    matches!(both, (Ok(open), Ok(named)) if (open.dev(), open.ino()) == (named.dev(), named.ino()))
}

/// Elsewhere an open file keeps its name.
#[cfg(not(unix))]
fn is_at(_file: &File, _path: &Path) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_folder_with_content_is_refused_and_left_as_it_was() {
        let at = tempfile::tempdir().unwrap();
        fs::write(at.path().join("file"), "x").unwrap();
        let error = Place::of(at.path(), false).unwrap_err();
        assert!(error.exit_code() == 2 && error.to_string().contains("--resume"), "{error}");
        assert_eq!(Place::of(&at.path().join("file"), false).unwrap_err().exit_code(), 2);
        assert_eq!(names(at.path()), ["file"]);
    }

    #[test]
    fn a_place_has_one_owner_at_a_time_and_is_gone_with_an_owner_that_learnt_nothing() {
        let at = tempfile::tempdir().unwrap();
        let folder = at.path().join("runs/first");
        let place = Place::of(&folder, false).unwrap();
        assert_eq!(Place::of(&folder, false).unwrap_err().exit_code(), 6);
        for name in [CONFIG, METRICS, "events.out.tfevents.0000000001.hadal.0000"] {
            fs::write(folder.join(name), "").unwrap();
        }
        drop(place);
        assert!(names(at.path()).is_empty(), "{:?}", names(at.path()));
        let mut place = Place::of(&folder, false).unwrap();
        fs::write(folder.join("somebody's"), "").unwrap();
        fs::write(folder.join(CONFIG), "").unwrap();
        drop(place);
        assert_eq!(names(&folder), ["somebody's"]);
        fs::remove_file(folder.join("somebody's")).unwrap();
        place = Place::of(&folder, false).unwrap();
        place.keep();
        fs::write(folder.join(CONFIG), "").unwrap();
        drop(place);
        assert_eq!(names(&folder), [CONFIG, LOCK]);
    }

    #[test]
    fn nothing_goes_on_where_no_run_has_begun() {
        let at = tempfile::tempdir().unwrap();
        let refused = |folder: &Path, words: &str| {
            let before = folder.is_dir().then(|| names(folder));
            let error = Place::of(folder, true).unwrap_err();
            assert!(error.exit_code() == 2 && error.to_string().contains(words), "{error}");
            assert_eq!(folder.is_dir().then(|| names(folder)), before);
        };
        refused(&at.path().join("typo"), "does not exist");
        refused(at.path(), "holds no run");
        fs::write(at.path().join(METRICS), "1\n2\n").unwrap();
        refused(at.path(), "holds no run");
        fs::write(at.path().join(CONFIG), "name = \"another program's\"").unwrap();
        refused(at.path(), "config.toml");
        assert_eq!(fs::read_to_string(at.path().join(METRICS)).unwrap(), "1\n2\n");
    }

    #[cfg(unix)]
    #[test]
    fn a_link_in_the_place_of_a_file_that_grows_is_refused() {
        for name in [METRICS, LOG, LOCK] {
            let at = tempfile::tempdir().unwrap();
            let run = at.path().join("run");
            fs::create_dir_all(run.join("checkpoints/step-00000001")).unwrap();
            fs::write(at.path().join("precious"), "").unwrap();
            std::os::unix::fs::symlink(at.path().join("precious"), run.join(name)).unwrap();
            let error = Place::of(&run, true).unwrap_err();
            assert!(error.exit_code() == 2 && error.to_string().contains(name), "{error}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_lock_on_a_file_that_was_removed_is_none() {
        let at = tempfile::tempdir().unwrap();
        let lost = try_lock(at.path()).unwrap();
        fs::remove_file(at.path().join(LOCK)).unwrap();
        assert!(!is_at(&lost, &at.path().join(LOCK)));
        let held = locked(at.path()).unwrap();
        assert!(is_at(&held, &at.path().join(LOCK)));
    }
}
