//! Data to batches.
//!
//! In reading order: [`world`] (the embedded text); for the user's data `files` (which there are), `formats` (which are
//! not read), [`fingerprint`] (whether they are what they were), `reader` and `objects` (their parts), `jsonl`,
//! [`record`], `message`, `columns` and `render` (JSON lines to text), `tokenise` (text to tokens), `shard` (files that
//! hold tokens), `cache` (tokens that stay), [`corpus`] (all of it), [`census`] (what JSON lines hold); [`shuffle`] and
//! `order` (in which order); `loader` (what JSON lines hold, in memory), [`chats`] (conversations, of files or of the
//! world), [`preferences`] (pairs of answers, likewise), [`questions`] (with answers that can be judged: of files, the
//! world's, or [`arithmetic`]); and here the [`Dataset`] of any text as numbered rows, which [`Batch`] puts
//! together for the device and [`prefetch`] prepares ahead.

pub mod arithmetic;
pub mod batch;
mod blocks;
mod cache;
pub mod census;
pub mod chats;
pub(crate) mod columns;
pub mod corpus;
mod files;
pub mod fingerprint;
mod formats;
mod jsonl;
mod loader;
mod message;
mod meter;
mod objects;
mod order;
pub mod preferences;
pub mod prefetch;
mod problems;
pub mod questions;
mod reader;
pub mod record;
mod render;
mod shard;
pub mod shuffle;
mod survey;
mod tokenise;
mod tokens;
pub mod world;

pub use batch::{Batch, IGNORED, Row};
pub use cache::Cache;
pub use files::{check_local, hub_name};

use crate::chat::Encoder;
use crate::config::data::DataConfig;
use crate::config::sft::SftConfig;
use crate::error::{Error, Result};
use crate::terminal::note;
use crate::tokenizer::Tokenizer;
use chats::Chats;
use corpus::{Corpus, Source as Files};
use files::Kind;
use order::{Order, Span};
use std::ops::Range;
use std::sync::OnceLock;
use world::{Split, Windows, World};

/// Targets over which the world's entropy and bytes are averaged: some 1800 stories, for half a percent.
const MEASURED_TARGETS: usize = 1 << 17;
/// Tokens that are read at a time to find the end of a document.
const SEARCHED: u64 = 1 << 16;

/// The training and the held-out text, as windows of one length. A window is a pure function of its number, so a run
/// resumes with nothing but a counter.
pub struct Dataset {
    source: Source,
    length: usize,
}

/// Where the windows come from.
enum Source {
    /// Stories without end.
    World {
        train: Box<Windows>,
        val: Box<Windows>,
        /// Nats and bytes of a target, measured when first asked for.
        measured: OnceLock<(f64, f64)>,
    },
    /// Conversations.
    Chats(Box<Chats>),
    /// The user's files: what is trained on, and what validates where that has files of its own.
    Files { train: Corpus, val: Option<Corpus>, orders: Orders, seed: Option<u64> },
}

/// The orders of both splits.
struct Orders {
    train: Order,
    val: Order,
}

impl Dataset {
    /// Opens the embedded world, or the files of `config`, whose text is tokenised unless that was done before. `seed`
    /// orders the windows of files.
    ///
    /// # Errors
    /// If `config` cannot be used, files cannot be, or there is less text than one window.
    pub fn open(config: &DataConfig, tokenizer: &Tokenizer, sequence_length: usize, seed: u64) -> Result<Dataset> {
        Self::open_in(config, tokenizer, sequence_length, seed, &Cache::of_user())
    }

