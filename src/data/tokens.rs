//! Token numbers, in memory or in a file, read window by window.

use super::blocks::read_at;
use crate::error::{Error, Result};
use std::fs::File;
use std::path::PathBuf;

/// How a number is written, lowest byte first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// 16 bits.
    U16,
    /// 32 bits.
    U32,
    /// 32 bits with a sign.
    I32,
    /// 64 bits.
    U64,
    /// 64 bits with a sign.
    I64,
}

impl Width {
    /// The narrowest that holds the ids of a vocabulary of `size`.
    pub fn of(size: usize) -> Width {
        if size <= 1 << 16 { Width::U16 } else { Width::U32 }
    }

    /// Bytes of a number.
    pub fn bytes(self) -> usize {
        match self {
            Width::U16 => 2,
            Width::U32 | Width::I32 => 4,
            Width::U64 | Width::I64 => 8,
        }
    }

    fn number(self, b: &[u8]) -> i128 {
        match self {
            Width::U16 => u16::from_le_bytes([b[0], b[1]]).into(),
            Width::U32 => u32::from_le_bytes([b[0], b[1], b[2], b[3]]).into(),
            Width::I32 => i32::from_le_bytes([b[0], b[1], b[2], b[3]]).into(),
            Width::U64 => u64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]).into(),
            Width::I64 => i64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]).into(),
        }
    }

    /// Appends `ids` in 16 or 32 bits.
    pub fn write(self, ids: &[u32], bytes: &mut Vec<u8>) {
        match self {
            Width::U16 => ids.iter().for_each(|&id| bytes.extend((id as u16).to_le_bytes())),
            _ => ids.iter().for_each(|&id| bytes.extend(id.to_le_bytes())),
        }
    }
}

/// Where the bytes are.
pub enum Store {
    /// In memory.
    Memory(Vec<u8>),
    /// In a file that is kept open: the cache may be emptied at any time, and other files have no name.
    Held(File),
    /// In a file of the user's, opened for each read: there may be more of them than may be open.
    Named,
}

/// A run of token numbers.
pub struct Tokens {
    /// The file, for errors.
    pub path: PathBuf,
    /// The bytes.
    pub store: Store,
    /// Where in them the first number is.
    pub offset: u64,
    /// How numbers are written.
    pub width: Width,
    /// Numbers.
    pub count: u64,
    /// Ids are below this.
    pub vocab: usize,
}

impl Tokens {
    /// Appends the `n` tokens from number `start` on to `ids`.
    ///
    /// # Errors
    /// If the file cannot be read, has become shorter, or has a number that is no id of the vocabulary.
    pub fn read(&self, start: u64, n: usize, ids: &mut Vec<u32>) -> Result<()> {
        let width = self.width.bytes();
        let at = self.offset + start * width as u64;
        let mut buffer = Vec::new();
        let bytes = match &self.store {
            Store::Memory(bytes) => &bytes[at as usize..][..n * width],
            Store::Held(file) => self.fill(file, &mut buffer, n * width, at)?,
            Store::Named => {
                let file = File::open(&self.path).map_err(|e| Error::io(&self.path, e))?;
                self.fill(&file, &mut buffer, n * width, at)?
            }
        };
        ids.reserve(n);
        for (i, bytes) in bytes.chunks_exact(width).enumerate() {
            let id = self.width.number(bytes);
            if !(0..self.vocab as i128).contains(&id) {
                let (place, size) = (start + i as u64, self.vocab);
                let reason = format!(
                    "token {id} at position {place} is beyond the vocabulary of {size} tokens; give the tokenizer that \
                     the file was made with"
                );
                return Err(Error::file(&self.path, reason));
            }
            ids.push(id as u32);
        }
        Ok(())
    }

    fn fill<'b>(&self, file: &File, buffer: &'b mut Vec<u8>, n: usize, at: u64) -> Result<&'b [u8]> {
        buffer.resize(n, 0);
        read_at(file, buffer, at).map_err(|e| match e.kind() {
            std::io::ErrorKind::UnexpectedEof => Error::file(&self.path, "has become shorter since it was opened"),
            _ => Error::io(&self.path, e),
        })?;
        Ok(buffer)
    }
}
