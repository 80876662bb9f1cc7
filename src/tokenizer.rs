//! Text to token numbers and back, by one interface over four vocabularies: the embedded world's, bytes, OpenAI's two
//! (from `tiktoken-rs`), and any byte-pair `tokenizer.json`.
//!
//! Only content is encoded. A special token's name inside a text is plain text, so data cannot forge the end of a
//! document or the turn of a chat; special tokens are placed by number.

mod added;
mod begin;
mod bytes;
mod chunk;
mod component;
mod file;
mod lack;
mod marked;
mod oniguruma;
mod own;
mod possessive;
mod ranks;
mod settings;
mod train;
mod words;
mod write;

pub use chunk::{Cuts, piece};
pub use marked::{Marked, Placed};
pub use train::{MIN_VOCAB, SPECIAL_TOKENS, train_bpe};
pub use write::{CHAT_TEMPLATE, CHATML};

use crate::error::{Error, Result};
use crate::quiet::quietly;
use begin::Begin;
use settings::Settings;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::path::Path;
use std::sync::Arc;
use tiktoken_rs::CoreBPE;

/// Goes up when the same file comes to make other tokens, so that tokens that were kept are made anew.
const MEANING: u32 = 2;

/// A vocabulary with its encoder and decoder. Clones share them.
#[derive(Clone)]
pub struct Tokenizer {
    name: String,
    engine: Arc<Engine>,
    tokens: Arc<[Token]>,
    eos: u32,
    begin: Arc<Begin>,
    /// What stands beside the vocabulary.
    settings: Arc<Settings>,
    cuts: Cuts,
    /// The template of chats, where it is not the one that the special tokens speak for.
    template: Option<Arc<str>>,
}

/// How text becomes numbers.
enum Engine {
    /// One token a byte.
    Byte,
    /// One of OpenAI's vocabularies, and the expression that cuts text before its merges; none for GPT-2's.
    Tiktoken(&'static CoreBPE, Option<&'static str>),
    /// A `tokenizer.json`.
    File {
        tokenizer: Box<tokenizers::Tokenizer>,
        /// Where that marks the beginning of a text, one that does not, for what follows a cut.
        middle: Option<Box<tokenizers::Tokenizer>>,
        json: String,
        byte_level: bool,
    },
}

/// What an id stands for.
#[derive(Clone, Default)]
struct Token {
    /// The bytes of text, or the name of a special token; empty for an unused id.
    bytes: Box<[u8]>,
    /// Placed by number only.
    special: bool,
}

impl Token {
    fn new(bytes: impl Into<Box<[u8]>>, special: bool) -> Token {
        Token { bytes: bytes.into(), special }
    }
}

impl Tokenizer {
    /// Loads `world`, `byte`, `gpt2`, `cl100k`, or the `tokenizer.json` at the path `name` (or in the folder `name`).
    ///
    /// # Errors
    /// If there is no such name or file, or the file is not a byte-pair tokenizer that is understood entirely.
    pub fn load(name: &str) -> Result<Tokenizer> {
        match name {
            "world" => Self::world(),
            "byte" => Ok(Self::byte()),
            "gpt2" => Ok(Self::gpt2()),
            "cl100k" => Ok(Self::cl100k()),
            _ => {
                let path = Path::new(name);
                if !path.exists() {
                    let known = "world, byte, gpt2, cl100k or the path of a tokenizer.json";
                    return Err(Error::config("data.tokenizer", format!("{name:?} is not there; give {known}")));
                }
                let path = if path.is_dir() { path.join("tokenizer.json") } else { path.to_owned() };
                Ok(Self::from_file(name, file::load(&path)?))
            }
        }
    }

    /// The tokenizer in the text of a `tokenizer.json`.
    ///
    /// # Errors
    /// What is wrong with it, in words that follow its name.
    pub fn from_json(name: &str, json: &str) -> std::result::Result<Tokenizer, String> {
        file::parse(json, Settings::default()).map(|loaded| Self::from_file(name, loaded))
    }

    fn new(name: &str, engine: Engine, tokens: Vec<Token>, eos: u32) -> Tokenizer {
        let (engine, begin) = (Arc::new(engine), Arc::new(Begin::with(eos)));
        let (settings, cuts) = (Arc::default(), Cuts::default());
        Tokenizer { name: name.into(), engine, tokens: tokens.into(), eos, begin, settings, cuts, template: None }
    }

