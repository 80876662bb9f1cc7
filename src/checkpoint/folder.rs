//! Model folders: what of one may be read, and new ones that appear as a whole.

use super::disk::{hidden_beside, sync_folder};
use super::draft::{RANDOM_DIGITS, random};
use crate::error::{Error, Result};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Names that are devices on Windows, whatever ending follows.
const DEVICES: [&str; 6] = ["con", "prn", "aux", "nul", "com", "lpt"];

/// What follows a folder's name while it is filled, before random digits.
const UNFINISHED: &str = ".tmp-";

/// Whether a name that a file gives for another is a plain file name on every system: no path, nothing hidden, no
/// device, none of the characters that mean something to a shell.
pub(super) fn is_plain(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let stem = name.split('.').next().unwrap_or_default().to_ascii_lowercase();
    let device = DEVICES.contains(&stem.trim_end_matches(|c: char| c.is_ascii_digit()));
    (1..=255).contains(&name.len()) && name.chars().all(plain) && !stem.is_empty() && !name.ends_with('.') && !device
}

/// The path of `file` in `folder`, which must be there and must not be a link that leads to another folder.
pub fn inside(folder: &Path, file: &str) -> Result<PathBuf> {
    let path = folder.join(file);
    let real = |path: &Path| fs::canonicalize(path).map_err(|e| Error::io(path, e));
    let target = real(&path)?;
    let folder = real(folder)?;
    let allowed = [Some(folder.clone()), blobs_beside(&folder)];
    if !allowed.iter().any(|folder| folder.is_some() && target.parent() == folder.as_deref()) {
        return Err(Error::file(&path, "is a link that leaves its folder; replace it by the file itself"));
    }
    Ok(path)
}

/// As [`inside`] for a file that may be absent. A link that leads nowhere is not absent but an error.
pub fn inside_if_there(folder: &Path, file: &str) -> Result<Option<PathBuf>> {
    match fs::symlink_metadata(folder.join(file)) {
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(e) => Err(Error::io(folder.join(file), e)),
        Ok(_) => inside(folder, file).map(Some),
    }
}

/// In the Hub's download cache `snapshots/REVISION` holds links into `blobs`, two folders up.
fn blobs_beside(folder: &Path) -> Option<PathBuf> {
    let snapshots = folder.parent().filter(|parent| parent.file_name().is_some_and(|name| name == "snapshots"))?;
    Some(snapshots.parent()?.join("blobs"))
}

/// Makes the folder `path`, which must not exist or be empty, through `fill`: it fills a hidden folder beside `path`,
/// which then gets its name. After a failure neither is there; what a kill left is removed by the next one of this
/// name.
pub fn new_folder<T>(path: &Path, fill: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
    check_free(path)?;
    let made = |e| Error::write(path, e);
    remove_leftovers(path)?;
    // Nobody can have made a folder of this name, or have put a link in its place.
    let temporary = hidden_beside(path, &(UNFINISHED.to_owned() + &random()))?;
    fs::create_dir(&temporary).map_err(made)?;
    let done = fill(&temporary).and_then(|filled| {
        if path.is_dir() {
            fs::remove_dir(path).map_err(made)?; // empty; not every system renames over it
        }
        fs::rename(&temporary, path).map_err(made)?;
        Ok(filled)
    });
    if done.is_err() {
        // The first error is the one to report.
        let _ = remove(&temporary);
        return done;
    }
    sync_folder(path)?;
    done
}

/// Removes the folders in which [`new_folder`] was filling `path` when its process was killed.
fn remove_leftovers(path: &Path) -> Result<()> {
    let one = hidden_beside(path, &(UNFINISHED.to_owned() + &random()))?;
    let one = one.file_name().unwrap_or_default().to_string_lossy();
    let begin = &one[..one.len() - RANDOM_DIGITS];
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    for entry in fs::read_dir(parent).map_err(|e| Error::io(parent, e))?.flatten() {
        let name = entry.file_name();
        let random = name.to_str().and_then(|name| name.strip_prefix(begin));
        if random.is_some_and(|random| random.len() == RANDOM_DIGITS && u64::from_str_radix(random, 16).is_ok()) {
            remove(&entry.path()).map_err(|e| Error::write(path, e))?;
        }
    }
    Ok(())
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e),
        Ok(known) if known.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
    }
}

/// Whether [`new_folder`] can make `path`, as far as can be told before.
pub fn check_free(path: &Path) -> Result<()> {
    match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) if !parent.is_dir() => return Err(Error::file(parent, "is not a folder; make it first")),
        _ => {}
    }
    match fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(Error::io(path, e)),
        Ok(known) if !known.is_dir() => Err(Error::file(path, "is there and no folder; name a new one")),
        Ok(_) => match fs::read_dir(path).map_err(|e| Error::io(path, e))?.next() {
            None => Ok(()),
            Some(_) => Err(Error::file(path, "is not empty; name a new or an empty folder")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_file_names_are_plain_on_every_system() {
        for name in ["model.safetensors", "a", "model-00001-of-00002.safetensors", "console.json", "com.b"] {
            assert_eq!(is_plain(name), name != "com.b", "{name}");
        }
        let long = "a".repeat(256);
        for name in [
            "",
            ".",
            "..",
            ".a",
            "a.",
            "../a",
            "a/b",
            "/a",
            "a\\b",
            "\\\\host\\a",
            "\\\\?\\C:\\a",
            "C:a",
            "a:b",
            "a\0",
            "a\n",
            "a b",
            "~",
            "NUL",
            "nul.json",
            "Com1.safetensors",
            "LPT9",
            "aux.a.b",
            "\u{e9}",
            &long,
        ] {
            assert!(!is_plain(name), "{name:?}");
        }
    }

    #[test]
    fn a_folder_appears_as_a_whole_or_not_at_all() {
        let at = tempfile::tempdir().unwrap();
        let path = at.path().join("new");
        let half = |folder: &Path| fs::write(folder.join("a"), "half").unwrap();
        let failed: Result<()> = new_folder(&path, |folder| {
            half(folder);
            assert!(!path.exists());
            Err(Error::Usage("stopped".to_owned()))
        });
        assert!(failed.is_err());
        assert_eq!(fs::read_dir(at.path()).unwrap().count(), 0);
        fs::create_dir(&path).unwrap();
        let others = [".new.tmp", ".new.tmp-mine", ".newer.tmp-0123456789abcdef"];
        for name in others.iter().chain(&[".new.tmp-0123456789abcdef"]) {
            fs::create_dir(at.path().join(name)).unwrap();
            half(&at.path().join(name));
        }
        new_folder(&path, |folder| fs::write(folder.join("b"), "").map_err(|e| Error::io(folder, e))).unwrap();
        let names: Vec<_> = fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["b"]);
        let mut left: Vec<_> = fs::read_dir(at.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, [others[0], others[1], others[2], "new"], "others' folders stay");
    }

    #[test]
    fn what_is_there_is_never_replaced() {
        let at = tempfile::tempdir().unwrap();
        let full = at.path().join("full");
        fs::create_dir(&full).unwrap();
        fs::write(full.join("a"), "").unwrap();
        for (path, word) in
            [(full.clone(), "not empty"), (full.join("a"), "no folder"), (at.path().join("x/y"), "make it first")]
        {
            let error = new_folder(&path, |_| -> Result<()> { panic!("filled") }).unwrap_err();
            assert!(error.exit_code() == 2 && error.to_string().contains(word), "{error}");
        }
    }
}
