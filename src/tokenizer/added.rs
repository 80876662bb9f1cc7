//! Special tokens that a vocabulary is given beside its own.

use super::{Engine, Token, Tokenizer, file};
use crate::error::{Error, Result};
use serde_json::{Value, json};

impl Tokenizer {
    /// The special tokens, by name.
    pub fn special_tokens(&self) -> Vec<(String, u32)> {
        let special = (0..).zip(self.tokens.iter()).filter(|(_, token)| token.special && !token.bytes.is_empty());
        special.map(|(id, token)| (String::from_utf8_lossy(&token.bytes).into_owned(), id)).collect()
    }

    /// The same vocabulary with these special tokens. Those that it lacks get the ids from
    /// [`Tokenizer::vocab_size`] on, in order.
    ///
    /// # Errors
    /// If it is a file's, and the file has no place for them.
    pub fn with_special(&self, names: &[&str]) -> Result<Tokenizer> {
        let lacking: Vec<&str> = names.iter().copied().filter(|name| self.special_id(name).is_none()).collect();
        if lacking.is_empty() {
            return Ok(self.clone());
        }
        if let Engine::File { json, .. } = &*self.engine {
            let loaded = self.extended(json, &lacking);
            return loaded.map(|loaded| Self::from_file(&self.name, loaded)).map_err(|e| Error::file(&self.name, e));
        }
        let more = lacking.iter().map(|name| Token::new(name.as_bytes(), true));
        let tokens = self.tokens.iter().cloned().chain(more).collect();
        Ok(Tokenizer { tokens, ..self.clone() })
    }

    /// The file in `text` with more special tokens.
    fn extended(&self, text: &str, names: &[&str]) -> std::result::Result<file::Loaded, String> {
        let mut root: Value = serde_json::from_str(text).map_err(|e| crate::input::one_line(&e))?;
        let first = self.vocab_size();
        let added = names.iter().enumerate().map(|(i, name)| {
            json!({
                "id": first + i, "content": name, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true,
            })
        });
        // In the vocabulary too, so that each has its id whatever gaps there are before it.
        if let Some(Value::Object(vocab)) = root.pointer_mut("/model/vocab") {
            vocab.extend(names.iter().enumerate().map(|(i, name)| ((*name).to_owned(), json!(first + i))));
        }
        match root.get_mut("added_tokens") {
            Some(Value::Array(list)) => list.extend(added),
            _ => root["added_tokens"] = added.collect(),
        }
        file::parse(&root.to_string(), (*self.settings).clone()).map(|loaded| file::Loaded {
            eos: self.eos,
            begin: (*self.begin).clone(),
            ..loaded
        })
    }
}
