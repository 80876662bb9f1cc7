//! Goes through all tokens of a file once: are they ids, and what are they?

use super::meter::Meter;
use super::tokens::Tokens;
use crate::error::Result;
use crate::tokenizer::Tokenizer;
use rayon::prelude::*;

/// Tokens that are read at a time.
const CHUNK: u64 = 1 << 18;
/// Chunks that are looked at together.
const TOGETHER: usize = 32;

/// What a file's tokens are.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    /// Bytes of text that they stand for.
    pub bytes: u64,
    /// Documents, by the tokens that end (or begin) them; at least 1 if there are any tokens.
    pub documents: u64,
    /// Whether each id of the vocabulary occurs.
    pub used: Vec<bool>,
}

impl Survey {
    /// Adds what `other` found.
    pub fn add(&mut self, other: &Survey) {
        self.bytes += other.bytes;
        self.documents += other.documents;
        self.used.resize(self.used.len().max(other.used.len()), false);
        self.used.iter_mut().zip(&other.used).for_each(|(all, one)| *all |= one);
    }
}

/// Reads all of `tokens`, whose ids are those of `tokenizer`.
///
/// # Errors
/// If they cannot be read; the first that is no id.
pub fn survey(tokens: &Tokens, tokenizer: &Tokenizer) -> Result<Survey> {
    let meter = Meter::new("checking", &tokens.path, tokens.count * tokens.width.bytes() as u64);
    let chunk = |&start: &u64| {
        let n = CHUNK.min(tokens.count - start) as usize;
        let mut ids = Vec::new();
        tokens.read(start, n, &mut ids)?;
        let mut used = vec![false; tokens.vocab];
        ids.iter().for_each(|&id| used[id as usize] = true);
        let documents = ids.iter().filter(|&&id| id == tokenizer.eos()).count() as u64;
        Ok(Survey { bytes: tokenizer.byte_count(&ids) as u64, documents, used })
    };
    let starts: Vec<u64> = (0..tokens.count).step_by(CHUNK as usize).collect();
    let mut all = Survey::default();
    for group in starts.chunks(TOGETHER) {
        let found: Vec<Result<Survey>> = group.par_iter().map(chunk).collect();
        for one in found {
            all.add(&one?); // in order: the first problem of the file is the one that is told
        }
        meter.add(group.len() as u64 * CHUNK * tokens.width.bytes() as u64);
    }
    all.documents = all.documents.max(u64::from(tokens.count > 0));
    Ok(all)
}
