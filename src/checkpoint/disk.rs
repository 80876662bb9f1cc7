//! Files that are replaced as a whole.

use crate::error::{Error, Result};
use std::fs::{self, File, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

/// Bytes handed to the writing thread at a time.
const PIECE: usize = 4 << 20;
/// Pieces that wait for it at most.
const PIECES_WAITING: usize = 4;
/// Bytes of a file's name, on the file systems in use.
const LONGEST_NAME: usize = 255;
/// Bytes written between two synchronisations.
const SYNCHRONISED: usize = 256 << 20;

/// Writes `path` through `write` so that, whatever happens, either the old file or the complete new one is there: a
/// temporary file beside it, synchronised, then renamed, then its folder synchronised.
///
/// One process at a time may write a given path: the temporary name is fixed, so a leftover is replaced, not piled up.
pub fn replace_file(path: &Path, write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    let temporary = hidden_beside(path, ".tmp")?;
    let made = |e| Error::write(path, e);
    let done = write_new(&temporary, made, write).and_then(|()| fs::rename(&temporary, path).map_err(made));
    if done.is_err() {
        // The first error is the one to report.
        let _ = fs::remove_file(&temporary);
        return done;
    }
    sync_folder(path)
}

/// Writes `text` to `path` as [`replace_file`] does.
pub fn replace_text(path: &Path, text: &str) -> Result<()> {
    replace_file(path, |out| out.write_all(text.as_bytes()).map_err(|e| Error::io(path, e)))
}

/// The hidden name `.NAMEending` beside `path`; of a name that leaves no room for more, with a hash in its place.
pub(super) fn hidden_beside(path: &Path, ending: &str) -> Result<PathBuf> {
    let Some(name) = path.file_name() else {
        return Err(Error::file(path, "is no file name; give a path that ends in one"));
    };
    let mut hidden = std::ffi::OsString::from(".");
    match ".".len() + name.len() + ending.len() <= LONGEST_NAME {
        true => hidden.push(name),
        false => {
            let mut hash = DefaultHasher::new();
            name.hash(&mut hash);
            hidden.push(format!("{:016x}", hash.finish()));
        }
    }
    hidden.push(ending);
    Ok(path.with_file_name(hidden))
}

fn write_new(
    temporary: &Path,
    io: impl Fn(io::Error) -> Error + Copy,
    write: impl FnOnce(&mut dyn Write) -> Result<()>,
) -> Result<()> {
    // Removed and created anew, so that a link planted under this name is not followed.
    match fs::remove_file(temporary) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(io(e)),
        _ => {}
    }
    let file = OpenOptions::new().write(true).create_new(true).open(temporary).map_err(io)?;
    pour(Box::new(file), io, |_| {}, write)
}

/// A file that is being written.
pub trait NewFile: Write + Send {
    /// Waits until what was written is on the disk.
    fn synchronise(&mut self) -> io::Result<()>;
}

impl NewFile for File {
    fn synchronise(&mut self) -> io::Result<()> {
        self.sync_all()
    }
}

/// Fills `file` through `write` and synchronises it. A thread of its own shows each piece to `seen` and writes it.
pub(super) fn pour(
    file: Box<dyn NewFile>,
    io: impl Fn(io::Error) -> Error + Copy,
    seen: impl FnMut(&[u8]) + Send,
    write: impl FnOnce(&mut dyn Write) -> Result<()>,
) -> Result<()> {
    std::thread::scope(|scope| {
        let (full, pieces) = sync_channel(PIECES_WAITING);
        let (give_back, spare) = channel();
        let writer = scope.spawn(move || drain(file, seen, &pieces, &give_back));
        let mut out = Pieces { full, spare, piece: Vec::new() };
        let made = write(&mut out).and_then(|()| out.flush().map_err(io));
        drop(out); // the writer ends after the last piece
        let written = writer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        written.map_err(io).and(made) // a full disk is the writer's to report; the maker only sees that it left
    })
}

/// Writes pieces as they come, synchronising often enough that the disk is at work from the start.
fn drain(
    mut file: Box<dyn NewFile>,
    mut seen: impl FnMut(&[u8]),
    pieces: &Receiver<Vec<u8>>,
    give_back: &Sender<Vec<u8>>,
) -> io::Result<()> {
    let mut unsynchronised = 0;
    for mut piece in pieces {
        seen(&piece);
        file.write_all(&piece)?;
        unsynchronised += piece.len();
        if unsynchronised >= SYNCHRONISED {
            file.synchronise()?;
            unsynchronised = 0;
        }
        piece.clear();
        let _ = give_back.send(piece); // unless nobody needs it any more
    }
    file.synchronise()
}

/// Collects bytes into pieces for a writing thread: making data and writing them take turns otherwise.
struct Pieces {
    full: SyncSender<Vec<u8>>,
    spare: Receiver<Vec<u8>>,
    piece: Vec<u8>,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(PIECE - self.piece.len());
        self.piece.extend_from_slice(&bytes[..taken]);
        if self.piece.len() == PIECE {
            self.flush()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        let next = self.spare.try_recv().unwrap_or_default();
        let piece = std::mem::replace(&mut self.piece, next);
        self.full.send(piece).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// Synchronises the folder that `path` is in, after a rename there.
pub(super) fn sync_folder(path: &Path) -> Result<()> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    sync_entries(folder).map_err(|e| Error::io(folder, e))
}

/// Synchronises the names in `folder`.
#[cfg(unix)]
pub(super) fn sync_entries(folder: &Path) -> io::Result<()> {
    File::open(folder).and_then(|f| f.sync_all())
}

/// Other systems offer no handle on a folder to synchronise; the rename itself is all there is.
#[cfg(not(unix))]
pub(super) fn sync_entries(_folder: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        replace_text(&path, "old").unwrap();
        let failed = replace_file(&path, |out| {
            out.write_all(b"half of the new").unwrap();
            Err(Error::Usage("stopped".to_owned()))
        });
        assert!(failed.is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn names_may_be_as_long_as_the_file_system_takes_them() {
        let dir = tempfile::tempdir().unwrap();
        for length in [249, 250, 251, 255] {
            let path = dir.path().join("n".repeat(length));
            replace_text(&path, "text").unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), "text");
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 4);
    }

    #[test]
    fn a_leftover_of_a_killed_writer_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(".a.json.tmp"), "leftover").unwrap();
        replace_text(&dir.path().join("a.json"), "new").unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("a.json")).unwrap(), "new");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
