//! Reading at any place of a file, and its hash.
//!
//! Files are read rather than mapped: pages of a map count as the program's own memory, and a file that somebody cuts
//! off would end the program.

use rayon::prelude::*;
use std::collections::hash_map::DefaultHasher;
use std::fs::File;
use std::hash::Hasher;
use std::io::Result;

/// Bytes that are hashed on their own, so that several are at a time.
pub const BLOCK: usize = 1 << 20;

/// Fills `bytes` from `at` on.
pub fn read_at(file: &File, bytes: &mut [u8], at: u64) -> Result<()> {
    #[cfg(unix)]
    {
        std::os::unix::fs::FileExt::read_exact_at(file, bytes, at)
    }
    #[cfg(windows)]
    {
        let mut done = 0;
        while done < bytes.len() {
            match std::os::windows::fs::FileExt::seek_read(file, &mut bytes[done..], at + done as u64)? {
                0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                n => done += n,
            }
        }
        Ok(())
    }
}

/// Hash of a stream: of the hashes of its blocks.
#[derive(Default)]
pub struct StreamHash(DefaultHasher);

impl StreamHash {
    /// Takes in the next block, of [`BLOCK`] bytes unless it is the last.
    pub fn block(&mut self, bytes: &[u8]) {
        self.0.write_u64(of_block(bytes));
    }

    /// The hash of all blocks.
    pub fn finish(&self) -> u64 {
        self.0.finish()
    }
}

fn of_block(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

/// [`StreamHash`] of the `length` bytes of `file` from `start` on, on all cores.
pub fn hash(file: &File, start: u64, length: u64) -> Result<u64> {
    let block = |i: u64| {
        let at = i * BLOCK as u64;
        let mut bytes = vec![0; (length - at).min(BLOCK as u64) as usize];
        read_at(file, &mut bytes, start + at).map(|()| of_block(&bytes))
    };
    let blocks: Vec<u64> = (0..length.div_ceil(BLOCK as u64)).into_par_iter().map(block).collect::<Result<_>>()?;
    let mut stream = StreamHash::default();
    blocks.into_iter().for_each(|hash| stream.0.write_u64(hash));
    Ok(stream.finish())
}
