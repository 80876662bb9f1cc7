//! The user's cache folder, for files that can be made again. Other processes write there too, also of other containers
//! and machines that share it: every file is new under a name that nobody can know before, and takes its place whole.
//! A cache costs time where it fails, never the run.

use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use tempfile::NamedTempFile;

/// What the names of files in the making end with.
const UNFINISHED: &str = "tmp"; // and a point before it
/// Age from which a file in the making that nobody holds was left by a process that ended.
const STALE: Duration = Duration::from_secs(60);
/// The same where it cannot be told whether somebody holds it.
const OLD: Duration = Duration::from_secs(24 * 3600);

/// The user's folder for files that can be made again, from the variables of the environment. None where they name
/// none: a folder that all users share would be in anybody's hands.
pub(crate) fn folder(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let absolute = |name: &str| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    match () {
        () if cfg!(windows) => absolute("LOCALAPPDATA"),
        () if cfg!(target_os = "macos") => absolute("HOME").map(|home| home.join("Library/Caches")),
        () => absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache"))),
    }
}

/// A file in the making, which is removed again unless it is [kept](NewFile::keep).
#[derive(Debug)]
pub(crate) struct NewFile {
    file: NamedTempFile,
    path: PathBuf,
}

impl NewFile {
    /// One that is to be at `path`, whose folder is made if it is missing.
    ///
    /// # Errors
    /// If the folder cannot be written to.
    pub fn create(path: PathBuf) -> io::Result<NewFile> {
        let folder = path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder)?;
        let mut builder = tempfile::Builder::new();
        builder.suffix(".tmp");
        // As readable as the process's other files: who shares a cache shares what is in it.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let file = builder.tempfile_in(folder)?;
        let _ = file.as_file().try_lock(); // says that it is held; where locks do not work its age does
        Ok(NewFile { file, path })
    }

    /// The file, to be written and read.
    pub fn as_file(&self) -> &File {
        self.file.as_file()
    }

    /// Gives the file its name, in the place of another of that name.
    ///
    /// # Errors
    /// If the disk fails; the file still is.
    pub fn keep(self) -> Result<File, (io::Error, NewFile)> {
        let NewFile { file, path } = self;
        let file = file.persist(&path).map_err(|e| (e.error, NewFile { file: e.file, path }))?;
        let _ = file.unlock(); // on Windows nobody else could read it
        Ok(file)
    }
}

/// Puts a whole file in the place of `path`. It is not synchronised: a checksum in it must find what a power cut left.
///
/// # Errors
/// If it cannot be written; the old one stays.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = NewFile::create(path.to_owned())?;
    new.as_file().write_all(bytes)?;
    new.keep().map_err(|(e, _)| e)?;
    path.parent().into_iter().for_each(sweep);
    Ok(())
}

/// Removes what processes left in `folder` that ended while they wrote.
pub(crate) fn sweep(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|ending| ending == UNFINISHED)
            && entry.metadata().is_ok_and(|known| known.is_file() && is_left(&path, &known))
        {
            let _ = fs::remove_file(path); // another process may have been faster
        }
    }
}

fn is_left(path: &Path, known: &Metadata) -> bool {
    let age = known.modified().ok().and_then(|time| SystemTime::now().duration_since(time).ok());
    let age = age.unwrap_or_default();
    let is_free = || File::options().write(true).open(path).is_ok_and(|file| file.try_lock().is_ok());
    age > OLD || (age > STALE && is_free())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_as_a_whole_and_its_folder_made() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/pipelines");
        replace(&path, b"old").unwrap();
        replace(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        assert!(replace(&path.join("below a file"), b"x").is_err());
        drop(NewFile::create(path.clone()).unwrap());
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn what_a_killed_process_left_is_removed_and_what_another_writes_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let held = NewFile::create(dir.path().join("held")).unwrap();
        let age = |file: &File, age: Duration| file.set_modified(SystemTime::now() - age).unwrap();
        age(held.as_file(), 2 * STALE);
        for (name, seconds) in [("left.tmp", 120), ("fresh.tmp", 5), ("whole.bin", 120)] {
            age(&File::create(dir.path().join(name)).unwrap(), Duration::from_secs(seconds));
        }
        sweep(dir.path());
        let left = |name: &str| dir.path().join(name).exists();
        assert!(!left("left.tmp") && left("fresh.tmp") && left("whole.bin") && held.file.path().exists());
    }

    #[cfg(unix)]
    #[test]
    fn a_link_in_the_place_of_a_file_is_replaced_and_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (path, victim) = (dir.path().join("tiles"), dir.path().join("precious"));
        fs::write(&victim, "precious").unwrap();
        std::os::unix::fs::symlink(&victim, &path).unwrap();
        replace(&path, b"new").unwrap();
        assert_eq!((fs::read(&victim).unwrap(), fs::read(&path).unwrap()), (b"precious".to_vec(), b"new".to_vec()));
    }

    #[cfg(all(unix, not(target_os = "macos")))]
    #[test]
    fn the_folder_follows_the_environment() {
        let with = |set: &[(&str, &str)]| {
            folder(|name| set.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value)))
        };
        assert_eq!(with(&[("XDG_CACHE_HOME", "/c"), ("HOME", "/h")]), Some("/c".into()));
        assert_eq!(with(&[("XDG_CACHE_HOME", "c"), ("HOME", "/h")]), Some("/h/.cache".into()));
        assert_eq!(with(&[]), None);
    }
}
