//! What ends an answer: the one place that decides it.

use crate::chat::Encoder;
use crate::config::hf::end_tokens;
use crate::error::Result;
use crate::tokenizer::Tokenizer;
use std::path::Path;

/// The tokens that end what the model in `folder` writes, whoever asks it: the tokenizer's EOS token, those that
/// `config.json` and `generation_config.json` name, and the token by which its chat template ends an answer, if it
/// can chat.
///
/// # Errors
/// As [`end_tokens`].
pub fn ends(folder: &Path, tokenizer: &Tokenizer, encoder: Option<&Encoder>) -> Result<Vec<u32>> {
    Ok(ends_of(tokenizer, end_tokens(folder)?.into_iter().chain(encoder.map(Encoder::end))))
}

/// The tokenizer's EOS token and the tokens in `named`, each once.
pub fn ends_of(tokenizer: &Tokenizer, named: impl IntoIterator<Item = u32>) -> Vec<u32> {
    let mut ends = vec![tokenizer.eos()];
    for end in named {
        if !ends.contains(&end) {
            ends.push(end);
        }
    }
    ends
}
