//! What text a vocabulary cannot hold.

use super::{Engine, Tokenizer, bytes};
use crate::input::quoted;
use tokenizers::ModelWrapper;

impl Tokenizer {
    /// What text the vocabulary cannot hold, and what becomes of it; none if it holds all.
    pub fn lack(&self) -> Option<String> {
        let Engine::File { tokenizer, byte_level, .. } = &*self.engine else { return None };
        let ModelWrapper::BPE(bpe) = tokenizer.get_model() else { return None };
        let fate = match &bpe.unk_token {
            Some(unknown) => format!("become {}", quoted(unknown)),
            None => "are left out, as transformers leaves them out".to_owned(),
        };
        if !byte_level {
            let whole =
                bpe.byte_fallback && (0..=u8::MAX).all(|b| tokenizer.token_to_id(&format!("<0x{b:02X}>")).is_some());
            return (!whole).then(|| format!("has no tokens of single bytes; characters that it does not know {fate}"));
        }
        // These are in no UTF-8 text.
        let lacking = (0..=u8::MAX).filter(|&b| !matches!(b, 0xc0 | 0xc1 | 0xf5..));
        let lacking: Vec<u8> = lacking.filter(|&b| tokenizer.token_to_id(&bytes::to_text(&[b])).is_none()).collect();
        let many = lacking.len();
        (many > 0).then(|| {
            format!("has no tokens for {many} of the 256 bytes ({}); these bytes of a text {fate}", ranges(&lacking))
        })
    }
}

/// Bytes in order, as ranges in hexadecimal.
fn ranges(bytes: &[u8]) -> String {
    let runs = bytes.chunk_by(|a, b| a + 1 == *b).map(|run| match run {
        [one] => format!("0x{one:02x}"),
        _ => format!("0x{:02x} to 0x{:02x}", run[0], run[run.len() - 1]),
    });
    let (shown, runs): (usize, Vec<String>) = (8, runs.collect());
    let more = if runs.len() > shown { ", .." } else { "" };
    runs[..runs.len().min(shown)].join(", ") + more
}
