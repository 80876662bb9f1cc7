//! Text files as a stream of parts, in memory that does not grow with the files or their lines.

use super::files::{Found, Kind};
use super::objects::Objects;
use super::problems::Problems;
use crate::error::{Error, Result};
use crate::tokenizer::{Cuts, piece};
use std::fs::File;
use std::io::Read;
use std::ops::Range;

/// Bytes that are read at a time.
const READ: usize = 1 << 20;
/// Bytes after which a batch is full.
const BATCH: usize = 16 << 20;
/// Longest JSON line.
const MAX_LINE: usize = 16 << 20;

/// The byte-order mark that some programs put before text.
const MARK: &[u8] = "\u{feff}".as_bytes();

/// Parts that can be tokenised at once, in order.
#[derive(Default)]
pub struct Batch {
    /// The bytes of all parts.
    pub bytes: Vec<u8>,
    /// The parts.
    pub parts: Vec<Part>,
}

/// A part of a file.
pub struct Part {
    /// Number of the file.
    pub file: usize,
    /// What it is.
    pub what: What,
    /// Its bytes in the batch.
    pub range: Range<usize>,
}

/// What a part is.
pub enum What {
    /// Text that is cut as [`crate::tokenizer::piece`] cuts it; whether it is the first of its file.
    Piece(bool),
    /// The line of this number.
    Line(u64),
    /// The object of this number, of those that lines do not tell apart.
    Object(u64),
    /// The beginning of a text.
    Start,
    /// The end of a text.
    End,
}

impl What {
    /// Where in the file a record is, in words.
    pub fn place(&self) -> Option<String> {
        match self {
            What::Line(number) => Some(format!("line {number}")),
            What::Object(number) => Some(format!("record {number}")),
            What::Piece(_) | What::Start | What::End => None,
        }
    }
}

/// Reads files one after the other.
pub struct Reader<'f> {
    files: &'f [Found],
    cuts: Cuts,
    at: usize,
    open: Option<Open>,
}

/// A file that is being read.
struct Open {
    file: File,
    /// Bytes that were read and not yet handed on.
    rest: Vec<u8>,
    /// Place of `rest` in the file.
    offset: u64,
    /// Lines before `rest`.
    lines: u64,
    /// Bytes of `rest` that hold no line feed.
    searched: usize,
    /// Whether `rest` continues a line that is too long.
    skipping: bool,
    /// Whether the beginning of the text was handed on.
    begun: bool,
    /// Whether none of its pieces was.
    first: bool,
    ended: bool,
    /// Bytes that were read.
    read: u64,
    /// What tells objects apart where lines do not.
    objects: Objects,
}

impl<'f> Reader<'f> {
    /// A reader of `files`, which hold text that may be cut at `cuts`, or JSON lines.
    pub fn new(files: &'f [Found], cuts: Cuts) -> Reader<'f> {
        Reader { files, cuts, at: 0, open: None }
    }

    /// Fills `batch` with the next parts; false if there are none. A file with a problem that leaves its rest without a
    /// meaning is left.
    pub fn next(&mut self, batch: &mut Batch, problems: &mut Problems) -> Result<bool> {
        batch.bytes.clear();
        batch.parts.clear();
        while batch.bytes.len() < BATCH
            && let Some(found) = self.files.get(self.at)
        {
            let open = match &mut self.open {
                Some(open) => open,
                none => none.insert(Open::new(found)?),
            };
            open.read(found)?;
            let read = match found.kind {
                Kind::Lines if found.is_json() => open
                    .objects(self.at, batch)
                    .map_err(|reason| Error::file(&found.path, reason))
                    .or_else(|e| problems.add(e).map(|()| false))?,
                Kind::Lines => open.lines(found, self.at, batch, problems)?,
                _ => open.text(found, self.at, self.cuts, batch).or_else(|e| problems.add(e).map(|()| false))?,
            };
            if read && open.ended && open.read != found.bytes {
                problems.add(Error::file(&found.path, "changed while it was read; try again"))?;
            }
            if !read || open.ended {
                (self.open, self.at) = (None, self.at + 1);
            }
        }
        Ok(!batch.parts.is_empty() || self.at < self.files.len())
    }
}

impl Batch {
    fn push(&mut self, file: usize, what: What, bytes: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        self.parts.push(Part { file, what, range: start..self.bytes.len() });
    }
}

impl Open {
    fn new(found: &Found) -> Result<Open> {
        let file = File::open(&found.path).map_err(|e| Error::io(&found.path, e))?;
        let (rest, offset, lines, searched) = (Vec::new(), 0, 0, 0);
        let (skipping, begun, first, ended, read) = (false, false, true, false, 0);
        let objects = Objects::default();
        Ok(Open { file, rest, offset, lines, searched, skipping, begun, first, ended, read, objects })
    }

    fn read(&mut self, found: &Found) -> Result<()> {
        let n = (&self.file).take(READ as u64).read_to_end(&mut self.rest).map_err(|e| Error::io(&found.path, e))?;
        self.ended = n < READ;
        self.read += n as u64;
        if self.offset == 0 && self.rest.starts_with(MARK) {
            self.drop(MARK.len());
        }
        Ok(())
    }

    /// Drops the first `n` bytes of what is left.
    fn drop(&mut self, n: usize) {
        self.rest.drain(..n);
        self.offset += n as u64;
    }