    /// A checked file.
    fn from_file(name: &str, loaded: file::Loaded) -> Tokenizer {
        let file::Loaded { tokenizer, middle, json, byte_level, tokens, eos, begin, settings } = loaded;
        let token = |entry: Option<file::Entry>| {
            let Some(file::Entry { text, added, special }) = entry else { return Token::default() };
            let bytes = match bytes::from_text(&text) {
                Some(bytes) if byte_level && !added => bytes,
                _ if added || byte_level => text.into_bytes(),
                _ => plain_bytes(&text),
            };
            Token::new(bytes, special)
        };
        let (tokenizer, middle) = (Box::new(tokenizer), middle.map(Box::new));
        let engine = Engine::File { tokenizer, middle, json, byte_level };
        let plain = Self::new(name, engine, tokens.into_iter().map(token).collect(), eos);
        let cuts = Cuts::between(plain.tokens.iter().filter(|token| !token.special).map(|token| &*token.bytes));
        Tokenizer { begin: Arc::new(begin), settings: Arc::new(settings), cuts, ..plain }
    }

    /// The name or path that it was loaded by.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A number that differs, as far as a hash can tell, where another tokenizer makes other tokens.
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        match &*self.engine {
            Engine::Byte => 0.hash(&mut hasher),
            Engine::Tiktoken(_, pattern) => pattern.hash(&mut hasher),
            Engine::File { json, .. } => json.hash(&mut hasher),
        }
        (MEANING, self.eos, &self.begin.ids, self.cuts).hash(&mut hasher);
        self.tokens.iter().for_each(|token| (&token.bytes, token.special).hash(&mut hasher));
        hasher.finish()
    }

    /// Rows that an embedding needs: the largest id, plus one.
    pub fn vocab_size(&self) -> usize {
        self.tokens.len()
    }

    /// The token that ends a text.
    pub fn eos(&self) -> u32 {
        self.eos
    }

    /// The tokens that a text begins with, before its own: what transformers' `tokenizer(text)` puts there. None where
    /// the tokenizer says so.
    pub fn begin(&self) -> &[u32] {
        &self.begin.ids
    }

    /// The tokens to begin a text by after the end of another one, or where none was: those of [`Tokenizer::begin`],
    /// unless that is the very token that ends texts, which then parts them alone.
    pub fn between(&self) -> &[u32] {
        if self.begin() == [self.eos] { &[] } else { self.begin() }
    }

    /// The tokens of a text from its beginning, never none: the empty text is the token that begins texts, or the one
    /// that ends them.
    pub fn begun(&self, text: &str) -> Vec<u32> {
        let ids = [self.begin(), &self.encode(text)].concat();
        if ids.is_empty() { vec![self.bos().unwrap_or(self.eos)] } else { ids }
    }

    /// The BOS token; none where the tokenizer has none.
    pub fn bos(&self) -> Option<u32> {
        self.begin.bos
    }

    /// The texts of the tokens that play a part, by its name in `tokenizer_config.json`, as transformers hands them to
    /// chat templates: `bos_token`, `eos_token`, and what else is given of `unk_token`, `sep_token`, `pad_token`,
    /// `cls_token` and `mask_token`.
    pub fn named_tokens(&self) -> Vec<(&'static str, String)> {
        let own = [("bos_token", self.bos()), ("eos_token", Some(self.eos))];
        let own = own.into_iter().filter_map(|(key, id)| Some((key, self.name_of(id?))));
        let given = self.settings.all_named().filter(|(key, _)| !["bos_token", "eos_token"].contains(key));
        own.chain(given.map(|(key, text)| (key, text.to_owned()))).collect()
    }

    /// The token that fills up the rows of a batch, where the tokenizer names one that it has.
    pub fn pad(&self) -> Option<u32> {
        let name = self.settings.named("pad_token")?;
        self.tokens.iter().position(|token| *token.bytes == *name.as_bytes()).map(|id| id as u32)
    }

    /// The name of a special token.
    fn name_of(&self, id: u32) -> String {
        let token = self.tokens.get(id as usize);
        token.map_or_else(String::new, |token| String::from_utf8_lossy(&token.bytes).into_owned())
    }

    /// The token of that name, if it is a special one (such as `<|im_start|>`).
    pub fn special_id(&self, name: &str) -> Option<u32> {
        self.tokens.iter().position(|t| t.special && *t.bytes == *name.as_bytes()).map(|id| id as u32)
    }

    /// The name of a special token.
    pub fn special_name(&self, id: u32) -> Option<&str> {
        let token = self.tokens.get(id as usize).filter(|token| token.special)?;
        std::str::from_utf8(&token.bytes).ok()
    }

    /// The tokens of `text`. Names of special tokens in it are plain text.
    ///
    /// Where a file's expression gives up on a piece of text, that piece is encoded byte by byte as far as the
    /// vocabulary has bytes.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        let pieces = chunk::pieces(text, self.cuts).into_iter().enumerate();
        pieces.flat_map(|(i, piece)| self.encode_piece(piece, i == 0)).collect()
    }

    /// Where texts may be cut into pieces.
    pub fn cuts(&self) -> Cuts {
        self.cuts
    }

    /// The tokens of a [`piece`] of a text, its `first` or another: the unit of parallel work, and what
    /// [`Tokenizer::encode`] concatenates.
    pub fn encode_piece(&self, piece: &str, first: bool) -> Vec<u32> {
        let tried = match &*self.engine {
            Engine::Byte => return piece.bytes().map(u32::from).collect(),
            Engine::Tiktoken(bpe, None) => quietly(|| words::encode(piece, |word| bpe.encode_ordinary(word))),
            Engine::Tiktoken(bpe, Some(_)) => quietly(|| bpe.encode_ordinary(piece)),
            Engine::File { tokenizer, middle, .. } => quietly(|| {
                let middle = middle.as_ref().filter(|_| !first);
                middle.unwrap_or(tokenizer).encode_fast(piece, false)
            })
            .and_then(|r| r.map(|encoding| encoding.get_ids().to_vec()).map_err(|e| e.to_string())),
        };
        tried.unwrap_or_else(|_| {
            let mut table = [None; 256];
            for (id, token) in (0..).zip(self.tokens.iter()).filter(|(_, token)| !token.special) {
                if let [byte] = *token.bytes {
                    table[byte as usize].get_or_insert(id);
                }
            }
            piece.bytes().filter_map(|b| table[b as usize]).collect()
        })
    }

    /// The text of `ids`, special tokens by name. Bytes that are not UTF-8 become U+FFFD; unknown ids are left out.
    pub fn decode(&self, ids: &[u32]) -> String {
        let known: Vec<u32> = ids.iter().copied().filter(|&id| (id as usize) < self.tokens.len()).collect();
        if let Engine::File { tokenizer, byte_level: false, .. } = &*self.engine
            && let Ok(Ok(text)) = quietly(|| tokenizer.decode(&known, false))
        {
            return text;
        }
        let bytes: Vec<u8> = known.iter().flat_map(|&id| &self.tokens[id as usize].bytes).copied().collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Ids that stand for something.
    pub fn used_ids(&self) -> usize {
        self.tokens.iter().filter(|token| !token.bytes.is_empty()).count()
    }

    /// The text that `id` adds to what stands before it; special tokens and unknown ids add none.
    pub fn text_bytes(&self, id: u32) -> &[u8] {
        self.tokens.get(id as usize).filter(|token| !token.special).map_or(&[], |token| &token.bytes)
    }

    /// Bytes of text that `ids` stand for; special tokens and unknown ids count nothing.
    pub fn byte_count(&self, ids: &[u32]) -> usize {
        ids.iter().map(|&id| self.text_bytes(id).len()).sum()
    }

    /// The content of a `tokenizer.json` that encodes as this tokenizer does.
    pub fn json(&self) -> String {
        let pattern = match &*self.engine {
            Engine::File { json, .. } => return json.clone(),
            Engine::Byte => ranks::GPT2_PATTERN,
            Engine::Tiktoken(_, pattern) => *pattern,
        };
        let ordinary = (0..).zip(self.tokens.iter()).filter(|(_, t)| !t.special && !t.bytes.is_empty());
        let ordinary: Vec<(u32, &[u8])> = ordinary.map(|(id, token)| (id, &*token.bytes)).collect();
        let special = self.special_tokens();
        let begin: Vec<(String, u32)> = self.begin().iter().map(|&id| (self.name_of(id), id)).collect();
        ranks::tokenizer_json(&ordinary, &special, pattern, begin::post_processor(&begin)).to_string()
    }
}

/// The bytes of a token that is not in the byte alphabet: U+2581 is a space, `<0x41>` the byte 0x41.
fn plain_bytes(text: &str) -> Vec<u8> {
    let byte = text.strip_prefix("<0x").and_then(|t| t.strip_suffix('>')).and_then(|h| u8::from_str_radix(h, 16).ok());
    byte.map_or_else(|| text.replace('\u{2581}', " ").into_bytes(), |b| vec![b])
}
