//! Trains a byte-level BPE vocabulary.

use crate::error::{Error, Result};
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Tokenizer, models::TrainerWrapper};

/// Special tokens of a vocabulary trained here; their ids are 0, 1 and 2. The first ends a text.
pub const SPECIAL_TOKENS: [&str; 3] = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];

/// Smallest vocabulary: the special tokens and one token for each byte.
pub const MIN_VOCAB: usize = SPECIAL_TOKENS.len() + 256;

/// Trains a byte-level BPE of `vocab` tokens on `texts` and returns it as the content of a `tokenizer.json`.
///
/// The result depends on the texts only, not on the number of threads. It is smaller than `vocab` where the texts
/// have too few pairs to merge.
///
/// # Errors
/// If `vocab` leaves no room for the bytes and the special tokens.
pub fn train_bpe<S: AsRef<str> + Send>(texts: impl Iterator<Item = S> + Send, vocab: usize) -> Result<String> {
    if vocab < MIN_VOCAB {
        return Err(Error::Usage(format!("a vocabulary needs at least {MIN_VOCAB} tokens (256 bytes, 3 special)")));
    }
    let special = SPECIAL_TOKENS.map(|content| AddedToken::from(content, true)).to_vec();
    let mut trainer: TrainerWrapper = BpeTrainer::builder()
        .vocab_size(vocab)
        .special_tokens(special)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .show_progress(false)
        .build()
        .into();
    let mut tokenizer = Tokenizer::new(BPE::default());
    // No space is put before the first word: encoding must give back the very text.
    tokenizer.with_pre_tokenizer(Some(ByteLevel::new(false, true, true)));
    tokenizer.with_decoder(Some(ByteLevel::default()));
    let failed = |e: tokenizers::Error| Error::Usage(format!("the tokenizer could not be trained: {e}"));
    tokenizer.train(&mut trainer, texts).map_err(failed)?;
    tokenizer.to_string(false).map_err(failed)
}
