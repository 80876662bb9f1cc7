//! Preferences as pairs of rows of batches: those of the user's files, or the embedded world's without end.
//!
//! Of a batch row 2 i has the better answer of pair i, and row 2 i + 1 the worse one, each behind the prompt. A row has
//! one conversation and padding.

use super::batch::{Batch, Row};
use super::loader::{Counts, Loader, split};
use super::record::{self, Purpose, Role, Turn};
use super::shuffle::permuted;
use super::world::preference::Preference;
use super::world::{Split, World};
use crate::chat::pack::row;
use crate::chat::preference::{EncodedPair, Pair};
use crate::chat::{Encoded, Encoder};
use crate::config::Config;
use crate::config::data::DataConfig;
use crate::error::{Error, Result};

/// Pairs of the world that are tried in one's place.
const TRIED: u64 = 64;

/// The training and the held-out pairs, as rows of one length.
pub struct Preferences {
    source: Source,
    encoder: Encoder,
    length: usize,
    /// Tokens of an answer with its prompt at most: one more than a row has places where the last is a target alone, as
    /// many where it is an input too, for a model that judges the whole of it.
    most: usize,
}

enum Source {
    World(World),
    Files { train: Vec<EncodedPair>, val: Vec<EncodedPair>, counts: Counts, seed: Option<u64> },
}

/// Pairs of a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct PairBatch {
    /// The rows: twice as many as there are pairs, better and worse answers in turn.
    pub batch: Batch,
    /// The margin of each pair; 0 for padding.
    pub margins: Vec<f32>,
    /// Place of the last token of each row, none in padding.
    pub ends: Vec<Option<u32>>,
    /// Pairs that are no padding.
    pub real: usize,
}

impl Preferences {
    /// Opens the embedded world's preferences, or those in the files of `config`, which stay in memory as tokens. Of
    /// their lines `max_bad_lines` may be unusable.
    ///
    /// # Errors
    /// If files cannot be read, more lines than allowed are unusable, or no pair is left.
    pub fn open(
        config: &DataConfig,
        max_bad_lines: usize,
        encoder: Encoder,
        length: usize,
        seed: u64,
    ) -> Result<Preferences> {
        Preferences::of(config, max_bad_lines, encoder, [length, length + 1], seed)
    }

    /// The same with the token that ends an answer as an input of its row, and nothing after it: what a reward model
    /// judges. So a row has room for one token less.
    ///
    /// # Errors
    /// As [`Preferences::open`].
    pub fn open_whole(
        config: &DataConfig,
        max_bad_lines: usize,
        encoder: Encoder,
        length: usize,
        seed: u64,
    ) -> Result<Preferences> {
        Preferences::of(config, max_bad_lines, encoder, [length, length], seed)
    }

    fn of(
        config: &DataConfig,
        max_bad_lines: usize,
        encoder: Encoder,
        [length, most]: [usize; 2],
        seed: u64,
    ) -> Result<Preferences> {
        super::check_fraction(config.val_fraction)?;
        let world = World::new(config.world_seed);
        let mut all = Preferences { source: Source::World(world), encoder, length, most };
        if config.path.is_empty() {
            let fit = (0..TRIED).filter(|&n| all.world_pair(world, n, Split::Train).is_some()).count();
            if 2 * fit as u64 <= TRIED {
                let reason = format!("is {length}, too short for most of the embedded world's preferences; raise it");
                return Err(Error::config("train.sequence_length", reason));
            }
            return Ok(all);
        }
        let make = |line: &[u8]| all.encode(line);
        let mut loader = Loader::new("preferences", &make);
        let train = loader.load(&config.path, &config.val_path)?;
        let val = loader.load(&config.val_path, &[])?;
        let counts = loader.finish(max_bad_lines)?;
        let (train, val) = split(train, val, config.val_fraction);
        if train.is_empty() {
            let reason = "holds no preference to train on; give pairs whose answers differ and fit in a sequence";
            return Err(Error::config("data.path", reason));
        }
        all.source = Source::Files { train, val, counts, seed: config.shuffle.then_some(seed) };
        Ok(all)
    }

    /// The same with every pair of its files held out, and none to train on.
    pub fn held_out(mut self) -> Self {
        if let Source::Files { train, val, .. } = &mut self.source {
            val.splice(..0, std::mem::take(train));
        }
        self
    }

    /// What encodes them.
    pub fn encoder(&self) -> &Encoder {
        &self.encoder
    }

    /// Training pair number `n`: of files the pairs of an epoch in a new order.
    pub fn train_pair(&self, n: u64) -> EncodedPair {
        match &self.source {
            Source::World(world) => self.fitting(*world, n, Split::Train),
            Source::Files { train, .. } => train[self.place(n) as usize].clone(),
        }
    }

