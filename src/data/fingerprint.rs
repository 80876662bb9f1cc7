//! What a run learns from, in a few bytes: a checkpoint keeps them, so that data which changed between a stop and
//! `--resume` are noticed.

use super::blocks::{BLOCK, read_at};
use super::files::{Found, Tell, find_all};
use super::problems::Problems;
use crate::config::data::DataConfig;
use crate::error::{Error, Result};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::path::Path;

/// Blocks of a file that are looked at: all of those below 1 GiB, and of larger ones so many, evenly spread.
const MOST_BLOCKS: u64 = 1024;

/// What stood under a key of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fingerprint {
    /// The key, such as `data.path`.
    key: String,
    /// Which of the paths under that key, from 0 on.
    number: usize,
    /// Files.
    files: u64,
    /// Bytes of them.
    bytes: u64,
    /// Hash of what is in them, in hexadecimal.
    hash: String,
}

impl Fingerprint {
    /// That of each path of `config`; none of the embedded world.
    ///
    /// # Errors
    /// If files cannot be read.
    pub fn of_data(config: &DataConfig) -> Result<Vec<Fingerprint>> {
        let mut all = Vec::new();
        let keys = [("data.path", &config.path, &config.val_path[..]), ("data.val_path", &config.val_path, &[])];
        for (key, paths, but) in keys.into_iter().filter(|_| !config.path.is_empty()) {
            let mut problems = Problems::default();
            let found = find_all(paths, but, Tell::Nothing, &mut problems)?;
            problems.finish()?;
            for (number, files) in found.iter().enumerate() {
                let mut hasher = Sha256::new();
                files.iter().try_for_each(|file| of_file(file, &mut hasher))?;
                let bytes = files.iter().map(|file| file.bytes).sum();
                all.push(Fingerprint::new(key, number, files.len() as u64, bytes, hasher));
            }
        }
        Ok(all)
    }

    /// That of a text which the file under `key` holds.
    pub fn of_text(key: &str, text: &str) -> Fingerprint {
        Fingerprint::new(key, 0, 1, text.len() as u64, Sha256::new_with_prefix(text))
    }

    fn new(key: &str, number: usize, files: u64, bytes: u64, hasher: Sha256) -> Fingerprint {
        let hash = hasher.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        Fingerprint { key: key.to_owned(), number, files, bytes, hash }
    }
}

fn of_file(found: &Found, hasher: &mut Sha256) -> Result<()> {
    let io = |e| Error::io(&found.path, e);
    let file = std::fs::File::open(&found.path).map_err(io)?;
    let blocks = found.bytes.div_ceil(BLOCK as u64);
    let looked_at = blocks.min(MOST_BLOCKS);
    let block = |i: u64| {
        // The first and the last are among them.
        let number =
            if looked_at < 2 { i } else { (u128::from(i) * u128::from(blocks - 1) / u128::from(looked_at - 1)) as u64 };
        let at = number * BLOCK as u64;
        let mut bytes = vec![0; (found.bytes - at).min(BLOCK as u64) as usize];
        read_at(&file, &mut bytes, at).map(|()| Sha256::digest(&bytes))
    };
    hasher.update(found.bytes.to_le_bytes());
    let hashes: Vec<_> = (0..looked_at).into_par_iter().map(block).collect::<std::io::Result<_>>().map_err(io)?;
    hashes.into_iter().for_each(|hash| hasher.update(hash));
    Ok(())
}

/// What differs between the inputs of a run so far and those that it would go on with, in words; `path` tells what
/// stands under a key and a number now. What only one of both has is told by the configuration.
pub fn changes<'p>(
    old: &[Fingerprint],
    new: &[Fingerprint],
    path: impl Fn(&str, usize) -> Option<&'p Path>,
) -> Vec<String> {
    let changed = |new: &Fingerprint| {
        let old = old.iter().find(|old| (&old.key, old.number) == (&new.key, new.number))?;
        let size = |one: &Fingerprint| match one.files {
            1 => format!("{} bytes", one.bytes),
            files => format!("{files} files of {} bytes", one.bytes),
        };
        let how = match (old == new, size(old) == size(new)) {
            (true, _) => return None,
            (false, true) => format!("{} with another content", size(new)),
            (false, false) => format!("{} where it was {}", size(new), size(old)),
        };
        let name = path(&new.key, new.number).map_or(String::new(), |path| format!(" {}", path.display()));
        Some(format!("{}{name} is {how}", new.key))
    };
    new.iter().filter_map(changed).collect()
}
