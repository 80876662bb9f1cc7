//! Text to batches.
//!
//! In reading order: [`world`] (the embedded text), [`corpus`] (the user's text), [`shuffle`] (in which order), and
//! here the [`Dataset`] of either as numbered windows, which [`Batch`] puts together for the device.

pub mod batch;
pub mod corpus;
mod mmap;
pub mod shuffle;
pub mod world;

pub use batch::{Batch, IGNORED};

use crate::config::data::DataConfig;
use crate::error::{Error, Result};
use crate::tokenizer::Tokenizer;
use corpus::Corpus;
use std::sync::OnceLock;
use world::{Split, Windows, World};

/// Targets over which the world's entropy and bytes are averaged: some 1800 stories, for half a percent.
const MEASURED_TARGETS: usize = 1 << 17;

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
    /// A stream of tokens whose first `train` are to learn from.
    Files { corpus: Corpus, train: usize, seed: Option<u64> },
}

impl Dataset {
    /// Opens the embedded world, or reads and tokenises the files of `config`. `seed` orders the windows of files.
    ///
    /// # Errors
    /// If `config` cannot be used, a file cannot be read, or there is less text than one window.
    pub fn open(config: &DataConfig, tokenizer: &Tokenizer, sequence_length: usize, seed: u64) -> Result<Dataset> {
        if sequence_length == 0 {
            return Err(Error::config("train.sequence_length", "is 0; it must be at least 1"));
        }
        if config.path.is_empty() {
            let windows = |split| {
                let world = World::new(config.world_seed);
                Box::new(Windows { world, split, length: sequence_length, tokenizer: tokenizer.clone() })
            };
            let (train, val) = (windows(Split::Train), windows(Split::Val));
            return Ok(Dataset {
                source: Source::World { train, val, measured: OnceLock::new() },
                length: sequence_length,
            });
        }
        let fraction = config.val_fraction;
        if !(0.0..1.0).contains(&fraction) {
            return Err(Error::config(
                "data.val_fraction",
                format!("is {fraction}; it must be at least 0 and below 1"),
            ));
        }
        let corpus = Corpus::open(&config.path, tokenizer)?;
        let val = (corpus.ids.len() as f64 * fraction) as usize;
        let train = corpus.ids.len() - val;
        let needed = sequence_length + 1;
        if train < needed || (val > 0 && val < needed) {
            let reason = format!(
                "{} tokens are too few: {train} to train on and {val} held out, where a window takes {needed}; add \
                 text, or use shorter sequences or another data.val_fraction (0 holds nothing out)",
                corpus.ids.len()
            );
            return Err(Error::config("data.path", reason));
        }
        let seed = config.shuffle.then_some(seed);
        Ok(Dataset { source: Source::Files { corpus, train, seed }, length: sequence_length })
    }

    /// Training window number `counter`, of `sequence_length` + 1 tokens. Files begin a new epoch, in a new order,
    /// when all their windows are through.
    pub fn train_window(&self, counter: u64) -> Vec<u32> {
        match &self.source {
            Source::World { train, .. } => train.ids(counter),
            Source::Files { corpus, train, seed } => {
                let n = windows_in(*train, self.length) as u64;
                let (epoch, place) = (counter / n, counter % n);
                let window = seed.map_or(place, |seed| shuffle::permuted(place, n, seed, epoch)) as usize;
                corpus.ids[window * self.length..][..self.length + 1].to_vec()
            }
        }
    }

    /// Held-out window number `i`, of `sequence_length` + 1 tokens.
    ///
    /// # Panics
    /// If `i` is not below [`Dataset::val_windows`].
    pub fn val_window(&self, i: usize) -> Vec<u32> {
        match &self.source {
            Source::World { val, .. } => val.ids(i as u64),
            Source::Files { corpus, train, .. } => corpus.ids[*train + i * self.length..][..self.length + 1].to_vec(),
        }
    }

    /// Windows of an epoch; none if the text has no end.
    pub fn train_windows(&self) -> Option<u64> {
        match &self.source {
            Source::World { .. } => None,
            Source::Files { train, .. } => Some(windows_in(*train, self.length) as u64),
        }
    }

    /// Held-out windows: none if they have no end, 0 if nothing is held out.
    pub fn val_windows(&self) -> Option<usize> {
        match &self.source {
            Source::World { .. } => None,
            Source::Files { corpus, train, .. } => Some(windows_in(corpus.ids.len() - train, self.length)),
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
            Source::Files { corpus, .. } => corpus.bytes as f64 / corpus.ids.len() as f64,
        }
    }

    /// One line on what the data are.
    pub fn describe(&self) -> String {
        let length = self.length;
        match &self.source {
            Source::World { .. } => {
                let (nats, bytes) = self.measured().unwrap_or_default();
                format!(
                    "embedded world: endless windows of {length} tokens; a token is {bytes:.2} bytes and {nats:.3} nats"
                )
            }
            Source::Files { corpus, .. } => format!(
                "{} file{}, {} bytes, {} tokens: {} training windows of {length} tokens, {} held out",
                corpus.files,
                if corpus.files == 1 { "" } else { "s" },
                corpus.bytes,
                corpus.ids.len(),
                self.train_windows().unwrap_or(0),
                self.val_windows().unwrap_or(0),
            ),
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

/// Windows of `length` + 1 tokens that start every `length` tokens of a stretch of `tokens`.
fn windows_in(tokens: usize, length: usize) -> usize {
    tokens.saturating_sub(1) / length
}