    /// The same with tokens kept in `cache`.
    pub fn open_in(
        config: &DataConfig,
        tokenizer: &Tokenizer,
        sequence_length: usize,
        seed: u64,
        cache: &Cache,
    ) -> Result<Dataset> {
        let length = sequence_length;
        if length == 0 {
            return Err(Error::config("train.sequence_length", "is 0; it must be at least 1"));
        }
        if config.path.is_empty() {
            let windows = |split| {
                let world = World::new(config.world_seed);
                Box::new(Windows { world, split, length, tokenizer: tokenizer.clone() })
            };
            let (train, val) = (windows(Split::Train), windows(Split::Val));
            return Ok(Dataset { source: Source::World { train, val, measured: OnceLock::new() }, length });
        }
        let fraction = config.val_fraction;
        check_fraction(fraction)?;
        let mut train = Corpus::open(&config.path, &config.val_path, config, tokenizer, cache)?;
        let apart = !config.val_path.is_empty();
        let mut val = apart.then(|| Corpus::open(&config.val_path, &[], config, tokenizer, cache)).transpose()?;
        let sources = train.sources.iter_mut().chain(val.iter_mut().flat_map(|val| &mut val.sources));
        sources.for_each(|source| source.join(length as u64 + 1));
        let held_out = if apart { 0.0 } else { fraction };
        let orders = orders(&train, val.as_ref(), held_out, tokenizer.eos(), length)?;
        tell_unseen(&train, &orders, length);
        let seed = config.shuffle.then_some(seed);
        Ok(Dataset { source: Source::Files { train, val, orders, seed }, length })
    }

    /// The same for conversations, of which `sft` and `encoder` make rows.
    ///
    /// # Errors
    /// If `config` cannot be used, files cannot be, or too many of their lines cannot be.
    pub fn of_chats(
        config: &DataConfig,
        sft: &SftConfig,
        encoder: Encoder,
        sequence_length: usize,
        seed: u64,
    ) -> Result<Dataset> {
        check_fraction(config.val_fraction)?;
        let chats = Chats::open(config, sft, encoder, sequence_length, seed)?;
        Ok(Dataset { source: Source::Chats(Box::new(chats)), length: sequence_length })
    }

    /// Training rows of these numbers, filled up to `batch` with padding. Files begin a new epoch, in a new order, when
    /// all their rows are through.
    ///
    /// # Errors
    /// If the file that holds one cannot be read any more.
    pub fn train_batch(&self, numbers: Range<usize>, batch: usize) -> Result<Batch> {
        match &self.source {
            Source::Chats(chats) => Ok(of_rows(numbers.map(|n| chats.train_row(n as u64)), batch)),
            _ => of_windows(numbers.map(|n| self.train_window(n as u64)), batch),
        }
    }

    /// Held-out rows of these numbers, below [`Dataset::val_windows`], likewise.
    ///
    /// # Errors
    /// If the file that holds one cannot be read any more.
    pub fn val_batch(&self, numbers: Range<usize>, batch: usize) -> Result<Batch> {
        match &self.source {
            Source::Chats(chats) => Ok(of_rows(numbers.map(|n| chats.val_row(n as u64)), batch)),
            _ => of_windows(numbers.map(|n| self.val_window(n)), batch),
        }
    }

    /// Training window number `counter`, of `sequence_length` + 1 tokens. Files begin a new epoch, in a new order,
    /// when all their windows are through.
    ///
    /// # Errors
    /// If the file that holds it cannot be read any more.
    pub fn train_window(&self, counter: u64) -> Result<Vec<u32>> {
        match &self.source {
            Source::World { train, .. } => Ok(train.ids(counter)),
            Source::Chats(_) => Err(no_window()),
            Source::Files { train, orders, seed, .. } => {
                let n = orders.train.windows();
                let (epoch, place) = (counter / n, counter % n);
                self.read(train, orders.train.window(place, seed.map(|seed| (seed, epoch))))
            }
        }
    }

    /// Held-out window number `i`, of `sequence_length` + 1 tokens.
    ///
    /// # Errors
    /// If the file that holds it cannot be read any more.
    ///
    /// # Panics
    /// If `i` is not below [`Dataset::val_windows`].
    pub fn val_window(&self, i: usize) -> Result<Vec<u32>> {
        match &self.source {
            Source::World { val, .. } => Ok(val.ids(i as u64)),
            Source::Chats(_) => Err(no_window()),
            Source::Files { train, val, orders, .. } => {
                self.read(val.as_ref().unwrap_or(train), orders.val.fair(i as u64))
            }
        }
    }

