//! Which files a path stands for, and what is in them.

use super::formats;
use super::problems::Problems;
use crate::error::{Error, Result};
use crate::input::IS_POINTER;
use crate::terminal::{note, printable};
use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::path::{Path, PathBuf};

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// UTF-8 text, one document.
    Text,
    /// JSON objects, each of which is a document: one a line, or, where the name ends in `.json`, the elements of a
    /// list or objects one after the other.
    Lines,
    /// Token numbers.
    Tokens,
}

/// Endings by which files of a folder are told apart. A file that is named itself is text if its ending is none of
/// them, nor that of a form that is not read.
const ENDINGS: [(Kind, &[&str]); 3] = [
    (Kind::Text, &["txt", "text", "md", "markdown", "rst", "tex", "org"]),
    (Kind::Lines, &["jsonl", "ndjson", JSON]),
    (Kind::Tokens, &["bin", "npy"]),
];
/// The ending of files that hold one list of objects, or objects wherever their lines end.
const JSON: &str = "json";
/// Folders inside folders that are searched.
const MAX_DEPTH: usize = 32;
/// Bytes in which the first of a JSON file is looked for.
const PEEKED: u64 = 1 << 12;

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

    /// Whether it holds JSON objects that lines do not tell apart.
    pub fn is_json(&self) -> bool {
        self.kind == Kind::Lines && ending(&self.path) == JSON
    }

    /// Refuses a form that is not read.
    fn check(&self) -> Result<()> {
        let other = formats::by_content(&self.path);
        // Token numbers may look like anything.
        if let Some(what) = other.filter(|what| self.kind != Kind::Tokens || what == IS_POINTER) {
            return Err(Error::file(&self.path, what));
        }
        if self.is_json() && !matches!(first_byte(&self.path), None | Some(b'[' | b'{')) {
            let reason = "holds no JSON objects; to train on its text as it stands, give it a name that ends in .txt";
            return Err(Error::file(&self.path, reason));
        }
        Ok(())
    }
}

/// The first byte of a file that is no white space.
fn first_byte(path: &Path) -> Option<u8> {
    let mut head = Vec::new();
    crate::input::open(path).ok()?.take(PEEKED).read_to_end(&mut head).ok()?;
    let text = head.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&head);
    text.trim_ascii_start().first().copied()
}

/// The lower-case ending of a name, without its dot.
pub fn ending(path: &Path) -> String {
    path.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default()
}

fn kind(path: &Path) -> Option<Kind> {
    let ending = ending(path);
    ENDINGS.iter().find(|(_, known)| known.contains(&ending.as_str())).map(|(kind, _)| *kind)
}

/// Whether what is left out is told on standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tell {
    /// It is.
    Notes,
    /// It was told before.
    Nothing,
}

/// The files of each of `paths`, by name and of one kind, without those of `but`; none of a path with which something
/// is wrong, which goes to `problems`.
///
/// # Errors
/// If the disk fails.
pub fn find_all(paths: &[PathBuf], but: &[PathBuf], tell: Tell, problems: &mut Problems) -> Result<Vec<Vec<Found>>> {
    let mut excluded = HashSet::new();
    for path in but {
        excluded.extend(find(path, Tell::Nothing, problems)?.iter().map(|file| canonical(&file.path)));
    }
    let (mut all, mut taken) = (Vec::new(), HashMap::new());
    for path in paths {
        let before = problems.count();
        let mut files = find(path, tell, problems)?;
        files.retain(|file| !excluded.contains(&canonical(&file.path)));
        if files.is_empty() && problems.count() == before {
            let reason = "holds nothing but the files of data.val_path; there is nothing to train on";
            problems.add(Error::file(path, reason))?;
        }
        let twice = files.iter().find_map(|file| Some((file, taken.get(&canonical(&file.path))?)));
        if let Some((file, other)) = twice {
            let (file, other): (_, &PathBuf) = (file.path.display(), other);
            let reason = format!(
                "{file} is given by {} too: it would count twice, and be trained on where the other holds it out; name \
                 it once",
                other.display()
            );
            problems.add(Error::Usage(reason))?;
        }
        taken.extend(files.iter().map(|file| (canonical(&file.path), path.clone())));
        all.push(if problems.count() == before { files } else { Vec::new() });
    }
    Ok(all)
}

