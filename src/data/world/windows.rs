//! Stories as training windows: their tokens, their entropy, and the questions in them.

use super::template::ProbeKind;
use super::{Story, World};
use crate::tokenizer::Tokenizer;
use std::ops::Range;

/// Which stories a window takes; no story number is in both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// To learn from.
    Train,
    /// To be judged by.
    Val,
}

/// The windows of one world and split, cut at a length: each story between the tokens that begin and end a text, which
/// for the embedded vocabularies are one, `<|endoftext|>` story `<|endoftext|>` story ...
///
/// A window begins with such a token, so that the whole first story is predicted and a model can be asked to begin one
/// from nothing.
pub struct Windows {
    /// The world.
    pub world: World,
    /// Which of its stories.
    pub split: Split,
    /// Targets of a window, which holds one token more.
    pub length: usize,
    /// Makes tokens of the stories.
    pub tokenizer: Tokenizer,
}

/// Bits of a story's number that tell the stories of a window apart.
const STORY_BITS: u32 = 16;
/// The bit of a story's number that is set in the validation split.
const VAL_BIT: u64 = 1 << 63;

impl Windows {
    /// Window number `i`: `length` + 1 tokens.
    pub fn ids(&self, i: u64) -> Vec<u32> {
        self.fill(i).0
    }

    /// The stories of window `i` with the place of their first token, the last one cut.
    fn fill(&self, i: u64) -> (Vec<u32>, Vec<(usize, Story)>) {
        let size = self.length + 1;
        let first = (i << STORY_BITS) & !VAL_BIT | if self.split == Split::Val { VAL_BIT } else { 0 };
        let mut ids = self.tokenizer.begun("");
        let mut stories = Vec::new();
        for j in 0.. {
            if ids.len() >= size {
                break;
            }
            let story = self.world.story(first.wrapping_add(j));
            if j > 0 {
                ids.extend(self.tokenizer.between());
            }
            let start = ids.len();
            ids.extend(self.tokenizer.encode(&story.text));
            ids.push(self.tokenizer.eos());
            stories.push((start, story));
        }
        ids.truncate(size);
        (ids, stories)
    }

    /// Entropy in nats and bytes of text, both summed over the targets of windows 0 to `n`.
    ///
    /// The entropy is estimated by the negative log-likelihood that the generator gives these very windows; where a
    /// window cuts a story, by the choices that begin to show before the cut. That counts the choice at the cut
    /// in full: for windows of 128 tokens 0.2 % more than the exact sum, which [`World::score_prefix`] gives.
    pub fn entropy_and_bytes(&self, n: u64) -> (f64, usize) {
        let mut sum = (0.0, 0);
        for i in 0..n {
            let (ids, stories) = self.fill(i);
            for (start, story) in stories {
                let told = self.tokenizer.byte_count(&ids[start..]);
                sum.0 += story.nll_before(told);
            }
            sum.1 += self.tokenizer.byte_count(&ids[1..]);
        }
        sum
    }
}

/// An answer in a window that can be foretold.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenProbe {
    /// The answer's tokens, as places in the window's ids: the model is right if it predicts all of them.
    pub tokens: Range<usize>,
    /// What the answer follows from.
    pub kind: ProbeKind,
    /// Whether the most frequent answer of the class is the right one here.
    pub majority_right: bool,
    /// Whether the answer of the class that was named last before is the right one here.
    pub last_named_right: bool,
}

/// A window and the answers in it.
#[derive(Clone, Debug, PartialEq)]
pub struct ProbeWindow {
    /// `length` + 1 tokens.
    pub ids: Vec<u32>,
    /// The answers that begin and end with tokens.
    pub probes: Vec<TokenProbe>,
}

/// The first `n` validation windows of the world of `seed`, with the answers in them.
pub fn probe_windows(seed: u64, n: usize, tokenizer: &Tokenizer, length: usize) -> Vec<ProbeWindow> {
    let windows = Windows { world: World::new(seed), split: Split::Val, length, tokenizer: tokenizer.clone() };
    (0..n as u64)
        .map(|i| {
            let (ids, stories) = windows.fill(i);
            let probes =
                stories.iter().flat_map(|(start, story)| token_probes(&ids, *start, story, tokenizer)).collect();
            ProbeWindow { ids, probes }
        })
        .collect()
}

/// The answers of `story`, whose tokens begin at `start` in `ids`, as far as they are whole and made of whole tokens.
fn token_probes(ids: &[u32], start: usize, story: &Story, tokenizer: &Tokenizer) -> Vec<TokenProbe> {
    // Byte at which each token of the story begins, and the end of the last; the cut or the end token ends it.
    let mut edges = vec![0];
    for id in ids[start..].iter().take_while(|&&id| id != tokenizer.eos()) {
        edges.push(edges[edges.len() - 1] + tokenizer.byte_count(&[*id]));
    }
    let edge = |byte: usize| edges.binary_search(&byte).ok();
    story
        .probes
        .iter()
        .filter_map(|probe| {
            // Most vocabularies put the space before a word into its token.
            let spaced = probe.start.checked_sub(1).filter(|&i| story.text.as_bytes()[i] == b' ');
            let first = edge(probe.start).or_else(|| edge(spaced?))?;
            let after = edge(probe.end)?;
            let answer = &story.text[probe.start..probe.end];
            Some(TokenProbe {
                tokens: start + first..start + after,
                kind: probe.kind,
                majority_right: probe.majority == answer,
                last_named_right: probe.last_named == Some(answer),
            })
        })
        .collect()
}
