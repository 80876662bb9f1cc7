//! Normal numbers drawn by all threads at once, and yet those that one thread would draw one after the other.
//!
//! The ziggurat method takes one word of the generator for most numbers and more for about one in eighty, so nobody
//! knows beforehand at which word number i begins. But two chains of draws that begin at different words soon begin a
//! number at the same word, and from there on they are equal. So the stream is cut into stretches, each drawn as if a
//! number began at its first word; then, in order, the few first numbers of those stretches are mended where that was
//! wrong.

use rand::rand_core::{Infallible, TryRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use rayon::prelude::*;

/// Words of 64 bits in a stretch: what is drawn at a time stays in a core's own cache.
const STRETCH: usize = 1 << 14;
/// Stretches drawn at a time, by all threads together.
const WAVE: usize = 128;
/// Words made at a time where a stretch's last number reaches past its end.
const MORE: usize = 64;

/// The words of a generator from number `first` on.
struct Words {
    rng: ChaCha8Rng,
    first: u64,
    made: Vec<u64>,
    next: usize,
}

impl Words {
    fn new(rng: &ChaCha8Rng, first: u64, count: usize) -> Self {
        let mut rng = rng.clone();
        rng.set_word_pos(2 * u128::from(first)); // it counts words of 32 bits
        let mut words = Words { rng, first, made: Vec::new(), next: 0 };
        words.make(count);
        words
    }

    #[cold]
    fn make(&mut self, count: usize) {
        let old = self.made.len();
        self.made.resize(old + count, 0);
        let Ok(()) = self.rng.try_fill_bytes(bytemuck::cast_slice_mut(&mut self.made[old..]));
        self.made[old..].iter_mut().for_each(|word| *word = u64::from_le(*word));
    }

    /// The word that the next number begins at.
    fn at(&self) -> u64 {
        self.first + self.next as u64
    }

    fn draw(&mut self, sigma: f64) -> f32 {
        let x: f64 = StandardNormal.sample(self);
        (x * sigma) as f32
    }
}

impl TryRng for Words {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        self.try_next_u64().map(|word| word as u32)
    }

    #[inline(always)]
    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        if self.next == self.made.len() {
            self.make(MORE);
        }
        self.next += 1;
        Ok(self.made[self.next - 1])
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        for part in bytes.chunks_mut(8) {
            let Ok(word) = self.try_next_u64();
            part.copy_from_slice(&word.to_le_bytes()[..part.len()]);
        }
        Ok(())
    }
}

/// The numbers that begin in some words of the stream.
struct Stretch {
    first: u64,
    words: usize,
    values: Vec<f32>,
    /// How many of the first values are wrong, and what stands in their place.
    wrong: usize,
    mended: Vec<f32>,
    /// Where the first number after it begins.
    exit: u64,
}

impl Stretch {
    fn new(first: u64, words: usize) -> Self {
        Stretch { first, words, values: Vec::with_capacity(words), wrong: 0, mended: Vec::new(), exit: 0 }
    }

    fn end(&self) -> u64 {
        self.first + self.words as u64
    }

    /// Its numbers, in two pieces.
    fn pieces(&self) -> [&[f32]; 2] {
        [&self.mended, &self.values[self.wrong..]]
    }

    /// Draws as if a number began at the first word.
    fn draw(&mut self, rng: &ChaCha8Rng, sigma: f64) {
        let mut words = Words::new(rng, self.first, self.words);
        self.values.clear();
        self.mended.clear();
        self.wrong = 0;
        while words.next < self.words {
            self.values.push(words.draw(sigma));
        }
        self.exit = words.at();
    }

    /// Corrects what was drawn, given that the first number begins at `entry`, at the first word or after it.
    fn mend(&mut self, rng: &ChaCha8Rng, sigma: f64, entry: u64) {
        if entry == self.first {
            return;
        }
        let mut guess = Words::new(rng, self.first, MORE);
        let mut truth = Words::new(rng, entry, MORE);
        while guess.at() != truth.at() && guess.at().min(truth.at()) < self.end() {
            if guess.at() < truth.at() {
                guess.draw(sigma);
                self.wrong += 1;
            } else {
                self.mended.push(truth.draw(sigma));
            }
        }
        if guess.at() != truth.at() {
            self.exit = truth.at(); // they met nowhere in the stretch
        }
    }
}

/// Fills `values` with the first numbers of `rng`'s stream, of mean 0 and standard deviation `sigma`.
pub fn normal(rng: &ChaCha8Rng, sigma: f64, values: &mut [f32]) {
    in_stretches(rng, sigma, values, STRETCH);
}

fn in_stretches(rng: &ChaCha8Rng, sigma: f64, values: &mut [f32], words: usize) {
    let wave = WAVE.min(values.len().div_ceil(words));
    let mut stretches: Vec<Stretch> = (0..wave).map(|i| Stretch::new((i * words) as u64, words)).collect();
    let mut rest = values;
    let mut entry = 0;
    while !rest.is_empty() {
        stretches.par_iter_mut().for_each(|stretch| stretch.draw(rng, sigma));
        let mut copies = Vec::with_capacity(2 * wave);
        for stretch in &mut stretches {
            stretch.mend(rng, sigma, entry);
            entry = stretch.exit;
            stretch.first += (wave * words) as u64; // for the next wave
            for piece in stretch.pieces() {
                let kept = piece.len().min(rest.len());
                let (target, after) = rest.split_at_mut(kept);
                copies.push((target, &piece[..kept]));
                rest = after;
            }
        }
        copies.into_par_iter().for_each(|(target, values)| target.copy_from_slice(values));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    fn one_by_one(rng: &ChaCha8Rng, sigma: f64, count: usize) -> Vec<f32> {
        let normal = Distribution::<f64>::sample_iter(StandardNormal, rng.clone());
        normal.take(count).map(|x| (x * sigma) as f32).collect()
    }

    #[test]
    fn any_stretches_give_the_numbers_of_one_thread() {
        for seed in 0..4 {
            let rng = ChaCha8Rng::from_seed([seed; 32]);
            // Short stretches end inside a number often, and some hold no word at which both chains begin one.
            for (words, count) in [(1, 3000), (2, 3000), (3, 10_000), (64, 100_000), (STRETCH, STRETCH * WAVE + 12_345)]
            {
                let mut drawn = vec![f32::NAN; count];
                in_stretches(&rng, 0.02, &mut drawn, words);
                assert!(drawn == one_by_one(&rng, 0.02, count), "seed {seed}, {words} words");
            }
        }
    }

    #[test]
    fn the_number_of_threads_changes_nothing() {
        let rng = ChaCha8Rng::from_seed([9; 32]);
        let with = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let mut drawn = vec![f32::NAN; 300_000];
            pool.install(|| normal(&rng, 1.0, &mut drawn));
            drawn
        };
        let one = with(1);
        assert!(one == with(3));
        assert!(one == one_by_one(&rng, 1.0, 300_000));
    }

    #[test]
    fn without_the_mending_numbers_would_be_wrong() {
        let rng = ChaCha8Rng::from_seed([0; 32]);
        let expected = one_by_one(&rng, 1.0, 20_000);
        let mut unmended = Vec::new();
        for i in 0..1000 {
            let mut stretch = Stretch::new(i * 64, 64);
            stretch.draw(&rng, 1.0);
            unmended.extend(stretch.values);
        }
        assert!(unmended[..expected.len()] != expected);
    }
}