    fn read(&self, corpus: &Corpus, (source, stretch, start): (usize, usize, u64)) -> Result<Vec<u32>> {
        corpus.sources[source].stretches[stretch].read(start, self.length + 1)
    }

    /// Windows of an epoch; none if the text has no end.
    pub fn train_windows(&self) -> Option<u64> {
        match &self.source {
            Source::World { .. } => None,
            Source::Chats(chats) => chats.rows().map(|(train, _)| train),
            Source::Files { orders, .. } => Some(orders.train.windows()),
        }
    }

    /// Held-out windows: none if they have no end, 0 if nothing is held out.
    pub fn val_windows(&self) -> Option<usize> {
        match &self.source {
            Source::World { .. } => None,
            Source::Chats(chats) => chats.rows().map(|(_, val)| val as usize),
            Source::Files { orders, .. } => Some(orders.val.windows() as usize),
        }
    }

    /// Nats a token that no model can fall below on average, where they are known: the entropy of the world's windows.
    pub fn entropy_per_token(&self) -> Option<f64> {
        self.measured().map(|(nats, _)| nats)
    }

    /// Bytes of text that a token stands for, on average.
    pub fn bytes_per_token(&self) -> f64 {
        match &self.source {
            Source::World { .. } => self.measured().map_or(0.0, |(_, bytes)| bytes),
            Source::Chats(chats) => chats.bytes_per_token,
            Source::Files { train, val, .. } => {
                let totals = val.as_ref().unwrap_or(train).totals();
                totals.bytes as f64 / totals.tokens as f64
            }
        }
    }

    /// One line on what the data are.
    pub fn describe(&self) -> String {
        let length = self.length;
        match &self.source {
            Source::World { .. } => {
                let (nats, bytes) = self.measured().unwrap_or_default();
                format!("embedded world, windows of {length} tokens; {bytes:.2} bytes and {nats:.3} nats a token")
            }
            Source::Chats(chats) => chats.describe(),
            Source::Files { train, .. } => {
                let (files, totals) = (train.files(), train.totals());
                format!(
                    "{files} file{}, {} bytes, {} tokens: {} training windows of {length} tokens, {} held out",
                    if files == 1 { "" } else { "s" },
                    totals.bytes,
                    totals.tokens,
                    self.train_windows().unwrap_or(0),
                    self.val_windows().unwrap_or(0),
                )
            }
        }
    }

    /// The world's nats and bytes a target.
    fn measured(&self) -> Option<(f64, f64)> {
        let Source::World { val, measured, .. } = &self.source else { return None };
        Some(*measured.get_or_init(|| {
            let windows = MEASURED_TARGETS.div_ceil(self.length);
            let (nats, bytes) = val.entropy_and_bytes(windows as u64);
            let targets = (windows * self.length) as f64;
            (nats / targets, bytes as f64 / targets)
        }))
    }
}

fn of_rows(rows: impl Iterator<Item = Row>, batch: usize) -> Batch {
    Batch::of_rows(&rows.collect::<Vec<Row>>(), batch)
}

fn of_windows(windows: impl Iterator<Item = Result<Vec<u32>>>, batch: usize) -> Result<Batch> {
    Ok(Batch::padded(&windows.collect::<Result<Vec<_>>>()?, batch))
}

fn check_fraction(fraction: f64) -> Result<()> {
    if !(0.0..1.0).contains(&fraction) {
        return Err(Error::config("data.val_fraction", format!("is {fraction}; it must be at least 0 and below 1")));
    }
    Ok(())
}

