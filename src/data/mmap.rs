//! Read-only memory maps: the one place of the data code that needs `unsafe`.
#![allow(unsafe_code, reason = "mapping a file is unsafe: another process might change it under the map")]

use crate::error::{Error, Result};
use memmap2::Mmap;
use std::fs::File;
use std::path::Path;

/// The content of a file, read as it is touched.
pub struct Mapped(Option<Mmap>);

impl Mapped {
    /// Maps `path`, which must be a regular file: pipes and devices have no size to map.
    pub fn open(path: &Path) -> Result<Mapped> {
        let file = File::open(path).map_err(|e| Error::io(path, e))?;
        let meta = file.metadata().map_err(|e| Error::io(path, e))?;
        if !meta.is_file() {
            return Err(Error::file(path, "is not a regular file; give a text file or a folder of them"));
        }
        if meta.len() == 0 {
            return Ok(Mapped(None)); // an empty range cannot be mapped
        }
        // SAFETY: the map is read-only and private to this value. The bytes are checked as UTF-8 and tokenised once,
        // right after opening; the program never writes to its inputs. Somebody else truncating the file in between
        // ends the process with a bus error, which loses nothing: no run has begun then.
        let map = unsafe { Mmap::map(&file) }.map_err(|e| Error::io(path, e))?;
        Ok(Mapped(Some(map)))
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        self.0.as_deref().unwrap_or_default()
    }
}
