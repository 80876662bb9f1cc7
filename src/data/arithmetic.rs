//! Sums and differences without end, a part of them held out.

use super::world::Split;
use crate::config::task::TaskConfig;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Of so many questions one is held out.
const HELD_OUT: u64 = 8;
/// The mark before an answer, as in GSM8K.
pub const MARK: &str = "####";

/// `a + b` and `a - b` with `b` at most `a`, of natural numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arithmetic {
    seed: u64,
    digits: u32,
    marked: bool,
}

impl Arithmetic {
    /// The questions of `seed`, as `config` wants them.
    pub fn new(config: &TaskConfig, seed: u64) -> Arithmetic {
        Arithmetic { seed, digits: config.digits, marked: config.marked }
    }

    /// Question number `n` of a split with its answer, always the same for the same seed; `n` is below 2⁶³. Each number
    /// has 1 to as many digits as are allowed, each count alike.
    pub fn question(&self, n: u64, split: Split) -> (String, String) {
        let mut random = ChaCha8Rng::seed_from_u64(self.seed);
        random.set_stream(n | if split == Split::Val { 1 << 63 } else { 0 });
        // Most draws are of the training split, and one in eight of the other.
        let (a, b, minus) = loop {
            let mut number = || {
                let most = 10u64.pow(random.random_range(1..self.digits + 1));
                random.random_range(if most == 10 { 0 } else { most / 10 }..most)
            };
            let (a, b) = (number(), number());
            let minus = random.random();
            let (a, b) = if minus { (a.max(b), a.min(b)) } else { (a, b) };
            if is_held_out(a, b, minus) == (split == Split::Val) {
                break (a, b, minus);
            }
        };
        let (sign, result) = if minus { ('-', a - b) } else { ('+', a + b) };
        let mark = if self.marked { format!("{MARK} ") } else { String::new() };
        (format!("What is {a} {sign} {b}?"), format!("{mark}{result}"))
    }
}

/// Whether a question is held out; `a + b` and `b + a` go together.
fn is_held_out(a: u64, b: u64, minus: bool) -> bool {
    let question = (a.min(b) << 32 | a.max(b)) << 1 | u64::from(minus);
    // The high bits of a product with an odd number near 2^64 / golden ratio: as good as drawn.
    (question.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32).is_multiple_of(HELD_OUT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::Tokenizer;
    use std::collections::HashSet;

    fn arithmetic(digits: u32, marked: bool) -> Arithmetic {
        Arithmetic::new(&TaskConfig { digits, marked, ..TaskConfig::default() }, 5)
    }

    fn all(of: Arithmetic, split: Split, n: u64) -> Vec<(String, String)> {
        (0..n).map(|i| of.question(i, split)).collect()
    }

    /// What is asked, and whether it was calculated right.
    fn solved(question: &str, answer: &str) -> bool {
        let words: Vec<&str> = question.trim_end_matches('?').split(' ').collect();
        let [_, _, a, sign, b] = words[..] else { panic!("{question}") };
        let (a, b): (i64, i64) = (a.parse().unwrap(), b.parse().unwrap());
        answer.trim_start_matches("#### ").parse() == Ok(if sign == "+" { a + b } else { a - b })
    }

    #[test]
    fn answers_are_right_and_written_as_wanted() {
        for (digits, marked) in [(1, false), (2, true), (3, false), (3, true)] {
            for split in [Split::Train, Split::Val] {
                for (question, answer) in all(arithmetic(digits, marked), split, 500) {
                    assert!(solved(&question, &answer), "{question} {answer}");
                    assert_eq!(answer.starts_with("#### "), marked);
                    assert!(question.split(|c: char| !c.is_ascii_digit()).all(|n| n.len() <= digits as usize));
                }
            }
        }
        assert!(!solved("What is 2 + 2?", "5") && !solved("What is 2 - 2?", "#### 4"));
    }

    #[test]
    fn no_held_out_question_is_trained_on_and_both_splits_are_large() {
        for digits in 1..=3 {
            let of = |split| -> HashSet<String> {
                all(arithmetic(digits, false), split, 4000).into_iter().map(|q| q.0).collect()
            };
            let (train, val) = (of(Split::Train), of(Split::Val));
            assert!(train.is_disjoint(&val), "{digits}");
            let share = val.len() as f64 / (train.len() + val.len()) as f64;
            assert!(val.len() > 8 && (digits > 1 || (0.05..0.25).contains(&share)), "{digits}: {} {share}", val.len());
            // Both signs in both.
            for split in [&train, &val] {
                let minus = split.iter().filter(|question| question.contains('-')).count() * 100 / split.len();
                assert!((20..80).contains(&minus), "{digits}: {minus} %");
            }
        }
    }

    #[test]
    fn the_worlds_tokenizer_writes_a_digit_a_token() {
        let tokenizer = Tokenizer::load("world").unwrap();
        let (question, answer) = arithmetic(3, true).question(0, Split::Train);
        for text in [question, answer] {
            let ids = tokenizer.encode(&text);
            assert_eq!(tokenizer.decode(&ids), text);
            let digits = text.bytes().filter(u8::is_ascii_digit).count();
            let written = ids.iter().filter(|&&id| tokenizer.decode(&[id]).contains(|c: char| c.is_ascii_digit()));
            assert_eq!(written.count(), digits, "{text}");
        }
    }
}
