//! A file that a run appends to for as long as it trains. A disk that is full must not end it: what cannot be written
//! waits in memory, in order, until the disk takes it again.

use crate::error::{Error, Result};
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

/// A growing file.
#[derive(Debug)]
pub(super) struct Appender<F: Write = File> {
    path: PathBuf,
    file: F,
    /// Pieces that are not written, the first of them perhaps in part.
    waiting: VecDeque<Vec<u8>>,
    /// Bytes of the first piece that are.
    sent: usize,
}

impl Appender {
    /// Opens `path`, or makes it.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn open(path: &Path) -> Result<Appender> {
        let file = OpenOptions::new().append(true).create(true).open(path).map_err(|e| Error::io(path, e))?;
        Ok(Appender::to(path, file))
    }

    /// Opens the file anew that is at the path now.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn reopen(&mut self) -> Result<()> {
        self.file = Appender::open(&self.path)?.file;
        Ok(())
    }
}

impl<F: Write> Appender<F> {
    /// Appends to `file`, which is at `path`.
    pub fn to(path: &Path, file: F) -> Appender<F> {
        Appender { path: path.to_owned(), file, waiting: VecDeque::new(), sent: 0 }
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends a piece, or keeps it for later.
    ///
    /// # Errors
    /// If the disk did not take all of it, and of what waited before.
    pub fn append(&mut self, piece: Vec<u8>) -> Result<()> {
        self.waiting.push_back(piece);
        self.flush()
    }

    /// Writes what waits.
    ///
    /// # Errors
    /// If the disk did not take all of it.
    pub fn flush(&mut self) -> Result<()> {
        while let Some(piece) = self.waiting.front() {
            // A single write as a rule: a reader sees the whole piece or, after a crash, a torn one at the end.
            match self.file.write(&piece[self.sent..]) {
                Ok(0) if self.sent < piece.len() => {
                    return Err(Error::write(&self.path, io::Error::from(ErrorKind::WriteZero)));
                }
                Ok(written) => self.sent += written,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(Error::write(&self.path, e)),
            }
            if self.sent == piece.len() {
                self.waiting.pop_front();
                self.sent = 0;
            }
        }
        Ok(())
    }

    /// Of what waits keeps these pieces alone, each as a whole: what was written of the first was cut off the file.
    pub fn retain(&mut self, keep: impl FnMut(&Vec<u8>) -> bool) {
        self.sent = 0;
        self.waiting.retain(keep);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk with room for so many bytes.
    struct Small {
        room: usize,
        written: Vec<u8>,
    }

    impl Write for Small {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let taken = bytes.len().min(self.room);
            if taken == 0 {
                return Err(ErrorKind::StorageFull.into());
            }
            self.room -= taken;
            self.written.extend_from_slice(&bytes[..taken]);
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_a_full_disk_does_not_take_is_written_later_and_in_order() {
        let mut appender = Appender::to(Path::new("rows"), Small { room: 7, written: Vec::new() });
        assert!(appender.append(b"one\n".to_vec()).is_ok());
        let error = appender.append(b"two\n".to_vec()).unwrap_err();
        assert!(error.exit_code() == 5 && error.to_string().contains("rows"), "{error}");
        assert!(appender.append(b"three\n".to_vec()).is_err());
        assert_eq!(appender.file.written, b"one\ntwo");
        appender.file.room = 100;
        assert!(appender.append(b"four\n".to_vec()).is_ok());
        assert_eq!(appender.file.written, b"one\ntwo\nthree\nfour\n");
    }
}
