//! GPT-2's tokens, fast: text is cut into words by hand, and the tokens of frequent words are remembered.
//!
//! GPT-2 cuts text by the expression
//! `'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s` and merges pairs inside of each word alone.
//! So the tokens of a text are those of its words, one after the other; and most words of a text were in it before.

use regex_syntax::hir::{Class, HirKind};
use std::cell::RefCell;
use std::sync::OnceLock;

/// Bytes of the longest word that is remembered.
const LONGEST: usize = 23;
/// Tokens of a remembered word at most.
const MOST: usize = 4;
/// Binary logarithm of the number of words that a thread remembers: 3 MiB.
const SLOT_BITS: u32 = 16;

/// What a character is to the expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Kind {
    Other,
    Letter,
    Number,
    Space,
}

/// Kinds of all characters, from the tables that regular expressions take them from.
struct Kinds(Vec<Kind>);

impl Kinds {
    fn get() -> &'static Kinds {
        static KINDS: OnceLock<Kinds> = OnceLock::new();
        KINDS.get_or_init(|| {
            let mut kinds = vec![Kind::Other; char::MAX as usize + 1];
            for (class, kind) in [(r"\p{L}", Kind::Letter), (r"\p{N}", Kind::Number), (r"\s", Kind::Space)] {
                let parsed = regex_syntax::parse(class).map(regex_syntax::hir::Hir::into_kind);
                let Ok(HirKind::Class(Class::Unicode(set))) = parsed else { unreachable!("{class} is a class") };
                for range in set.ranges() {
                    kinds[range.start() as usize..=range.end() as usize].fill(kind);
                }
            }
            Kinds(kinds)
        })
    }

    /// Kind and bytes of the character that begins at byte `at`; none at the end.
    #[inline]
    fn at(&self, text: &str, at: usize) -> Option<(Kind, usize)> {
        match text.as_bytes().get(at) {
            None => None,
            Some(&b) if b < 0x80 => Some((self.0[b as usize], 1)),
            Some(_) => text[at..].chars().next().map(|c| (self.0[c as usize], c.len_utf8())),
        }
    }

    /// Where the run of characters of `kind` ends that goes on at byte `at`.
    #[inline]
    fn run(&self, text: &str, mut at: usize, kind: Kind) -> usize {
        while let Some((next, bytes)) = self.at(text, at)
            && next == kind
        {
            at += bytes;
        }
        at
    }

    /// Where the word ends that begins at byte `at` of `text`; there is at least one more character.
    #[inline]
    fn word(&self, text: &str, at: usize) -> usize {
        let bytes = text.as_bytes();
        if bytes[at] == b'\'' {
            match &bytes[at + 1..] {
                [b's' | b'd' | b'm' | b't', ..] => return at + 2,
                [b'l', b'l', ..] | [b'v', b'e', ..] | [b'r', b'e', ..] => return at + 3,
                _ => {}
            }
        }
        let first = at + usize::from(bytes[at] == b' ');
        match self.at(text, first) {
            Some((kind, bytes)) if kind != Kind::Space => self.run(text, first + bytes, kind),
            _ => self.spaces(text, at),
        }
    }

    /// Where the word of spaces ends that begins at byte `at`: its run leaves the last one to the word that follows.
    fn spaces(&self, text: &str, at: usize) -> usize {
        let end = self.run(text, at, Kind::Space);
        let last = text[at..end].chars().next_back().map_or(0, char::len_utf8);
        if end < text.len() && end - last > at { end - last } else { end }
    }
}

/// A word and its tokens.
#[derive(Clone, Copy, Default)]
struct Slot {
    /// The bytes of the word, zeros, and in the last place its length; all zero for none.
    word: [u64; 3],
    ids: [u32; MOST],
    count: usize,
}

/// What words are told apart by; `word` has at most [`LONGEST`] bytes.
#[inline]
fn key(word: &[u8]) -> [u64; 3] {
    let mut bytes = [0; LONGEST + 1];
    bytes[..word.len()].copy_from_slice(word);
    bytes[LONGEST] = word.len() as u8;
    bytemuck::cast(bytes)
}