/// The files of `path` by name, all of one kind: where a folder has several, that with the most bytes; a README beside
/// token shards is no data.
fn find(path: &Path, tell: Tell, problems: &mut Problems) -> Result<Vec<Found>> {
    let mut folder = Folder::default();
    let found = check_local(path).and_then(|()| std::fs::metadata(path).map_err(|e| Error::io(path, e)));
    let found = found.and_then(|meta| match meta.is_dir() {
        true => folder.collect(path, 0),
        false => {
            let file = Found::new(path.to_owned(), kind(path).unwrap_or(Kind::Text))?;
            file.check().map(|()| folder.files.push(file))
        }
    });
    if let Err(e) = found {
        problems.add(e)?;
        return Ok(Vec::new());
    }
    let Folder { mut files, foreign, links } = folder;
    if let (true, Some(first)) = (files.is_empty(), foreign.first()) {
        problems.add(Error::file(first, formats::by_name(first).unwrap_or_default()))?;
    } else if let (true, Some(first)) = (files.is_empty(), links.first()) {
        let reason = "is a link to a folder, which is not followed from the folder that it is in; name it itself";
        problems.add(Error::file(first, reason))?;
    } else if files.is_empty() {
        let endings: Vec<&str> = ENDINGS.iter().flat_map(|(_, known)| *known).copied().collect();
        let reason = format!("holds no text file and no tokens; looked for names ending in .{}", endings.join(", ."));
        problems.add(Error::file(path, reason))?;
    }
    let mut seen = HashSet::new();
    let named = files.len();
    files.retain(|file| seen.insert(canonical(&file.path)));
    let linked = named - files.len();
    let (files, others) = of_one_kind(files);
    if tell == Tell::Notes {
        left_out(path, linked, "linked more than once");
        if let (Some(kept), Some(other)) = (files.first(), others.first()) {
            let what = match kept.kind {
                Kind::Text => "text",
                Kind::Lines => "JSON lines",
                Kind::Tokens => "tokens",
            };
            let why = format!("beside {what}, such as {}; name them to train on them", other.path.display());
            left_out(path, others.len(), &why);
        }
        if let (false, Some(first)) = (files.is_empty(), links.first()) {
            let s = if links.len() == 1 { "" } else { "s" };
            let (all, first) = (links.len(), first.display());
            let text = format!("{}: left out {all} linked folder{s}, such as {first}; name them", path.display());
            note(printable(&text));
        }
        if let (false, Some(first)) = (files.is_empty(), foreign.first()) {
            let what = formats::by_name(first).unwrap_or_default();
            let why = format!("of forms that are not read: {} {what}", first.display());
            left_out(path, foreign.len(), &why);
        }
    }
    for file in &files {
        file.check().or_else(|e| problems.add(e))?;
    }
    Ok(files)
}

fn left_out(path: &Path, files: usize, why: &str) {
    if files > 0 {
        let s = if files == 1 { "" } else { "s" };
        note(printable(&format!("{}: left out {files} file{s} {why}", path.display())));
    }
}

/// Refuses an address: nothing is downloaded.
///
/// # Errors
/// Says how to fetch it.
pub fn check_local(path: &Path) -> Result<()> {
    let text = path.to_string_lossy();
    if text.split_once("://").is_some_and(|(scheme, _)| scheme.chars().all(|c| c.is_ascii_alphanumeric())) {
        let reason = "is an address, and nothing is downloaded; fetch it first (`curl -LO` for a file, `hf download \
                      ORG/NAME --repo-type dataset --local-dir FOLDER` for a data set of the Hub)";
        return Err(Error::file(path, reason));
    }
    if !path.exists()
        && let Some(name) = hub_name(&text).filter(|_| kind(path).is_none())
    {
        let reason = format!(
            "does not exist, and nothing is downloaded; a data set of the Hub of this name comes by `hf download \
             {text} --repo-type dataset --local-dir {name}`"
        );
        return Err(Error::file(path, reason));
    }
    Ok(())
}

/// The second part of a name as the Hugging Face Hub has them, ORG/NAME.
pub fn hub_name(text: &str) -> Option<&str> {
    let word = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphanumeric())
            && part.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
    };
    // Where there is a folder of the first name, one in it was meant; and `runs` is where runs are kept.
    let own = |first: &str| first == "runs" || Path::new(first).exists();
    let named = |(first, name): &(&str, &str)| word(first) && word(name) && !own(first);
    text.split_once('/').filter(named).map(|(_, name)| name)
}

/// The name by which a file is the same, however it was come by.
fn canonical(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// Those of the kind with the most bytes, and the others.
fn of_one_kind(files: Vec<Found>) -> (Vec<Found>, Vec<Found>) {
    let bytes = |kind| files.iter().filter(|f| f.kind == kind).map(|f| f.bytes).sum::<u64>();
    let present = |kind: &Kind| files.iter().any(|f| f.kind == *kind);
    let kinds = ENDINGS.map(|(kind, _)| kind);
    // The first of equals.
    match kinds.into_iter().filter(present).rev().max_by_key(|&kind| bytes(kind)) {
        Some(main) => files.into_iter().partition(|f| f.kind == main),
        None => (files, Vec::new()),
    }
}

/// What a folder holds.
#[derive(Default)]
struct Folder {
    files: Vec<Found>,
    /// Of forms that are not read.
    foreign: Vec<PathBuf>,
    /// Links to folders, which may lead anywhere.
    links: Vec<PathBuf>,
}

impl Folder {
    /// Adds the data files of `folder` and the folders in it, by name; hidden ones are left out, and linked folders.
    fn collect(&mut self, folder: &Path, depth: usize) -> Result<()> {
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
            match kind(&path) {
                _ if entry.file_type().map_err(io)?.is_dir() => self.collect(&path, depth + 1)?,
                _ if path.is_dir() => self.links.push(path),
                _ if !path.is_file() => {}
                // Objects of other JSON files describe the data.
                Some(Kind::Lines) if ending(&path) == JSON && first_byte(&path) != Some(b'[') => {}
                Some(kind) => self.files.push(Found::new(path, kind)?),
                None if formats::by_name(&path).is_some() => self.foreign.push(path),
                None => {}
            }
        }
        Ok(())
    }
}
