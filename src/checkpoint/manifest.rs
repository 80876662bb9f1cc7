//! `manifest.json`: what a checkpoint's files are, so that any damage to them shows before they are used.

use super::folder::{inside_if_there, is_plain};
use crate::error::{Error, Result};
use crate::input::{self, one_line, quoted};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::HashSet;
use std::io::Read;
use std::path::Path;

/// The file's name.
pub const MANIFEST: &str = "manifest.json";
/// Version of the manifest's format.
const FORMAT: u32 = 1;
/// Largest accepted manifest: it holds a few lines a file.
const LARGEST: u64 = 1 << 20;
/// Bytes that are read at a time.
const PIECE: usize = 1 << 20;

/// A file of the folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listed {
    /// Its name in the folder.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// SHA-256 of its bytes, in lower-case hexadecimal.
    pub sha256: String,
}

/// Every file of a folder but the manifest itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of this format.
    pub format: u32,
    /// Version of the program that wrote the folder.
    pub hadal: String,
    /// Updates done.
    pub step: u64,
    /// The files, in the order they were written in.
    pub files: Vec<Listed>,
    /// SHA-256 of the manifest's own text with nothing between these quotes.
    pub sha256: String,
}

impl Manifest {
    /// The manifest of `files`.
    pub fn new(step: u64, files: Vec<Listed>) -> Result<Self> {
        let hadal = env!("CARGO_PKG_VERSION").to_owned();
        let open = Manifest { format: FORMAT, hadal, step, files, sha256: String::new() };
        let sha256 = open.seal()?;
        Ok(Manifest { sha256, ..open })
    }

    /// The text of the file.
    pub fn text(&self) -> Result<String> {
        let text = serde_json::to_string_pretty(self).map_err(|e| Error::file(MANIFEST, e.to_string()))?;
        Ok(text + "\n")
    }

    fn seal(&self) -> Result<String> {
        let open = Manifest { sha256: String::new(), ..self.clone() };
        Ok(hex(&Sha256::digest(open.text()?)))
    }
}

/// Size and hash of a file, counted while it is written.
#[derive(Default)]
pub(super) struct Count {
    bytes: u64,
    hash: Sha256,
}

