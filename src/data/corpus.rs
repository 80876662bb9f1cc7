//! The user's text: files and folders to one stream of tokens.

use super::mmap::Mapped;
use crate::error::{Error, Result};
use crate::tokenizer::{Tokenizer, pieces};
use rayon::prelude::*;
use std::path::{Path, PathBuf};

/// Endings of the files that are taken from a folder; a file that is named itself may have any.
const ENDINGS: [&str; 7] = ["txt", "text", "md", "markdown", "rst", "tex", "org"];
/// Folders inside folders that are searched.
const MAX_DEPTH: usize = 32;

/// All text as tokens, each file followed by the end token.
pub struct Corpus {
    /// The stream.
    pub ids: Vec<u32>,
    /// Bytes of text in it.
    pub bytes: u64,
    /// Files in it.
    pub files: usize,
}

impl Corpus {
    /// Reads and tokenises the files and folders of `paths`, in their order; files of a folder by name.
    ///
    /// # Errors
    /// If a path cannot be read, is not UTF-8, or a folder holds no text.
    pub fn open(paths: &[PathBuf], tokenizer: &Tokenizer) -> Result<Corpus> {
        let mut files = Vec::new();
        for path in paths {
            let before = files.len();
            let is_folder = std::fs::metadata(path).map_err(|e| Error::io(path, e))?.is_dir();
            if is_folder {
                collect(path, 0, &mut files)?;
            } else {
                files.push(path.clone());
            }
            if files.len() == before {
                let endings = ENDINGS.join(", .");
                return Err(Error::file(path, format!("holds no text file; looked for names ending in .{endings}")));
            }
        }
        let parts: Vec<(Vec<u32>, u64)> =
            files.par_iter().map(|path| tokenise(path, tokenizer)).collect::<Result<Vec<_>>>()?;
        let bytes = parts.iter().map(|(_, bytes)| bytes).sum();
        let mut ids = Vec::with_capacity(parts.iter().map(|(ids, _)| ids.len()).sum());
        parts.into_iter().for_each(|(part, _)| ids.extend(part));
        Ok(Corpus { ids, bytes, files: files.len() })
    }
}

/// The text files of `folder` and the folders in it, by name; hidden ones and linked folders are left out.
fn collect(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<()> {
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
        let ending = path.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default();
        if entry.file_type().map_err(io)?.is_dir() {
            collect(&path, depth + 1, files)?;
        } else if ENDINGS.contains(&ending.as_str()) && path.is_file() {
            files.push(path);
        }
    }
    Ok(())
}

/// The tokens of one file with the end token, and its bytes of text.
fn tokenise(path: &Path, tokenizer: &Tokenizer) -> Result<(Vec<u32>, u64)> {
    let map = Mapped::open(path)?;
    let text = std::str::from_utf8(map.bytes()).map_err(|e| {
        let at = e.valid_up_to();
        let byte = map.bytes()[at];
        Error::file(path, format!("is not UTF-8: byte {at} is 0x{byte:02x}; convert it, or name only the text files"))
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let parts: Vec<Vec<u32>> = pieces(text).par_iter().map(|piece| tokenizer.encode_piece(piece)).collect();
    let mut ids = parts.concat();
    ids.push(tokenizer.eos());
    Ok((ids, text.len() as u64))
}
