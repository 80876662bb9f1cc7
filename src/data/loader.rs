//! What the JSON lines of files hold, each line made into one thing, in memory; and what is wrong with the lines, all
//! of it at once.

use super::files::{Found, Kind, Tell, find_all};
use super::problems::Problems;
use super::reader::{Batch, Reader};
use crate::error::{Error, Result};
use crate::terminal::{note, printable};
use crate::tokenizer::Cuts;
use rayon::prelude::*;
use std::path::PathBuf;

/// Makes a thing of a line, and says whether it was cut; none where nothing in it counts. What is wrong with the line
/// otherwise, in words that follow its number.
pub type Make<'m, T> = &'m (dyn Fn(&[u8]) -> std::result::Result<Option<(T, bool)>, String> + Sync);

/// What was found in files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Files.
    pub files: usize,
    /// Things that were made.
    pub made: usize,
    /// Of these cut on the right.
    pub cut: usize,
    /// Lines left out, since nothing in them counts.
    pub dropped: usize,
    /// Lines left out as unusable.
    pub bad: usize,
}

/// Reads files and counts what is wrong with their lines.
pub struct Loader<'m, T> {
    what: &'static str,
    make: Make<'m, T>,
    lines: Problems,
    counts: Counts,
}

impl<'m, T: Send> Loader<'m, T> {
    /// A loader of `what`, for errors, which `make` makes of lines.
    pub fn new(what: &'static str, make: Make<'m, T>) -> Loader<'m, T> {
        Loader { what, make, lines: Problems::default(), counts: Counts::default() }
    }

    /// What is in each of `paths`, without the files of `but`.
    ///
    /// # Errors
    /// If files cannot be read, or hold no JSON lines.
    pub fn load(&mut self, paths: &[PathBuf], but: &[PathBuf]) -> Result<Vec<Vec<T>>> {
        let mut problems = Problems::default();
        let sources = find_all(paths, but, Tell::Notes, &mut problems)?;
        for other in sources.iter().filter_map(|files| files.iter().find(|file| file.kind != Kind::Lines)) {
            let reason = format!("holds no {}; they come as JSON lines in .jsonl, or a list in .json", self.what);
            problems.add(Error::file(&other.path, reason))?;
        }
        problems.finish()?;
        sources.iter().map(|files| self.read(files)).collect()
    }

    fn read(&mut self, files: &[Found]) -> Result<Vec<T>> {
        self.counts.files += files.len();
        let (mut reader, mut batch, mut all) = (Reader::new(files, Cuts::default()), Batch::default(), Vec::new());
        let make = self.make;
        while reader.next(&mut batch, &mut self.lines)? {
            let bytes = &batch.bytes;
            let made: Vec<_> = batch.parts.par_iter().map(|part| make(&bytes[part.range.clone()])).collect();
            for (part, made) in batch.parts.iter().zip(made) {
                let Some(place) = part.what.place() else { continue };
                match made {
                    Ok(None) => self.counts.dropped += 1,
                    Ok(Some((thing, cut))) => {
                        self.counts.made += 1;
                        self.counts.cut += usize::from(cut);
                        all.push(thing);
                    }
                    Err(reason) => {
                        let path = &files[part.file].path;
                        self.lines.add(Error::file(path, format!("{place} {reason}")))?;
                    }
                }
            }
        }
        Ok(all)
    }

    /// What was counted.
    ///
    /// # Errors
    /// If more lines than `allowed` are unusable.
    pub fn finish(mut self, allowed: usize) -> Result<Counts> {
        let bad = self.lines.count();
        if bad > allowed {
            let advice = format!("; mend them, or leave them out with --max-bad-lines {bad}");
            self.lines.finish_advising(&advice)?;
        } else if let Err(e) = self.lines.finish() {
            note(printable(&format!("left out: {}", e.told())));
        }
        self.counts.bad = bad;
        Ok(self.counts)
    }
}

/// What is trained on and what is held out: `val`, or the share `fraction` of each path at its end.
pub fn split<T>(train: Vec<Vec<T>>, val: Vec<Vec<T>>, fraction: f64) -> (Vec<T>, Vec<T>) {
    let flat = |parts: Vec<Vec<T>>| parts.into_iter().flatten().collect();
    if !val.is_empty() {
        return (flat(train), flat(val));
    }
    let (mut kept, mut held) = (Vec::new(), Vec::new());
    for mut all in train {
        let out = (all.len() as f64 * fraction) as usize;
        held.extend(all.split_off(all.len() - out));
        kept.extend(all);
    }
    (kept, held)
}
