//! Text to tokens on all cores, and from there to the cache.

use super::blocks::hash;
use super::cache::{Cache, Totals};
use super::files::{Found, Kind};
use super::jsonl;
use super::meter::Meter;
use super::problems::Problems;
use super::reader::{Batch, Part, Reader, What};
use super::record::{self, Shape};
use super::tokens::{Store, Tokens, Width};
use crate::config::data::AUTO;
use crate::error::{Error, Result};
use crate::tokenizer::Tokenizer;
use rayon::prelude::*;
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

/// Files are put together to units of about this many bytes, each of which becomes one shard.
pub const UNIT: u64 = 256 << 20;

/// What tokenising depends on beside the files.
pub struct Tokenising<'a> {
    /// The vocabulary.
    pub tokenizer: &'a Tokenizer,
    /// Key of the text in a JSON line, or [`AUTO`].
    pub text_field: &'a str,
    /// Where shards are kept.
    pub cache: &'a Cache,
}

/// Text that was tokenised for the first time, and how long that took.
#[derive(Default)]
pub struct Work {
    /// Bytes and tokens.
    pub totals: Totals,
    /// Time for tokenising alone.
    pub time: Duration,
    /// Why some tokens are not kept for the next start, if they are not.
    pub lost: Option<String>,
}

impl Tokenising<'_> {
    /// The tokens of `files`, from the cache if they are there; none if there were problems.
    pub fn unit(&self, files: &[Found], problems: &mut Problems, work: &mut Work) -> Result<Option<(Tokens, Totals)>> {
        let (before, vocab) = (problems.count(), self.tokenizer.vocab_size());
        let size: u64 = files.iter().map(|file| file.bytes).sum();
        let name = self.name(files)?;
        if size < self.cache.smallest {
            let (mut bytes, width) = (Vec::new(), Width::of(vocab));
            let totals = self.run(files, problems, |ids| {
                width.write(ids, &mut bytes);
                Ok(())
            })?;
            self.same(files, name)?;
            let (path, store) = (files[0].path.clone(), Store::Memory(bytes));
            let tokens = Tokens { path, store, offset: 0, width, count: totals.tokens, vocab };
            return Ok((problems.count() == before).then_some((tokens, totals)));
        }
        if let Some(found) = self.cache.find(name, vocab) {
            return Ok(Some(found));
        }
        let started = Instant::now();
        let mut writer = self.cache.create(name, vocab)?;
        let totals = self.run(files, problems, |ids| writer.push(ids))?;
        if problems.count() > before {
            return Ok(None);
        }
        self.same(files, name)?;
        let (tokens, lost) = writer.finish(totals.bytes, totals.documents)?;
        work.totals.add(totals);
        work.time += started.elapsed();
        work.lost = work.lost.take().or(lost);
        Ok(Some((tokens, totals)))
    }

    /// Hash of everything that the tokens of `files` depend on.
    fn name(&self, files: &[Found]) -> Result<u64> {
        let mut hasher = DefaultHasher::new();
        (env!("CARGO_PKG_VERSION"), self.tokenizer.fingerprint()).hash(&mut hasher);
        for found in files {
            let io = |e| Error::io(&found.path, e);
            let file = File::open(&found.path).map_err(io)?;
            let bytes = file.metadata().map_err(io)?.len();
            (found.kind, bytes, hash(&file, 0, bytes).map_err(io)?).hash(&mut hasher);
            if found.kind == Kind::Lines {
                self.text_field.hash(&mut hasher);
            }
        }
        Ok(hasher.finish())
    }

    /// Refuses files that are not as they were when they had this hash.
    fn same(&self, files: &[Found], name: u64) -> Result<()> {
        match self.name(files)? == name {
            true => Ok(()),
            false => Err(Error::file(&files[0].path, "or a file beside it changed while it was read; try again")),
        }
    }

    /// Hands the tokens of `files`, in order, to `sink`.
    fn run(
        &self,
        files: &[Found],
        problems: &mut Problems,
        mut sink: impl FnMut(&[u32]) -> Result<()>,
    ) -> Result<Totals> {
        let meter = Meter::new("tokenising", &files[0].path, files.iter().map(|file| file.bytes).sum());
        let (mut reader, mut batch, mut totals) =
            (Reader::new(files, self.tokenizer.cuts()), Batch::default(), Totals::default());
        let mut first = None;
        while reader.next(&mut batch, problems)? {
            let made: Vec<_> = batch.parts.par_iter().map(|part| self.part(part, &batch.bytes)).collect();
            for (part, made) in batch.parts.iter().zip(made) {
                match made.and_then(|made| same_shape(&mut first, part, &made).map(|()| made)) {
                    Ok(Made { ids, bytes, documents, .. }) => {
                        totals.add(Totals { tokens: ids.len() as u64, bytes, documents });
                        sink(&ids)?;
                    }
                    Err(reason) => problems.add(Error::file(&files[part.file].path, reason))?,
                }
            }
            meter.add(batch.bytes.len() as u64);
        }
        Ok(totals)
    }

    /// What a part is made to, or what is wrong with it.
    fn part(&self, part: &Part, bytes: &[u8]) -> std::result::Result<Made, String> {
        let bytes = &bytes[part.range.clone()];
        match part.what {
            What::Piece(first) => {
                let text = std::str::from_utf8(bytes).map_err(|e| e.to_string())?;
                Ok(Made { ids: self.tokenizer.encode_piece(text, first), bytes: text.len() as u64, ..Made::default() })
            }
            What::Line(_) | What::Object(_) => {
                let place = part.what.place().unwrap_or_default();
                self.line(bytes).map_err(|reason| format!("{place} {reason}"))
            }
            What::Start => Ok(Made { ids: self.tokenizer.between().to_vec(), ..Made::default() }),
            What::End => Ok(Made { ids: vec![self.tokenizer.eos()], documents: 1, ..Made::default() }),
        }
    }

    /// The same for a JSON line.
    fn line(&self, line: &[u8]) -> std::result::Result<Made, String> {
        if self.text_field != AUTO {
            return Ok(self.document(&jsonl::text(line, self.text_field)?, None));
        }
        let (shape, record) = record::read(line)?;
        let text = record.text()?;
        let unwanted = || Made { shape: Some(shape), ..Made::default() };
        Ok(text.map_or_else(unwanted, |text| self.document(&text, Some(shape))))
    }

    fn document(&self, text: &str, shape: Option<Shape>) -> Made {
        let mut ids = self.tokenizer.between().to_vec();
        ids.extend(self.tokenizer.encode(text));
        ids.push(self.tokenizer.eos());
        Made { ids, bytes: text.len() as u64, documents: 1, shape }
    }
}

/// What became of a part.
#[derive(Default)]
struct Made {
    ids: Vec<u32>,
    bytes: u64,
    documents: u64,
    /// The shape of a line, where it was told by its keys.
    shape: Option<Shape>,
}

/// The first sound line of a file: number of the file, the line in words, shape.
type First = (usize, String, Shape);

/// That a line has the shape of the `first` of its file.
fn same_shape(first: &mut Option<First>, part: &Part, made: &Made) -> std::result::Result<(), String> {
    let (Some(place), Some(shape)) = (part.what.place(), made.shape) else { return Ok(()) };
    match first {
        Some((file, line, other)) if *file == part.file && shape != *other => {
            Err(format!("{place} has the shape {shape}, but {line} {other}; give a file lines of one shape"))
        }
        Some((file, ..)) if *file == part.file => Ok(()),
        _ => {
            *first = Some((part.file, place, shape));
            Ok(())
        }
    }
}

/// `files` in units of one kind.
pub fn units(files: &[Found]) -> Vec<&[Found]> {
    let mut size = 0;
    let same_unit = |a: &Found, _: &Found| {
        size = if size >= UNIT { 0 } else { size } + a.bytes;
        size < UNIT
    };
    files.chunk_by(same_unit).collect()
}
