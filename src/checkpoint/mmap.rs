//! Read-only memory maps.
#![allow(unsafe_code, reason = "mapping a file is unsafe by nature; the SAFETY paragraph says what is relied on")]

use crate::error::{Error, Result};
use crate::input;
use memmap2::Mmap;
use std::path::Path;

/// Maps the regular file `path` for reading. An empty file gives an empty slice.
pub(super) fn map(path: &Path) -> Result<Mmap> {
    let io = |e| Error::io(path, e);
    let file = input::open(path)?;
    // SAFETY: the map is read-only and private to this process, and its bytes are only ever read as `u8`, for which
    // every pattern is valid; nothing is assumed to stay as it was checked, since all indexing stays inside the slice
    // that was mapped. What remains is that another program truncates the file while it is mapped: the operating
    // system then ends this process with a signal. Our own writers never do that: they replace files by renaming.
    unsafe { Mmap::map(&file) }.map_err(io)
}