/// The one place in which the word of `key` may be remembered.
#[inline]
fn place(key: [u64; 3]) -> usize {
    let mixed = key.iter().fold(0u64, |hash, &x| (hash.rotate_left(23) ^ x).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    (mixed >> (u64::BITS - SLOT_BITS)) as usize
}

thread_local! {
    /// The words that this thread saw last.
    static SLOTS: RefCell<Vec<Slot>> = const { RefCell::new(Vec::new()) };
}

/// The tokens of `text` by GPT-2's vocabulary, of which `encode` knows those of each word.
pub fn encode(text: &str, encode: impl Fn(&str) -> Vec<u32>) -> Vec<u32> {
    let kinds = Kinds::get();
    let mut ids = Vec::with_capacity(text.len() / 3);
    SLOTS.with_borrow_mut(|slots| {
        slots.resize(1 << SLOT_BITS, Slot::default());
        let mut at = 0;
        while at < text.len() {
            let word = &text[at..kinds.word(text, at)];
            at += word.len();
            if word.len() > LONGEST {
                ids.extend(encode(word));
                continue;
            }
            let key = key(word.as_bytes());
            let slot = &mut slots[place(key)];
            if slot.word == key {
                ids.extend_from_slice(&slot.ids[..slot.count]);
                continue;
            }
            let made = encode(word);
            if made.len() <= MOST {
                let mut known = [0; MOST];
                known[..made.len()].copy_from_slice(&made);
                *slot = Slot { word: key, ids: known, count: made.len() };
            }
            ids.extend(made);
        }
    });
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<&str> {
        let (mut out, mut at) = (Vec::new(), 0);
        while at < text.len() {
            let end = Kinds::get().word(text, at);
            out.push(&text[at..end]);
            at = end;
        }
        out
    }

    #[test]
    fn text_is_cut_as_the_expression_cuts_it() {
        assert_eq!(words("I'll don't 'S 's"), ["I", "'ll", " don", "'t", " '", "S", " '", "s"]);
        assert_eq!(words("a  b \n\n c\n"), ["a", " ", " b", " \n\n", " c", "\n"]);
        assert_eq!(words("x12,y 3.5  "), ["x", "12", ",", "y", " 3", ".", "5", "  "]);
        assert_eq!(
            words("\u{e9}t\u{e9} \u{2019}s\u{a0}\u{a0}e\u{301}"),
            ["\u{e9}t\u{e9}", " \u{2019}", "s", "\u{a0}", "\u{a0}", "e", "\u{301}"]
        );
    }

    #[test]
    fn random_text_has_the_tokens_of_the_published_encoder() {
        let bpe = tiktoken_rs::r50k_base_singleton();
        let alphabet: Vec<char> =
            "aabcestvrldm  \n\t\r''12.,-\u{a0}\u{2003}\u{e9}\u{301}\u{b2}\u{2167}\u{4f60}\u{661}\u{1f980}\u{2019}_<|>"
                .chars()
                .collect();
        let mut state = 1u64;
        let mut next = |n: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as usize % n
        };
        for _ in 0..4000 {
            let text: String = (0..next(40)).map(|_| alphabet[next(alphabet.len())]).collect();
            assert_eq!(encode(&text, |word| bpe.encode_ordinary(word)), bpe.encode_ordinary(&text), "{text:?}");
        }
    }

    #[test]
    fn every_character_has_the_kind_that_the_expression_sees() {
        let bpe = tiktoken_rs::r50k_base_singleton();
        for c in (0..=0x2_ffff).filter_map(char::from_u32) {
            let text = format!("a{c}1{c} {c}.");
            assert_eq!(encode(&text, |word| bpe.encode_ordinary(word)), bpe.encode_ordinary(&text), "{c:?}");
        }
    }
}