    fn text(&mut self, found: &Found, number: usize, cuts: Cuts, batch: &mut Batch) -> Result<bool> {
        let text = match std::str::from_utf8(&self.rest) {
            Ok(text) => text,
            // A character that goes on in what was not read yet.
            Err(e) if e.error_len().is_none() && !self.ended => {
                std::str::from_utf8(&self.rest[..e.valid_up_to()]).unwrap_or_default()
            }
            Err(e) => {
                let (at, byte) = (self.offset + e.valid_up_to() as u64, self.rest[e.valid_up_to()]);
                let reason =
                    format!("is not UTF-8: byte {at} is 0x{byte:02x}; convert it, or name only the text files");
                return Err(Error::file(&found.path, reason));
            }
        };
        if !std::mem::replace(&mut self.begun, true) {
            batch.push(number, What::Start, &[]);
        }
        let mut start = 0;
        while let Some(end) = piece(&text[start..], !self.ended, cuts) {
            batch.push(number, What::Piece(std::mem::take(&mut self.first)), &text.as_bytes()[start..start + end]);
            start += end;
        }
        self.drop(start);
        if self.ended {
            batch.push(number, What::End, &[]);
        }
        Ok(true)
    }

    /// Objects of a list, or one after the other.
    fn objects(&mut self, number: usize, batch: &mut Batch) -> std::result::Result<bool, String> {
        let mut start = 0;
        while let Some(range) = self.objects.next(&self.rest, self.ended)? {
            start = range.end;
            self.lines += 1;
            batch.push(number, What::Object(self.lines), &self.rest[range]);
        }
        if self.objects.is_between() {
            start = self.rest.len();
        }
        self.objects.dropped(start);
        self.drop(start);
        if self.rest.len() > MAX_LINE {
            let (record, most) = (self.lines + 1, MAX_LINE >> 20);
            return Err(format!("record {record} is longer than {most} MiB; cut the document into several records"));
        }
        Ok(true)
    }

    fn lines(&mut self, found: &Found, number: usize, batch: &mut Batch, problems: &mut Problems) -> Result<bool> {
        let mut start = 0;
        loop {
            let feed = self.rest[self.searched..].iter().position(|&b| b == b'\n').map(|at| self.searched + at);
            let last = feed.is_none() && self.ended && start < self.rest.len();
            let Some(end) = feed.or(last.then_some(self.rest.len())) else { break };
            let line = &self.rest[start..end];
            self.lines += 1;
            if !std::mem::take(&mut self.skipping) && !line.trim_ascii().is_empty() {
                batch.push(number, What::Line(self.lines), line);
            }
            start = (end + 1).min(self.rest.len());
            self.searched = start;
        }
        self.drop(start);
        self.searched = self.rest.len();
        if self.skipping || self.rest.len() > MAX_LINE {
            if !self.skipping {
                let (line, most) = (self.lines + 1, MAX_LINE >> 20);
                let reason = format!("line {line} is longer than {most} MiB; cut the document into several lines");
                problems.add(Error::file(&found.path, reason))?;
            }
            self.skipping = true;
            self.drop(self.rest.len());
            self.searched = 0;
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sparse file of `length` zeros called `name`.
    fn zeros(folder: &std::path::Path, name: &str, kind: Kind, length: u64) -> Found {
        let path = folder.join(name);
        File::create(&path).unwrap().set_len(length).unwrap();
        Found { path, kind, bytes: length }
    }

    #[test]
    fn a_line_of_a_gigabyte_of_text_passes_through_a_few_megabytes() {
        let dir = tempfile::tempdir().unwrap();
        let files = [zeros(dir.path(), "line.txt", Kind::Text, 1 << 30)];
        let (mut reader, mut batch, mut problems) =
            (Reader::new(&files, Cuts::default()), Batch::default(), Problems::default());
        let (mut bytes, mut pieces) = (0, 0);
        while reader.next(&mut batch, &mut problems).unwrap() {
            let rest = reader.open.as_ref().map_or(0, |open| open.rest.capacity());
            assert!(batch.bytes.capacity() + rest <= 48 << 20);
            bytes += batch.bytes.len();
            pieces += batch.parts.len();
        }
        assert_eq!((bytes, problems.count()), (1 << 30, 0));
        assert_eq!(pieces, (1 << 30) / (16 << 10) + 2, "pieces of 16 KiB, the beginning and the end");
    }

    #[test]
    fn a_json_line_of_a_gigabyte_is_skipped_and_the_next_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let file = zeros(dir.path(), "line.jsonl", Kind::Lines, 1 << 30);
        let mut end = std::fs::OpenOptions::new().append(true).open(&file.path).unwrap();
        std::io::Write::write_all(&mut end, b"\n{\"text\": \"good\"}\n").unwrap();
        let files = [file];
        let (mut reader, mut batch, mut problems) =
            (Reader::new(&files, Cuts::default()), Batch::default(), Problems::default());
        let mut lines = Vec::new();
        while reader.next(&mut batch, &mut problems).unwrap() {
            for part in &batch.parts {
                let What::Line(number) = part.what else { panic!("no line") };
                lines.push((number, batch.bytes[part.range.clone()].to_vec()));
            }
            let rest = reader.open.as_ref().map_or(0, |open| open.rest.capacity());
            assert!(batch.bytes.capacity() + rest <= 48 << 20);
        }
        assert_eq!(lines, [(2, b"{\"text\": \"good\"}".to_vec())]);
        let error = problems.finish().unwrap_err().to_string();
        assert!(error.contains("line.jsonl: line 1 is longer than 16 MiB"), "{error}");
    }
}
