//! Which files a path stands for, and what is in them.

use super::problems::Problems;
use crate::error::{Error, Result};
use crate::terminal::{note, printable};
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// UTF-8 text, one document.
    Text,
    /// A JSON object a line, each of which is a document.
    Lines,
    /// Token numbers.
    Tokens,
}

/// Endings by which files of a folder are told apart. A file that is named itself is text if its ending is none of
/// them.
const ENDINGS: [(Kind, &[&str]); 3] = [
    (Kind::Text, &["txt", "text", "md", "markdown", "rst", "tex", "org"]),
    (Kind::Lines, &["jsonl", "ndjson"]),
    (Kind::Tokens, &["bin", "npy"]),
];
/// Folders inside folders that are searched.
const MAX_DEPTH: usize = 32;

/// A file of data.
#[derive(Clone, Debug)]
pub struct Found {
    /// Where it is.
    pub path: PathBuf,
    /// What is in it.
    pub kind: Kind,
    /// Its size.
    pub bytes: u64,
}

impl Found {
    fn new(path: PathBuf, kind: Kind) -> Result<Found> {
        let meta = std::fs::metadata(&path).map_err(|e| Error::io(&path, e))?;
        if !meta.is_file() {
            return Err(Error::file(path, "is not a regular file; give a file of data or a folder of them"));
        }
        Ok(Found { path, kind, bytes: meta.len() })
    }
}

/// The lower-case ending of a name, without its dot.
pub fn ending(path: &Path) -> String {
    path.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default()
}

fn kind(path: &Path) -> Option<Kind> {
    let ending = ending(path);
    ENDINGS.iter().find(|(_, known)| known.contains(&ending.as_str())).map(|(kind, _)| *kind)
}

/// The files of `path` by name, all of one kind: where a folder has several, that with the most bytes; a README beside
/// token shards is no data. Files in `but`, whose paths are canonical, are left out.
pub fn find(path: &Path, but: &HashSet<PathBuf>, problems: &mut Problems) -> Result<Vec<Found>> {
    let mut files = Vec::new();
    let found = std::fs::metadata(path).map_err(|e| Error::io(path, e)).and_then(|meta| match meta.is_dir() {
        true => collect(path, 0, &mut files),
        false => Found::new(path.to_owned(), kind(path).unwrap_or(Kind::Text)).map(|file| files.push(file)),
    });
    if let Err(e) = found {
        problems.add(e)?;
        return Ok(Vec::new());
    }
    if files.is_empty() {
        let endings: Vec<&str> = ENDINGS.iter().flat_map(|(_, known)| *known).copied().collect();
        let reason = format!("holds no text file and no tokens; looked for names ending in .{}", endings.join(", ."));
        problems.add(Error::file(path, reason))?;
    }
    let mut files = of_one_kind(path, files);
    files.retain(|file| !but.contains(&canonical(&file.path)));
    Ok(files)
}

/// The name by which a file is the same, however it was come by.
pub fn canonical(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

fn of_one_kind(path: &Path, files: Vec<Found>) -> Vec<Found> {
    let bytes = |kind| files.iter().filter(|f| f.kind == kind).map(|f| f.bytes).sum::<u64>();
    let present = |kind: &Kind| files.iter().any(|f| f.kind == *kind);
    let kinds = ENDINGS.map(|(kind, _)| kind);
    // The first of equals.
    let Some(main) = kinds.into_iter().filter(present).rev().max_by_key(|&kind| bytes(kind)) else { return files };
    let (taken, left): (Vec<Found>, Vec<Found>) = files.into_iter().partition(|f| f.kind == main);
    if let Some(first) = left.first() {
        let what = match main {
            Kind::Text => "text",
            Kind::Lines => "JSON lines",
            Kind::Tokens => "tokens",
        };
        let text = format!(
            "{}: holds mostly {what}; left out {} other file{}, such as {}; name them to train on them",
            path.display(),
            left.len(),
            if left.len() == 1 { "" } else { "s" },
            first.path.display()
        );
        note(printable(&text));
    }
    taken
}

/// The data files of `folder` and the folders in it, by name; hidden ones and linked folders are left out.
fn collect(folder: &Path, depth: usize, files: &mut Vec<Found>) -> Result<()> {
    if depth > MAX_DEPTH {
        return Err(Error::file(folder, format!("lies more than {MAX_DEPTH} folders deep; name it itself")));
    }
    let io = |e| Error::io(folder, e);
    let entries = std::fs::read_dir(folder).map_err(io)?.collect::<std::io::Result<Vec<_>>>().map_err(io)?;
    let mut entries: Vec<_> =
        entries.into_iter().filter(|e| !e.file_name().as_encoded_bytes().starts_with(b".")).collect();
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        if entry.file_type().map_err(io)?.is_dir() {
            collect(&path, depth + 1, files)?;
        } else if let Some(kind) = kind(&path)
            && path.is_file()
        {
            files.push(Found::new(path, kind)?);
        }
    }
    Ok(())
}