    /// Where training pair number `n` stands, whatever the order: a number that all occurrences of it share.
    pub fn place(&self, n: u64) -> u64 {
        match &self.source {
            Source::World(_) => n,
            Source::Files { train, seed, .. } => {
                let pairs = train.len() as u64;
                let (epoch, place) = (n / pairs, n % pairs);
                seed.map_or(place, |seed| permuted(place, pairs, seed, epoch))
            }
        }
    }

    /// Held-out pairs that each validation of a run judges.
    pub fn validated(&self, config: &Config) -> u64 {
        let wanted = config.train.eval_batches.saturating_mul(config.train.micro_batch / 2) as u64;
        self.pairs().map_or(wanted, |(_, held_out)| held_out.min(wanted))
    }

    /// Held-out pair number `i`.
    pub fn val_pair(&self, i: u64) -> EncodedPair {
        match &self.source {
            Source::World(world) => self.fitting(*world, i, Split::Val),
            Source::Files { val, .. } => val[i as usize].clone(),
        }
    }

    /// Pairs of an epoch, and held-out pairs; none where they have no end.
    pub fn pairs(&self) -> Option<(u64, u64)> {
        match &self.source {
            Source::World(_) => None,
            Source::Files { train, val, .. } => Some((train.len() as u64, val.len() as u64)),
        }
    }

    /// A batch of `pairs`, filled up to `most` of them with padding.
    pub fn batch(&self, pairs: &[EncodedPair], most: usize) -> PairBatch {
        let rows =
            pairs.iter().flat_map(|pair| [&pair.chosen, &pair.rejected]).map(|one| match self.most > self.length {
                true => row([one], self.length),
                false => row([&with_end(one, self.length)], self.length),
            });
        let mut margins: Vec<f32> = pairs.iter().map(|pair| pair.margin as f32).collect();
        margins.resize(most, 0.0);
        let mut rows: Vec<Row> = rows.collect();
        rows.resize(2 * most, Row::padding(self.length));
        let end = |row: &Row| row.real.iter().rposition(|&real| real != 0).map(|place| place as u32);
        let ends = rows.iter().map(end).collect();
        PairBatch { batch: Batch::of_rows(&rows, 2 * most), margins, ends, real: pairs.len() }
    }

    /// One line on what they are.
    pub fn describe(&self) -> String {
        let length = self.length;
        let Source::Files { train, val, counts, .. } = &self.source else {
            return format!("embedded world: preferences without end in rows of {length} tokens");
        };
        let Counts { files, made, cut, dropped, bad } = counts;
        format!(
            "{files} file{}, {made} preferences ({cut} cut to {length} tokens, {dropped} dropped with nothing to \
             prefer, {bad} bad lines left out): {} training pairs, {} held out",
            if *files == 1 { "" } else { "s" },
            train.len(),
            val.len(),
        )
    }

    /// The pair in a line, and whether it was cut; none if there is nothing to prefer.
    fn encode(&self, line: &[u8]) -> std::result::Result<Option<(EncodedPair, bool)>, String> {
        let pair = Pair::new(record::read_for(line, Purpose::Pair)?.1)?;
        let encoded = pair.encode(&self.encoder, self.most);
        let encoded = encoded.map_err(|e| format!("does not suit the chat template: it {e}"))?;
        Ok(encoded.map(|pair| (pair.clone(), pair.cut)))
    }

    /// The first of the world's pairs from number 64 n on that there is room for, so that in short rows long answers
    /// are rarer. That none of so many fits where every other does will not happen.
    fn fitting(&self, world: World, n: u64, split: Split) -> EncodedPair {
        let first = n.wrapping_mul(TRIED) & !(1 << 63);
        (first..first + TRIED).find_map(|n| self.world_pair(world, n, split)).unwrap_or_default()
    }

    /// The world's pair number `n`, if there is room for it: a cut answer would not be what it is called.
    fn world_pair(&self, world: World, n: u64, split: Split) -> Option<EncodedPair> {
        // The world's own messages suit every template that took the plain conversation at first.
        let pair = of_world(world.preference(n, split)).encode(&self.encoder, self.most).ok()?;
        pair.filter(|pair| !pair.cut)
    }
}

/// An answer of at most `length` tokens up to the one that ends it, and once more its last token: of a row the last
/// token is a target alone.
pub fn with_end(answer: &Encoded, length: usize) -> Encoded {
    let counted = answer.counted.iter().rposition(|&counted| counted).map_or(0, |last| last + 1);
    let mut ids = answer.ids[..counted.min(length)].to_vec();
    ids.extend(ids.last().copied());
    Encoded { counted: answer.counted.iter().copied().chain([true]).take(ids.len()).collect(), ids }
}

/// A preference of the world as messages.
pub fn of_world(preference: Preference) -> Pair {
    let turn = |role, content| vec![Turn::new(role, content)];
    Pair {
        prompt: turn(Role::User, preference.asked.question),
        chosen: turn(Role::Assistant, preference.asked.answer),
        rejected: turn(Role::Assistant, preference.rejected),
        margin: None,
    }
}