/// Says where files of tokens end so often between two windows that a tenth of their tokens is in none.
fn tell_unseen(train: &Corpus, orders: &Orders, length: usize) {
    let files = train.sources.iter().filter(|source| source.kind == Kind::Tokens).count();
    let all = train.totals().tokens;
    let seen = (orders.train.windows() + orders.val.windows()).saturating_mul(length as u64);
    let unseen = all.saturating_sub(seen);
    if files > 0 && unseen > all / 10 {
        note(format_args!(
            "{unseen} of {all} tokens are in no window of {length}: files end between two windows; put them together"
        ));
    }
}

/// Conversations are rows of their own lengths.
fn no_window() -> Error {
    Error::Usage("conversations are not cut into windows".to_owned())
}

/// The windows of `train`, without the share `held_out` at the end of each source, and those of that share or of `val`.
fn orders(train: &Corpus, val: Option<&Corpus>, held_out: f64, eos: u32, length: usize) -> Result<Orders> {
    let (mut kept, mut held) = (Vec::new(), Vec::new());
    for (number, source) in train.sources.iter().enumerate() {
        let cut = cut(source, held_out, eos, length)?;
        let all = source.totals.tokens;
        let (first, rest) = (spans(number, source, 0..cut, length), spans(number, source, cut..all, length));
        let windows = |spans: &[Span]| spans.iter().map(|span| span.windows).sum::<u64>();
        if windows(&first) == 0 || (cut < all && windows(&rest) == 0) {
            let whose = if train.sources.len() > 1 { format!(" in {}", source.path.display()) } else { String::new() };
            let reason = format!(
                "{all} tokens are too few{whose}: {cut} to train on and {} held out, where a window takes {}; add \
                 text, or use shorter sequences or another data.val_fraction (0 holds nothing out)",
                all - cut,
                length + 1
            );
            return Err(Error::config("data.path", reason));
        }
        kept.push(first);
        held.push(rest);
    }
    if let Some(val) = val {
        let all = |(i, source): (usize, &Files)| spans(i, source, 0..source.totals.tokens, length);
        held = val.sources.iter().enumerate().map(all).collect();
    }
    let orders = Orders { train: Order::new(kept, length), val: Order::new(held, length) };
    if val.is_some() && orders.val.windows() == 0 {
        return Err(Error::config("data.val_path", format!("holds no window of {} tokens; add text", length + 1)));
    }
    Ok(orders)
}

/// The token of `source` at which the held-out share begins. In plain text it is exact; documents of other files stay
/// whole, if one ends soon enough.
fn cut(source: &Files, held_out: f64, eos: u32, length: usize) -> Result<u64> {
    let all = source.totals.tokens;
    let exact = all - (all as f64 * held_out) as u64;
    if source.kind == Kind::Text || exact == 0 || exact == all {
        return Ok(exact);
    }
    let (mut before, last) = (0, all.saturating_sub(length as u64));
    for stretch in &source.stretches {
        // The token before the cut may be the end already.
        let mut at = (exact - 1).max(before);
        while at < (before + stretch.tokens).min(last) {
            let n = SEARCHED.min(before + stretch.tokens - at);
            let ids = stretch.read(at - before, n as usize)?;
            if let Some(place) = ids.iter().position(|&id| id == eos) {
                let found = at + place as u64 + 1;
                return Ok(if found < last { found } else { exact });
            }
            at += n;
        }
        before += stretch.tokens;
    }
    Ok(exact)
}

/// The windows of `length` + 1 tokens that lie in `range` of the tokens of `source`, each in one stretch.
fn spans(number: usize, source: &Files, range: std::ops::Range<u64>, length: usize) -> Vec<Span> {
    let (mut before, mut spans) = (0, Vec::new());
    for (stretch, known) in source.stretches.iter().enumerate() {
        let (start, end) = (range.start.max(before), range.end.min(before + known.tokens));
        if start < end {
            let windows = (end - start - 1) / length as u64;
            spans.push(Span { source: number, stretch, start: start - before, windows });
        }
        before += known.tokens;
    }
    spans
}
