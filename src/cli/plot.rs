//! `hadal plot`

use super::{existing, output, positive};
use crate::error::{Error, Result};
use crate::plot::style::STYLES;
use crate::plot::{By, Format, PlotOptions, draw_runs};
use crate::terminal::{note, printable};
use crate::train::journal::METRICS;
use clap::Args;
use std::path::{Path, PathBuf};

/// Folders below the one that is given in which runs are looked for: runs, and those of a pipeline or a study.
const DEPTH: usize = 2;

#[derive(Args, Debug)]
pub(super) struct PlotArgs {
    /// Run folders, or folders of such; several runs are overlaid
    #[arg(required = true)]
    runs: Vec<PathBuf>,
    /// The picture: a PNG or an SVG file, as its name ends
    #[arg(short, long, visible_alias = "out", value_name = "FILE")]
    output: PathBuf,
    /// What runs from left to right
    #[arg(long, value_enum, default_value_t)]
    x: By,
    /// One number alone, by its name in metrics.jsonl or TensorBoard, such as reward, lr or val/loss; by default the
    /// loss or what the stage is judged by, and all else below it
    #[arg(long, value_name = "NAME")]
    metric: Option<String>,
    /// Logarithmic from bottom to top; by default the numbers decide
    #[arg(long)]
    log: bool,
    /// Steps that curves are smoothed over, 1 for none; about a 25th of the run by default
    #[arg(long, value_name = "STEPS", value_parser = positive())]
    smooth: Option<usize>,
    /// Heading of the picture
    #[arg(long, value_name = "TEXT")]
    title: Option<String>,
}

pub(super) fn run(args: PlotArgs) -> Result<()> {
    let PlotArgs { runs, output: path, x: by, metric, log, smooth, title } = args;
    output(&path)?;
    Format::of(&path)?;
    let mut found = Vec::new();
    for given in &runs {
        let before = found.len();
        collect(&existing(given)?, DEPTH, &mut found)?;
        if found.len() == before {
            return Err(Error::file(given, format!("holds no {METRICS}; give run folders, or a folder of such")));
        }
    }
    let runs = named(found);
    if runs.len() > STYLES {
        let count = runs.len();
        note(format_args!("warning: of {count} runs those behind the {STYLES}th look like others before them"));
    }
    draw_runs(&runs, &PlotOptions { title, entropy: None, by, metric, log, smooth }, &path)?;
    let what = if let [(name, _)] = &runs[..] { name.clone() } else { format!("{} runs", runs.len()) };
    note(format_args!("{} shows {}", path.display(), printable(&what)));
    Ok(())
}

/// Adds `folder` if it is a run's, else the runs in it and in the folders below it, in the order of their names.
fn collect(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<()> {
    if folder.join(METRICS).is_file() {
        found.push(folder.to_owned());
        return Ok(());
    }
    if depth == 0 || !folder.is_dir() {
        return Ok(());
    }
    let entries = std::fs::read_dir(folder).map_err(|e| Error::io(folder, e))?;
    let mut below: Vec<PathBuf> = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|e| Error::io(folder, e))?;
        // A link could lead anywhere, back included.
        if entry.file_type().map_err(|e| Error::io(entry.path(), e))?.is_dir() {
            below.push(entry.path());
        }
    }
    below.sort_by_key(|path| natural(&path.to_string_lossy()));
    below.iter().try_for_each(|path| collect(path, depth - 1, found))
}

/// A name as a key to sort by, in which whole numbers count as such: tiny-2 is before tiny-10.
fn natural(name: &str) -> Vec<(String, u64)> {
    let mut parts = Vec::new();
    let mut rest = name;
    while !rest.is_empty() {
        let text = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let end = rest[text..].find(|c: char| !c.is_ascii_digit()).map_or(rest.len(), |end| text + end);
        parts.push((rest[..text].to_owned(), rest[text..end].parse().unwrap_or(u64::MAX)));
        rest = &rest[end..];
    }
    parts
}

/// The folders with the last part of their paths as names, or with the last two where these do not tell all apart.
fn named(folders: Vec<PathBuf>) -> Vec<(String, PathBuf)> {
    let name = |folder: &Path, parts: usize| {
        let whole = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
        let all: Vec<_> = whole.components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
        all[all.len().saturating_sub(parts)..].join("/")
    };
    let short: Vec<String> = folders.iter().map(|folder| name(folder, 1)).collect();
    let mut different = short.clone();
    different.sort_unstable();
    different.dedup();
    let parts = if different.len() == short.len() { 1 } else { 2 };
    folders.into_iter().map(|folder| (name(&folder, parts), folder)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_by_the_numbers_in_them() {
        let mut names = ["tiny-10", "tiny-2", "a", "10b", "9b", "tiny", "tiny-2-x"];
        names.sort_by_key(|name| natural(name));
        assert_eq!(names, ["9b", "10b", "a", "tiny", "tiny-2", "tiny-2-x", "tiny-10"]);
    }
}
