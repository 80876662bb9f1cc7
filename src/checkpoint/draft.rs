//! New checkpoint folders: filled under a temporary name, sealed by a manifest, and then given their own.

use super::disk::{NewFile, pour, replace_file, sync_entries};
use super::manifest::{Count, Listed, MANIFEST, Manifest, verify};
use crate::error::{Error, Result};
use std::fs::{self, OpenOptions};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// What a checkpoint asks of the file system. Tests put one in its place that fails.
pub trait Disk: Send + Sync {
    /// Makes a folder; an error if anything has its name.
    fn create_folder(&self, path: &Path) -> io::Result<()>;
    /// Makes a file; an error if anything has its name, so that no link is followed.
    fn create_file(&self, path: &Path) -> io::Result<Box<dyn NewFile>>;
    /// Renames a folder.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Waits until the names in a folder are on the disk.
    fn synchronise_folder(&self, path: &Path) -> io::Result<()>;
    /// Removes a folder with all that is in it, or a link, which it does not follow.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Bytes that may still be written in a folder, where that is known.
    fn free(&self, path: &Path) -> Option<u64>;
}

/// The operating system's.
pub struct SystemDisk;

impl Disk for SystemDisk {
    fn create_folder(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)
    }

    fn create_file(&self, path: &Path) -> io::Result<Box<dyn NewFile>> {
        Ok(Box::new(OpenOptions::new().write(true).create_new(true).open(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn synchronise_folder(&self, path: &Path) -> io::Result<()> {
        sync_entries(path)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        match fs::symlink_metadata(path)?.is_dir() {
            true => fs::remove_dir_all(path),
            false => fs::remove_file(path),
        }
    }

    fn free(&self, path: &Path) -> Option<u64> {
        fs4::available_space(path).ok()
    }
}

/// Where a file is written to.
pub trait Target {
    /// Its name, for messages.
    fn path(&self) -> PathBuf;
    /// Makes the file through `write`; after an error it is not there, or the old one is.
    fn write(self, write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()>;
}

impl<P: AsRef<Path> + ?Sized> Target for &P {
    fn path(&self) -> PathBuf {
        self.as_ref().to_path_buf()
    }

    fn write(self, write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
        replace_file(self.as_ref(), write)
    }
}

/// A folder in the making. Dropped before [`Draft::finish`], it is removed again.
pub struct Draft<'d> {
    disk: &'d dyn Disk,
    /// Where it is filled.
    path: PathBuf,
    /// The name it gets.
    target: PathBuf,
    files: Vec<Listed>,
    renamed: bool,
}

impl<'d> Draft<'d> {
    /// An empty folder beside `target`, as `NAME.tmp-RANDOM`.
    pub fn new(disk: &'d dyn Disk, target: &Path) -> Result<Self> {
        let path = beside(target, "tmp");
        disk.create_folder(&path).map_err(|e| Error::write(&path, e))?;
        Ok(Draft { disk, path, target: target.to_owned(), files: Vec::new(), renamed: false })
    }

    /// A file of the folder, to be written; its size and hash are taken on the way.
    pub fn file<'a>(&'a mut self, name: &'a str) -> Slot<'a, 'd> {
        Slot { draft: self, name }
    }

    /// Writes a file that holds `text`.
    pub fn text(&mut self, name: &str, text: &str) -> Result<()> {
        let path = self.path.join(name);
        self.file(name).write(|out| out.write_all(text.as_bytes()).map_err(|e| Error::io(path, e)))
    }

    /// Adds the manifest and gives the folder its name; everything is on the disk then.
    ///
    /// A folder that has the name already stays if it is sound and holds the same files; the new one is then removed.
    /// Any other is set aside as `NAME.old-RANDOM` before the new one takes the name, and removed after.
    pub fn finish(mut self, step: u64) -> Result<()> {
        let manifest = Manifest::new(step, self.files.clone())?;
        self.text(MANIFEST, &manifest.text()?)?;
        let disk = self.disk;
        disk.synchronise_folder(&self.path).map_err(|e| Error::write(&self.path, e))?;
        let made = |e| Error::write(&self.target, e);
        let mut aside = None;
        if fs::symlink_metadata(&self.target).is_ok() {
            if verify(&self.target, &[]).is_ok_and(|old| old.is_some_and(|old| old == manifest)) {
                return Ok(());
            }
            let old = beside(&self.target, "old");
            disk.rename(&self.target, &old).map_err(made)?;
            aside = Some(old);
        }
        if let Err(e) = disk.rename(&self.path, &self.target) {
            if let Some(old) = &aside {
                let _ = disk.rename(old, &self.target); // the first error is the one to report
            }
            return Err(made(e));
        }
        self.renamed = true;
        let parent = self.target.parent().unwrap_or(Path::new("."));
        disk.synchronise_folder(parent).map_err(made)?;
        aside.map_or(Ok(()), |old| disk.remove(&old).map_err(|e| Error::write(&old, e)))
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        if !self.renamed {
            let _ = self.disk.remove(&self.path); // else the next save removes it
        }
    }
}

/// A file of a [`Draft`] that is to be written.
pub struct Slot<'a, 'd> {
    draft: &'a mut Draft<'d>,
    name: &'a str,
}

impl Target for Slot<'_, '_> {
    fn path(&self) -> PathBuf {
        self.draft.path.join(self.name)
    }

    fn write(self, write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
        let path = self.path();
        let io = |e| Error::write(&path, e);
        let file = self.draft.disk.create_file(&path).map_err(io)?;
        let mut count = Count::default();
        pour(file, io, |bytes| count.add(bytes), write)?;
        self.draft.files.push(count.listed(self.name));
        Ok(())
    }
}

/// Removes a folder; until it is gone it is called `NAME.old-RANDOM`, so that half of it is never taken for the whole.
pub fn retire(disk: &dyn Disk, path: &Path) -> Result<()> {
    let old = beside(path, "old");
    disk.rename(path, &old).and_then(|()| disk.remove(&old)).map_err(|e| Error::write(path, e))
}

/// `NAME.KIND-RANDOM`.
fn beside(target: &Path, kind: &str) -> PathBuf {
    let mut name = target.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{kind}-{}", random()));
    target.with_file_name(name)
}

/// Digits of [`random`].
pub(super) const RANDOM_DIGITS: usize = 16;

/// Hexadecimal digits that nobody can know before.
pub(super) fn random() -> String {
    format!("{:016x}", RandomState::new().build_hasher().finish())
}

/// The name that a leftover of a killed [`Draft`] was meant to get; nothing if `name` is no leftover's.
pub fn leftover(name: &str) -> Option<&str> {
    let (target, rest) = name.split_once('.')?;
    let random = rest.strip_prefix("tmp-").or(rest.strip_prefix("old-"))?;
    let hexadecimal = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    (random.len() == RANDOM_DIGITS && random.bytes().all(hexadecimal)).then_some(target)
}
