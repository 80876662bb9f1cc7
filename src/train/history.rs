//! `metrics.jsonl` as it is found: rows, and what a crash, a bad disk or somebody's editor has left among them.

use super::journal::METRICS;
use super::rows::{Row, Stamped};
use crate::checkpoint::disk::replace_file;
use crate::error::{Error, Result};
use crate::input;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

/// Bytes that no row has: one of a hundred layers with experts has a tenth.
const LONGEST_LINE: u64 = 1 << 20;
/// How every row begins.
const HEAD: &[u8] = b"{\"split\":";

/// A line of the file.
enum Line {
    /// A row with its time, and the byte after it.
    Row(Stamped, u64),
    /// The beginning of a row at the end of the file: the process or the machine broke off there.
    Torn,
    /// Something else at the end of the file, with what is wrong with it.
    Tail(String),
    /// Anything else, with what is wrong with it.
    Other(String),
}

/// All rows of the run in `folder`. A torn last line, as a crash leaves it, ends the rows without an error.
///
/// # Errors
/// If there is no such file; a line that is no row, named by its number.
pub fn read_rows(folder: &Path) -> Result<Vec<Row>> {
    Ok(read_stamped(folder)?.into_iter().map(|line| line.row).collect())
}

/// The same with the times at which they were written.
///
/// # Errors
/// Those of [`read_rows`].
pub fn read_stamped(folder: &Path) -> Result<Vec<Stamped>> {
    let (path, mut rows) = (folder.join(METRICS), Vec::new());
    for_each_line(&path, |line, _| match line {
        Line::Row(row, _) => {
            rows.push(row);
            Ok(())
        }
        Line::Torn | Line::Tail(_) => Ok(()),
        Line::Other(reason) => Err(Error::file(&path, reason)),
    })?;
    Ok(rows)
}

/// The last update that the file has a row of; 0 without the file.
///
/// # Errors
/// If it cannot be read.
pub(super) fn reached(path: &Path) -> Result<u64> {
    let mut reached = 0;
    if path.symlink_metadata().is_ok() {
        for_each_line(path, |line, _| {
            if let Line::Row(Stamped { row: Row::Train(row), .. }, _) = line {
                reached = reached.max(row.step);
            }
            Ok(())
        })?;
    }
    Ok(reached)
}

/// What is in a file, seen from the step at which its run goes on.
#[derive(Debug, Default)]
pub(super) struct Survey {
    /// Bytes of the rows up to that step.
    pub kept: u64,
    /// Seconds of the run up to there.
    pub elapsed: f64,
    /// What is wrong with the first line that is no row.
    pub damage: Option<String>,
    /// Whether there are rows of updates after that step.
    pub later: bool,
}

/// Looks through the whole file.
///
/// # Errors
/// If it cannot be read.
pub(super) fn survey(path: &Path, step: u64) -> Result<Survey> {
    let mut found = Survey::default();
    for_each_line(path, |line, _| {
        match line {
            Line::Row(line, after) if line.row.step() <= step => {
                (found.kept, found.elapsed) = (after, line.elapsed);
            }
            Line::Row(line, _) => found.later |= matches!(line.row, Row::Train(_)),
            Line::Torn => {}
            Line::Tail(reason) | Line::Other(reason) => found.damage = found.damage.take().or(Some(reason)),
        }
        Ok(())
    })?;
    Ok(found)
}

/// Gives the file another name, the first free one of metrics-1.jsonl, metrics-2.jsonl, ...
///
/// # Errors
/// If the disk fails.
pub(super) fn set_aside(path: &Path) -> Result<PathBuf> {
    let free = |number: u64| path.with_file_name(format!("metrics-{number}.jsonl"));
    let aside = (1..).map(free).find(|aside| aside.symlink_metadata().is_err());
    let aside = aside.unwrap_or_else(|| free(0));
    std::fs::rename(path, &aside).map_err(|e| Error::write(&aside, e))?;
    Ok(aside)
}

/// Writes the sound rows of the file `from` up to `step` to `path`.
///
/// # Errors
/// If the disk fails.
pub(super) fn copy_rows(from: &Path, path: &Path, step: u64) -> Result<()> {
    replace_file(path, |out| {
        for_each_line(from, |line, text| match line {
            Line::Row(line, _) if line.row.step() <= step => out.write_all(text).map_err(|e| Error::io(path, e)),
            _ => Ok(()),
        })
    })
}

/// Calls `each` with every line and its text until that fails.
fn for_each_line(path: &Path, mut each: impl FnMut(Line, &[u8]) -> Result<()>) -> Result<()> {
    let mut reader: BufReader<File> = BufReader::new(input::open(path)?);
    let (mut text, mut after) = (Vec::new(), 0);
    for number in 1.. {
        text.clear();
        let read = reader.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut text);
        after += read.map_err(|e| Error::io(path, e))? as u64;
        if text.is_empty() {
            break;
        }
        each(line(&text, number, after), &text)?;
    }
    Ok(())
}

/// What the text of a line is.
fn line(text: &[u8], number: u64, after: u64) -> Line {
    if text.len() as u64 == LONGEST_LINE {
        return Line::Other(format!("line {number}: longer than {LONGEST_LINE} bytes, so no row"));
    }
    if text.last() != Some(&b'\n') {
        return match text.iter().zip(HEAD).all(|(found, wanted)| found == wanted) && text.last() != Some(&b'}') {
            true => Line::Torn,
            false => Line::Tail(format!("line {number}: has no end, and is not the beginning of a row of metrics")),
        };
    }
    match serde_json::from_slice(text) {
        Ok(row) => Line::Row(row, after),
        Err(e) => Line::Other(format!("line {number}: not a row of metrics: {}", input::one_line(&e))),
    }
}
