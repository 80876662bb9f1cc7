//! Conversations as rows of batches: those of the user's files, or the embedded world's without end.

use super::batch::Row;
use super::loader::{Counts, Loader, split};
use super::record::{self, Purpose};
use super::shuffle::permuted;
use super::world::{Split, World, chat};
use crate::chat::conversation::conversation;
use crate::chat::pack::{best_fit, row};
use crate::chat::{Encoded, Encoder};
use crate::config::data::DataConfig;
use crate::config::sft::SftConfig;
use crate::error::{Error, Result};

/// Conversations whose targets are measured, in the world.
const MEASURED: u64 = 256;

/// The training and the held-out conversations, as rows of one length.
pub struct Chats {
    source: Source,
    encoder: Encoder,
    length: usize,
    packing: bool,
    /// Bytes of text that a counted target stands for, on average.
    pub bytes_per_token: f64,
}

enum Source {
    World(World),
    Files { train: Stored, val: Stored, counts: Counts, seed: Option<u64> },
}

/// Conversations in memory, and the rows that they fill.
#[derive(Default)]
struct Stored {
    all: Vec<Encoded>,
    rows: Vec<Vec<u32>>,
}

impl Chats {
    /// Opens the embedded world's chats, or the conversations in the files of `config`, which stay in memory as tokens.
    ///
    /// # Errors
    /// If files cannot be read, more lines than allowed are unusable, or no conversation is left.
    pub fn open(config: &DataConfig, sft: &SftConfig, encoder: Encoder, length: usize, seed: u64) -> Result<Chats> {
        let mut chats = Chats {
            source: Source::World(World::new(config.world_seed)),
            encoder,
            length,
            packing: sft.packing,
            bytes_per_token: 0.0,
        };
        if !config.path.is_empty() {
            let make = |line: &[u8]| chats.encode(line);
            let mut loader = Loader::new("conversations", &make);
            let train = loader.load(&config.path, &config.val_path)?;
            let val = loader.load(&config.val_path, &[])?;
            let counts = loader.finish(sft.max_bad_lines)?;
            let (train, val) = split(train, val, config.val_fraction);
            let [train, val] = [train, val].map(|all| chats.stored(all));
            if train.all.is_empty() {
                let reason = "holds no conversation to train on; give one with an answer that counts";
                return Err(Error::config("data.path", reason));
            }
            chats.source = Source::Files { train, val, counts, seed: config.shuffle.then_some(seed) };
        }
        chats.bytes_per_token = chats.measure();
        if chats.bytes_per_token == 0.0 {
            let reason = format!("is {length}, in which no answer of the embedded world's chats begins; raise it");
            return Err(Error::config("train.sequence_length", reason));
        }
        Ok(chats)
    }

    /// What encodes them.
    pub fn encoder(&self) -> &Encoder {
        &self.encoder
    }

    /// Training row number `n`: of files the rows of an epoch in a new order.
    pub fn train_row(&self, n: u64) -> Row {
        match &self.source {
            Source::World(world) => self.world_row(*world, Split::Train, n),
            Source::Files { train, seed, .. } => {
                let rows = train.rows.len() as u64;
                let (epoch, place) = (n / rows, n % rows);
                self.row(train, seed.map_or(place, |seed| permuted(place, rows, seed, epoch)))
            }
        }
    }

    /// Held-out row number `i`.
    pub fn val_row(&self, i: u64) -> Row {
        match &self.source {
            Source::World(world) => self.world_row(*world, Split::Val, i),
            Source::Files { val, .. } => self.row(val, i),
        }
    }

    /// Rows of an epoch, and held-out rows; none where they have no end.
    pub fn rows(&self) -> Option<(u64, u64)> {
        match &self.source {
            Source::World(_) => None,
            Source::Files { train, val, .. } => Some((train.rows.len() as u64, val.rows.len() as u64)),
        }
    }

