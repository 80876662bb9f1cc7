//! The vocabularies that come with the program.
//!
//! Each has a token for the byte 0xff, which no UTF-8 text holds. It serves as the padding token: batches of an
//! exported model can be filled up with it, and a trainer that leaves padding out of the loss leaves out nothing that
//! was written, as it would the ends of texts if these were the padding.

use super::settings::Settings;
use super::{Engine, Token, Tokenizer, bytes, file, ranks};
use crate::config::paths::TOKENIZERS;
use crate::error::{Error, Result};
use crate::input::one_line;
use serde_json::Value;
use std::sync::Arc;
use tiktoken_rs::CoreBPE;

/// The vocabulary of the embedded world: [`super::train_bpe`] on its stories.
const WORLD: &str = include_str!("../../assets/world_tokenizer.json");
/// Ids of cl100k are below this; it has gaps among its special tokens.
const CL100K_SIZE: u32 = 100_277;
/// Name of the token that ends a text.
const END_OF_TEXT: &str = "<|endoftext|>";
/// Name of the token that fills up batches.
const PAD: &str = "<|pad|>";
/// The byte whose token that is.
const PAD_BYTE: u8 = 0xff;

/// What `tokenizer_config.json` says of them: an answer is written to the right of its prompt, so padding is on the
/// left.
fn settings() -> Settings {
    Settings::of(&[("pad_token", PAD), ("padding_side", "left")])
}

impl Tokenizer {
    /// The same under `name`. Where that is one that comes with the program, and this a file of it, it encodes faster.
    #[must_use]
    pub fn known_as(self, name: &str) -> Tokenizer {
        let special = self.special_tokens();
        let names: Vec<&str> = special.iter().map(|(name, _)| name.as_str()).collect();
        let own = TOKENIZERS.contains(&name).then(|| Self::load(name).and_then(|own| own.with_special(&names)).ok());
        match own.flatten().filter(|own| own.json() == self.json()) {
            Some(own) => Tokenizer { template: self.template, ..own },
            None => Tokenizer { name: name.to_owned(), ..self },
        }
    }

    /// The vocabulary of the embedded world.
    pub(super) fn world() -> Result<Tokenizer> {
        let fail = |reason: String| Error::file("world", reason);
        let mut root: Value = serde_json::from_str(WORLD).map_err(|e| fail(one_line(&e)))?;
        if let Some(Value::Object(vocab)) = root.pointer_mut("/model/vocab")
            && let Some(id) = vocab.remove(&bytes::to_text(&[PAD_BYTE]))
        {
            vocab.insert(PAD.to_owned(), id.clone());
            let id = id.as_u64().unwrap_or_default() as u32;
            if let Some(Value::Array(added)) = root.get_mut("added_tokens") {
                added.push(ranks::added_token(PAD, id));
            }
        }
        let loaded = file::parse(&root.to_string(), Settings::default()).map_err(fail)?;
        Ok(Self::from_file("world", file::Loaded { settings: settings(), ..loaded }))
    }

    /// One token a byte, and the end of text.
    pub(super) fn byte() -> Tokenizer {
        let mut tokens: Vec<Token> = (0..=u8::MAX).map(|b| Token::new([b], false)).collect();
        tokens.push(Token::new(END_OF_TEXT.as_bytes(), true));
        Self::padded("byte", Engine::Byte, tokens, 256)
    }

    /// OpenAI's vocabulary of GPT-2.
    pub(super) fn gpt2() -> Tokenizer {
        Self::tiktoken("gpt2", tiktoken_rs::r50k_base_singleton(), 50_257, ranks::GPT2_PATTERN)
    }

    /// OpenAI's vocabulary of GPT-4.
    pub(super) fn cl100k() -> Tokenizer {
        Self::tiktoken("cl100k", tiktoken_rs::cl100k_base_singleton(), CL100K_SIZE, ranks::CL100K_PATTERN)
    }

    /// One of OpenAI's vocabularies; what its decoder does not know is an unused id.
    fn tiktoken(name: &str, bpe: &'static CoreBPE, size: u32, pattern: Option<&'static str>) -> Tokenizer {
        let mut special = vec![false; size as usize];
        let mut eos = 0;
        for token in bpe.special_tokens() {
            for id in bpe.encode_with_special_tokens(token) {
                special[id as usize] = true;
                eos = if token == END_OF_TEXT { id } else { eos };
            }
        }
        let bytes = |id| bpe.decode_bytes(&[id]).unwrap_or_default();
        let tokens = (0..size).map(|id| Token::new(bytes(id), special[id as usize])).collect();
        Self::padded(name, Engine::Tiktoken(bpe, pattern), tokens, eos)
    }

    /// With the padding token.
    fn padded(name: &str, engine: Engine, mut tokens: Vec<Token>, eos: u32) -> Tokenizer {
        if let Some(pad) = tokens.iter_mut().find(|token| *token.bytes == [PAD_BYTE]) {
            *pad = Token::new(PAD.as_bytes(), true);
        }
        Tokenizer { settings: Arc::new(settings()), ..Self::new(name, engine, tokens, eos) }
    }
}
