//! The embedded world: a little harbour town that tells stories, with the exact probability of each.
//!
//! In reading order: [`lexicon`] (the facts and sentences of `assets/world.toml`), [`template`] (sentences with
//! slots), `teller` (chooses, tells, and keeps account of the choices), `plot` (what can happen in a story),
//! `score` (the probability of a text, found again by trying every choice), `windows` (stories as training
//! windows, with their entropy and their questions), [`chat`] (shorter stories, and questions on them and on
//! facts), [`facts`] (one question on a fact, of which some are held out), [`preference`] (a right answer beside a
//! flawed one), [`quiz`] (questions whose answers can be checked).
//!
//! Two kinds of things can be foretold in a story. Facts hold in all of them: that Mara is the baker, that the rope is
//! for tying up boats. Others follow from the story so far: who has the rope now. The generator marks where either
//! is said ([`Probe`]), so that the two kinds of knowledge can be measured apart.

pub mod chat;
pub mod facts;
pub mod lexicon;
mod plot;
pub mod preference;
pub mod quiz;
mod score;
mod teller;
pub mod template;
mod windows;

pub use lexicon::Lexicon;
pub use teller::{Probe, Story};
pub use template::ProbeKind;
pub use windows::{ProbeWindow, Split, TokenProbe, Windows, probe_windows};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// The stories of one seed.
#[derive(Clone, Copy, Debug)]
pub struct World {
    lexicon: &'static Lexicon,
    seed: u64,
}

impl World {
    /// The embedded world, telling the stories of `seed`.
    pub fn new(seed: u64) -> World {
        World { lexicon: Lexicon::embedded(), seed }
    }

    /// The facts and sentences.
    pub fn lexicon(&self) -> &'static Lexicon {
        self.lexicon
    }

    /// Story number `n`: always the same for the same seed, on every machine.
    pub fn story(&self, n: u64) -> Story {
        plot::tell(self.lexicon, &mut self.dice(b"hadal world, a story of the seed", n))
    }

    /// Chat number `n` of a split, likewise; `n` is below 2⁶³.
    pub fn chat(&self, n: u64, split: Split) -> Vec<chat::Exchange> {
        chat::tell(self.lexicon, &mut self.dice(b"hadal world, one chat of a seed.", of_split(n, split)), split)
    }

    /// Preference number `n` of a split, likewise.
    pub fn preference(&self, n: u64, split: Split) -> preference::Preference {
        preference::tell(self.lexicon, &mut self.dice(b"hadal world, a pair of a seed...", of_split(n, split)), split)
    }

    /// Checkable question number `n` of a split, likewise.
    pub fn quiz(&self, n: u64, split: Split) -> quiz::Quiz {
        quiz::ask(self.lexicon, &mut self.dice(b"hadal world, a quiz of a seed...", of_split(n, split)), split)
    }

    /// The seed is the key of the cipher and the number its stream, so all stories are independent.
    fn dice(&self, purpose: &[u8; 32], n: u64) -> Dice {
        let mut key = *purpose;
        key[24..].copy_from_slice(&self.seed.to_le_bytes());
        let mut random = ChaCha8Rng::from_seed(key);
        random.set_stream(n);
        Dice(random)
    }

    /// The negative log-likelihood, in nats, that a story of this world is `text`; none if no story is.
    pub fn score(&self, text: &str) -> Option<f64> {
        score::nll(self.lexicon, text, false)
    }

    /// The negative log-likelihood, in nats, that a story of this world begins with `text`; none if no story does.
    pub fn score_prefix(&self, text: &str) -> Option<f64> {
        score::nll(self.lexicon, text, true)
    }
}

/// The number among those of both splits.
fn of_split(n: u64, split: Split) -> u64 {
    n | if split == Split::Val { 1 << 63 } else { 0 }
}

/// Chooses by the cipher's numbers.
struct Dice(ChaCha8Rng);

impl teller::Chooser for Dice {
    fn choose(&mut self, weights: &[u32], _so_far: &str) -> usize {
        let total: u64 = weights.iter().map(|&w| u64::from(w)).sum();
        // The high half of a 128-bit product: uniform below `total` but for 2^-64 of it.
        let mut place = ((u128::from(self.0.next_u64()) * u128::from(total)) >> 64) as u64;
        for (i, &weight) in weights.iter().enumerate() {
            match place.checked_sub(u64::from(weight)) {
                Some(rest) => place = rest,
                None => return i,
            }
        }
        weights.len() - 1
    }
}
