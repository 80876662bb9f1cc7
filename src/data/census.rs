//! Which shapes JSON lines have, and how many records and messages are in them.

use super::files::Found;
use super::meter::Meter;
use super::problems::Problems;
use super::reader::{Batch, Reader};
use super::record::{self, Shape};
use crate::error::{Error, Result};
use crate::tokenizer::Cuts;
use rayon::prelude::*;
use std::collections::BTreeMap;

/// Counts of the records of one shape.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Files with such records.
    pub files: u64,
    /// Records.
    pub records: u64,
    /// Messages in them.
    pub turns: u64,
    /// Records with an empty text or message.
    pub empty: u64,
}

/// Reads all of `files`, which hold JSON lines, and adds what is in them.
///
/// # Errors
/// If the disk fails, or the lines are not as they were when they became tokens.
pub fn count(files: &[Found], all: &mut BTreeMap<Shape, Census>) -> Result<()> {
    let meter = Meter::new("counting", &files[0].path, files.iter().map(|file| file.bytes).sum());
    let (mut reader, mut batch, mut problems) =
        (Reader::new(files, Cuts::default()), Batch::default(), Problems::default());
    let mut counted = None;
    while reader.next(&mut batch, &mut problems)? {
        let read =
            |part| record::read(part).map(|(shape, one)| (shape, one.turns() as u64, u64::from(one.has_empty())));
        let made: Vec<_> = batch.parts.par_iter().map(|part| read(&batch.bytes[part.range.clone()])).collect();
        for (part, made) in batch.parts.iter().zip(made) {
            let Some(place) = part.what.place() else { continue };
            match made {
                Ok((shape, turns, empty)) => {
                    let census = all.entry(shape).or_default();
                    census.files += u64::from(counted.replace(part.file) != Some(part.file));
                    census.records += 1;
                    census.turns += turns;
                    census.empty += empty;
                }
                Err(reason) => problems.add(Error::file(&files[part.file].path, format!("{place} {reason}")))?,
            }
        }
        meter.add(batch.bytes.len() as u64);
    }
    problems.finish()
}