impl Count {
    /// Adds the file's next bytes.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        self.hash.update(bytes);
    }

    /// The entry of the file `name`.
    pub(super) fn listed(self, name: &str) -> Listed {
        Listed { name: name.to_owned(), bytes: self.bytes, sha256: hex(&self.hash.finalize()) }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads every file of `folder` and holds it to the folder's manifest; nothing if the folder has no manifest. Of the
/// files in `unread`, which the caller will not read either, only the size is looked at.
///
/// Errors: the manifest or a file that it lists is damaged or missing. The sentence names the first.
pub fn verify(folder: &Path, unread: &[&str]) -> Result<Option<Manifest>> {
    let Some(path) = inside_if_there(folder, MANIFEST)? else { return Ok(None) };
    let manifest = Manifest::parse(&path, &input::read(&path, LARGEST)?)?;
    // Collected, so that the error is that of the first file and not of the fastest thread.
    let hashed = |listed: &Listed| !unread.contains(&listed.name.as_str());
    let files = manifest.files.par_iter();
    let found: Vec<Result<()>> = files.map(|listed| check(folder, listed, hashed(listed))).collect();
    found.into_iter().collect::<Result<()>>()?;
    Ok(Some(manifest))
}

/// The bytes of one file of `folder`, at most `largest`, held to the folder's manifest where there is one; nothing if
/// the manifest lists no such file, or in a folder without one there is none.
///
/// Errors: the manifest or the file is damaged, or the file is missing.
pub fn read_listed(folder: &Path, name: &str, largest: u64) -> Result<Option<Vec<u8>>> {
    if let Some(path) = inside_if_there(folder, MANIFEST)? {
        let manifest = Manifest::parse(&path, &input::read(&path, LARGEST)?)?;
        let Some(listed) = manifest.files.iter().find(|listed| listed.name == name) else { return Ok(None) };
        check(folder, listed, true)?;
    }
    inside_if_there(folder, name)?.map(|path| input::read(&path, largest)).transpose()
}

impl Manifest {
    /// The manifest in the text of the file `path`, which must be, to the byte, one that this program writes.
    pub fn parse(path: &Path, text: &[u8]) -> Result<Manifest> {
        let damaged = |what: &str| Error::file(path, format!("is damaged: {what}"));
        let manifest: Manifest =
            serde_json::from_slice(text).map_err(|e| damaged(&format!("it is not a manifest: {}", one_line(&e))))?;
        if manifest.text()?.as_bytes() != text || manifest.seal()? != manifest.sha256 {
            return Err(damaged("its text does not have the SHA-256 that stands in it"));
        }
        if manifest.format != FORMAT {
            let (format, hadal) = (manifest.format, quoted(&manifest.hadal));
            let reason = format!("is of format {format}, written by hadal {hadal}; this version reads format {FORMAT}");
            return Err(Error::file(path, reason));
        }
        let mut names = HashSet::new();
        for Listed { name, .. } in &manifest.files {
            if !is_plain(name) {
                return Err(Error::file(path, format!("lists {}, which is no plain file name", quoted(name))));
            }
            // Not even where case makes no difference.
            if !names.insert(name.to_ascii_lowercase()) || name.eq_ignore_ascii_case(MANIFEST) {
                return Err(Error::file(path, format!("lists {} twice, or itself", quoted(name))));
            }
        }
        Ok(manifest)
    }
}

/// Holds one file to its entry: its size, and if it is to be `hashed`, its content.
fn check(folder: &Path, listed: &Listed, hashed: bool) -> Result<()> {
    let Some(path) = inside_if_there(folder, &listed.name)? else {
        return Err(Error::file(folder.join(&listed.name), format!("is missing, but {MANIFEST} lists it")));
    };
    let io = |e| Error::io(&path, e);
    let mut file = input::open(&path)?;
    let known = file.metadata().map_err(io)?;
    if known.len() != listed.bytes {
        let reason = format!("has {} bytes, but {MANIFEST} lists {}: it was cut or changed", known.len(), listed.bytes);
        return Err(Error::file(&path, reason));
    }
    if !hashed {
        return Ok(());
    }
    let (mut hash, mut piece) = (Sha256::new(), vec![0; PIECE.min(listed.bytes as usize + 1)]);
    loop {
        match file.read(&mut piece).map_err(io)? {
            0 => break,
            n => hash.update(&piece[..n]),
        }
    }
    if hex(&hash.finalize()) == listed.sha256 {
        return Ok(());
    }
    let hint = format!("if it was changed on purpose, remove {MANIFEST}");
    Err(Error::file(&path, format!("does not have the SHA-256 that {MANIFEST} lists: it is damaged; {hint}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(listed: &[(&str, &str)]) -> tempfile::TempDir {
        let at = tempfile::tempdir().unwrap();
        let entry = |(name, content): &(&str, &str)| {
            let mut count = Count::default();
            count.add(content.as_bytes());
            count.listed(name)
        };
        let manifest = Manifest::new(3, listed.iter().map(entry).collect()).unwrap();
        std::fs::write(at.path().join(MANIFEST), manifest.text().unwrap()).unwrap();
        at
    }

    #[test]
    fn the_hash_is_sha_256_in_hexadecimal() {
        let mut count = Count::default();
        ["a", "bc"].iter().for_each(|text| count.add(text.as_bytes()));
        let listed = count.listed("x");
        // FIPS 180-2, B.1
        assert_eq!(listed.sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(listed.bytes, 3);
    }

    #[test]
    fn a_manifest_that_lists_files_elsewhere_or_is_of_another_format_is_refused() {
        for name in ["../a", "/etc/hostname", "a/b", "..", ".", "", "a/", "a\\b", "C:a", "nul.txt", ".a"] {
            let at = folder(&[(name, "")]);
            let error = verify(at.path(), &[]).unwrap_err();
            assert!(error.exit_code() == 2 && error.to_string().contains("no plain file name"), "{name:?}: {error}");
        }
        for names in [["a", "a"], ["a", "A"], ["a", "Manifest.json"]] {
            let at = folder(&names.map(|name| (name, "")));
            assert!(verify(at.path(), &[]).unwrap_err().to_string().contains("twice"), "{names:?}");
        }
        let at = folder(&[]);
        assert_eq!(verify(at.path(), &[]).unwrap().unwrap().step, 3);
        let mut later = Manifest { format: 2, ..Manifest::new(3, Vec::new()).unwrap() };
        later.sha256 = later.seal().unwrap();
        std::fs::write(at.path().join(MANIFEST), later.text().unwrap()).unwrap();
        assert!(verify(at.path(), &[]).unwrap_err().to_string().contains("format 2"));
        std::fs::remove_file(at.path().join(MANIFEST)).unwrap();
        assert!(verify(at.path(), &[]).unwrap().is_none());
    }
}
