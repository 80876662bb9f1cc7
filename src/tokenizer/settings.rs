//! What stands beside a vocabulary in `tokenizer_config.json`, and what of it a new folder keeps.

use crate::checkpoint::folder::inside_if_there;
use crate::error::Result;
use crate::input;
use serde_json::{Map, Value};
use std::path::Path;

/// The file.
pub const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
/// Where older folders name the tokens of [`NAMED`], unless the other file has `added_tokens_decoder`.
const OLDER: &str = "special_tokens_map.json";
/// Largest `tokenizer_config.json`, in bytes: some list every added token once more.
const MAX_BYTES: u64 = 64 << 20;
/// Largest `config.json`, in bytes.
const MAX_MODEL_BYTES: u64 = 1 << 20;
/// Names of tokens that transformers gives a part to play, and templates of chats may write.
const NAMED: [&str; 7] = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];
/// Keys that a new folder takes over; the others follow from the vocabulary, or would have transformers read it in
/// another way than this program.
const KEPT: [&str; 11] = [
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
    "additional_special_tokens",
    "extra_special_tokens",
    "padding_side",
    "truncation_side",
    "model_max_length",
    "model_input_names",
];

/// The keys of a `tokenizer_config.json`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// Whether there is such a file.
    pub given: bool,
    /// `bos_token_id` of a `config.json` beside it.
    pub bos_of_model: Option<u32>,
    keys: Map<String, Value>,
}

impl Settings {
    /// What stands beside the vocabulary in `folder`.
    ///
    /// # Errors
    /// If `tokenizer_config.json` or `special_tokens_map.json` is there and cannot be read.
    pub fn beside(folder: &Path) -> Result<Settings> {
        let mut settings = Settings::default();
        if let Some(path) = inside_if_there(folder, TOKENIZER_CONFIG)? {
            settings.keys = input::read_json_object(&path, MAX_BYTES)?;
            settings.given = true;
        }
        if !settings.keys.contains_key("added_tokens_decoder")
            && let Some(path) = inside_if_there(folder, OLDER)?
        {
            let older = input::read_json_object(&path, MAX_BYTES)?;
            settings.keys.extend(older.into_iter().filter(|(key, _)| NAMED.contains(&key.as_str())));
            settings.given = true;
        }
        // Whoever reads the model's configuration says what is wrong with it.
        let model = inside_if_there(folder, "config.json").ok().flatten();
        let model = model.and_then(|path| input::read_json_object(&path, MAX_MODEL_BYTES).ok());
        let bos = model.and_then(|keys| keys.get("bos_token_id")?.as_u64());
        settings.bos_of_model = bos.and_then(|id| u32::try_from(id).ok());
        Ok(settings)
    }

    /// Settings with these keys.
    pub fn of(keys: &[(&str, &str)]) -> Settings {
        let keys = keys.iter().map(|(key, value)| ((*key).to_owned(), Value::from(*value))).collect();
        Settings { given: true, bos_of_model: None, keys }
    }

    /// The text of the token that plays the part `key`, such as `pad_token`: a string, or an object with `content`.
    pub fn named(&self, key: &str) -> Option<&str> {
        let token = self.keys.get(key)?;
        token.as_str().or_else(|| token.get("content")?.as_str())
    }

    /// All tokens that play a part, by the name of the part.
    pub fn all_named(&self) -> impl Iterator<Item = (&'static str, &str)> {
        NAMED.into_iter().filter_map(|key| Some((key, self.named(key)?)))
    }

    /// A key that is true or false.
    pub fn flag(&self, key: &str) -> Option<bool> {
        self.keys.get(key).and_then(Value::as_bool)
    }

    /// What a new folder takes over.
    pub fn kept(&self) -> Map<String, Value> {
        let kept = |key: &&str| Some(((*key).to_owned(), self.keys.get(*key).filter(|v| !v.is_null())?.clone()));
        KEPT.iter().filter_map(kept).collect()
    }
}