    /// One line on what they are.
    pub fn describe(&self) -> String {
        let length = self.length;
        let Source::Files { train, val, counts, .. } = &self.source else {
            return format!("embedded world: chats without end in rows of {length} tokens");
        };
        let Counts { files, made, cut, dropped, bad } = counts;
        let taken: usize = train.all.iter().map(positions).sum();
        let full = 100.0 * taken as f64 / (train.rows.len() * length).max(1) as f64;
        format!(
            "{files} file{}, {made} conversations ({cut} cut to {length} tokens, {dropped} dropped without a \
             counted target, {bad} bad lines left out): {} training rows, {full:.1} % full, {} held out",
            if *files == 1 { "" } else { "s" },
            train.rows.len(),
            val.rows.len(),
        )
    }

    fn row(&self, stored: &Stored, n: u64) -> Row {
        row(stored.rows[n as usize].iter().map(|&i| &stored.all[i as usize]), self.length)
    }

    fn stored(&self, all: Vec<Encoded>) -> Stored {
        let sizes: Vec<usize> = all.iter().map(positions).collect();
        let rows = match self.packing {
            true => best_fit(&sizes, self.length),
            false => (0..all.len() as u32).map(|i| vec![i]).collect(),
        };
        Stored { all, rows }
    }

    /// As many chats of the world, from number n · 2¹⁶ on, as there is room for, the last one cut; one without packing.
    fn world_row(&self, world: World, split: Split, n: u64) -> Row {
        let (mut taken, mut room) = (Vec::new(), self.length);
        for j in 0..if self.packing { self.length as u64 } else { 1 } {
            let encoded = self.world_chat(world, split, n << 16 | j, room);
            // What is too short for an answer stays padding.
            let Some(encoded) = encoded.filter(|encoded| encoded.targets() > 0) else { break };
            room -= positions(&encoded);
            taken.push(encoded);
        }
        row(&taken, self.length)
    }

    /// A chat of the world, cut to at most `room` positions.
    fn world_chat(&self, world: World, split: Split, n: u64, room: usize) -> Option<Encoded> {
        // The world's own messages suit every template that took the plain conversation at first.
        let mut encoded = self.encoder.encode(&chat::turns(&world.chat(n, split))).ok()?;
        self.encoder.cut(&mut encoded, room + 1);
        Some(encoded)
    }

    /// The conversation in a line, and whether it was cut; none if nothing of it counts.
    fn encode(&self, line: &[u8]) -> std::result::Result<Option<(Encoded, bool)>, String> {
        let Some(turns) = conversation(record::read_for(line, Purpose::Chat)?.1)? else { return Ok(None) };
        let encoded = self.encoder.encode(&turns);
        let mut encoded = encoded.map_err(|e| format!("does not suit the chat template: it {e}"))?;
        let most = self.length + 1;
        let cut = encoded.ids.len() > most;
        self.encoder.cut(&mut encoded, most);
        Ok((encoded.targets() > 0).then_some((encoded, cut)))
    }

    fn measure(&self) -> f64 {
        let tokenizer = self.encoder.tokenizer();
        let (mut tokens, mut bytes) = (0, 0);
        let mut add = |encoded: &Encoded| {
            let counted = encoded.ids.iter().zip(&encoded.counted).filter(|(_, counted)| **counted);
            let counted: Vec<u32> = counted.map(|(id, _)| *id).collect();
            tokens += counted.len();
            bytes += tokenizer.byte_count(&counted);
        };
        match &self.source {
            Source::World(world) => {
                (0..MEASURED).filter_map(|n| self.world_chat(*world, Split::Val, n, self.length)).for_each(|e| add(&e));
            }
            Source::Files { train, val, .. } => {
                let all = if val.all.is_empty() { train } else { val };
                all.all.iter().for_each(add);
            }
        }
        bytes as f64 / tokens.max(1) as f64
    }
}

/// Positions that a conversation takes in a row.
fn positions(encoded: &Encoded) -> usize {
    encoded.ids.len().saturating_sub(1)
}
