//! The user's data: paths to sources of tokens.

use super::cache::{Cache, Totals};
use super::census::{self, Census};
use super::files::{Found, Kind, Tell, find_all};
use super::problems::Problems;
use super::record::Shape;
use super::shard;
use super::survey::{Survey, survey};
use super::tokenise::{Tokenising, Work, units};
use super::tokens::Tokens;
use crate::config::data::DataConfig;
use crate::error::Result;
use crate::terminal::{note, printable};
use crate::tokenizer::Tokenizer;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Tokens that windows run through without a break: all text of a source, or one token shard.
pub struct Stretch {
    parts: Vec<Tokens>,
    /// Tokens in it.
    pub tokens: u64,
}

impl Stretch {
    fn of(parts: Vec<Tokens>) -> Stretch {
        let tokens = parts.iter().map(|part| part.count).sum();
        Stretch { parts, tokens }
    }

    /// The `n` tokens from number `start` on.
    pub fn read(&self, start: u64, n: usize) -> Result<Vec<u32>> {
        let (mut ids, mut before) = (Vec::with_capacity(n), 0);
        for part in &self.parts {
            let at = start + ids.len() as u64;
            if ids.len() < n && at < before + part.count {
                let here = (before + part.count - at).min((n - ids.len()) as u64);
                part.read(at - before, here as usize, &mut ids)?;
            }
            before += part.count;
        }
        Ok(ids)
    }
}

/// What one path holds.
pub struct Source {
    /// The path.
    pub path: PathBuf,
    /// What its files hold.
    pub kind: Kind,
    /// Its files.
    pub files: Vec<Found>,
    /// Counts of it.
    pub totals: Totals,
    /// Its tokens.
    pub stretches: Vec<Stretch>,
    /// Ids that occur in it, where that is known already.
    survey: Option<Survey>,
}

impl Source {
    /// Puts files of tokens that lie one after the other and hold no window of `window` tokens each together.
    pub fn join(&mut self, window: u64) {
        let (mut joined, mut before): (Vec<Stretch>, bool) = (Vec::new(), false);
        for stretch in std::mem::take(&mut self.stretches) {
            let short = stretch.tokens < window;
            match joined.last_mut() {
                Some(last) if short && before => {
                    last.parts.extend(stretch.parts);
                    last.tokens += stretch.tokens;
                }
                _ => joined.push(stretch),
            }
            before = short;
        }
        self.stretches = joined;
    }
}

/// All paths.
pub struct Corpus {
    /// One a path.
    pub sources: Vec<Source>,
}

impl Corpus {
    /// Opens `paths` without the files of `but`. Text is tokenised unless `cache` holds its tokens; tokens are checked.
    ///
    /// # Errors
    /// If the disk fails, or all that is wrong with the files.
    pub fn open(
        paths: &[PathBuf],
        but: &[PathBuf],
        config: &DataConfig,
        tokenizer: &Tokenizer,
        cache: &Cache,
    ) -> Result<Corpus> {
        let mut problems = Problems::default();
        let found = find_all(paths, but, Tell::Notes, &mut problems)?;
        let mut opener = Opener {
            config,
            tokenizer,
            tokenising: Tokenising { tokenizer, text_field: &config.text_field, cache },
            problems,
            work: Work::default(),
        };
        let sources = paths.iter().zip(found).filter_map(|(path, files)| opener.source(path, files).transpose());
        let sources = sources.collect::<Result<Vec<_>>>()?;
        opener.problems.finish()?;
        cache.sweep();
        let (made, seconds) = (opener.work.totals, opener.work.time.as_secs_f64());
        if made.bytes > 0 {
            let rate = made.bytes as f64 / 1e6 / seconds.max(1e-9);
            let kept = match (opener.work.lost, &cache.folder) {
                (None, Some(folder)) => format!("kept in {}", folder.display()),
                (reason, _) => format!("not kept for the next start: {}", printable(&reason.unwrap_or_default())),
            };
            note(format_args!(
                "tokenised {} bytes to {} tokens in {seconds:.2} s ({rate:.1} MB/s); {kept}",
                made.bytes, made.tokens
            ));
        }
        Ok(Corpus { sources })
    }

    /// Counts of all sources.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        self.sources.iter().for_each(|source| totals.add(source.totals));
        totals
    }

    /// Files of all sources.
    pub fn files(&self) -> usize {
        self.sources.iter().map(|source| source.files.len()).sum()
    }

    /// What the JSON lines hold, by their shapes.
    ///
    /// # Errors
    /// If they cannot be read again, or have changed.
    pub fn census(&self) -> Result<BTreeMap<Shape, Census>> {
        let mut all = BTreeMap::new();
        let lines = self.sources.iter().filter(|source| source.kind == Kind::Lines);
        lines.map(|source| &source.files).try_for_each(|files| census::count(files, &mut all))?;
        Ok(all)
    }

    /// How many ids of the vocabulary occur.
    pub fn used_ids(&self, tokenizer: &Tokenizer) -> Result<usize> {
        let mut all = Survey::default();
        for source in &self.sources {
            match &source.survey {
                Some(survey) => all.add(survey),
                None => {
                    let parts = source.stretches.iter().flat_map(|stretch| &stretch.parts);
                    parts
                        .map(|part| survey(part, tokenizer))
                        .try_for_each(|found| found.map(|found| all.add(&found)))?;
                }
            }
        }
        Ok(all.used.iter().filter(|&&used| used).count())
    }
}

/// Opens sources and gathers what is wrong with them.
struct Opener<'a> {
    config: &'a DataConfig,
    tokenizer: &'a Tokenizer,
    tokenising: Tokenising<'a>,
    problems: Problems,
    work: Work,
}

impl Opener<'_> {
    /// What `files` of `path` hold; none if there were problems.
    fn source(&mut self, path: &Path, files: Vec<Found>) -> Result<Option<Source>> {
        let before = self.problems.count();
        let Some(kind) = files.first().map(|first| first.kind) else { return Ok(None) };
        let mut source = Source {
            path: path.to_owned(),
            kind,
            files,
            totals: Totals::default(),
            stretches: Vec::new(),
            survey: None,
        };
        match kind {
            Kind::Tokens => self.tokens(&mut source)?,
            Kind::Text | Kind::Lines => self.text(&mut source)?,
        }
        Ok((self.problems.count() == before).then_some(source))
    }

    fn text(&mut self, source: &mut Source) -> Result<()> {
        let mut parts = Vec::new();
        for unit in units(&source.files) {
            let made = self.tokenising.unit(unit, &mut self.problems, &mut self.work);
            let made = made.or_else(|e| self.problems.add(e).map(|()| None))?;
            if let Some((tokens, totals)) = made {
                source.totals.add(totals);
                parts.push(tokens);
            }
        }
        source.stretches.push(Stretch::of(parts));
        Ok(())
    }

    fn tokens(&mut self, source: &mut Source) -> Result<()> {
        let mut all = Survey::default();
        for file in &source.files {
            let opened = shard::open(file, self.config.token_type, self.tokenizer.vocab_size());
            let checked = opened.and_then(|tokens| survey(&tokens, self.tokenizer).map(|found| (tokens, found)));
            match checked {
                Ok((tokens, found)) => {
                    let (bytes, documents) = (found.bytes, found.documents);
                    source.totals.add(Totals { tokens: tokens.count, bytes, documents });
                    source.stretches.push(Stretch::of(vec![tokens]));
                    all.add(&found);
                }
                Err(e) => self.problems.add(e)?,
            }
        }
        source.survey = Some(all);
        Ok(())
    }
}
