//! The tokenizer's files of a Hugging Face folder.

use super::Tokenizer;
use crate::checkpoint::disk::replace_text;
use crate::error::Result;
use serde_json::json;
use std::path::Path;

/// ChatML: turns of a chat between `<|im_start|>` and `<|im_end|>`.
pub const CHATML: &str = include_str!("../../assets/chatml.jinja");
/// The file of the chat template.
pub const CHAT_TEMPLATE: &str = "chat_template.jinja";

impl Tokenizer {
    /// Writes `tokenizer.json`, `tokenizer_config.json` and, where there is one, `chat_template.jinja` into `dir`, as
    /// transformers reads them. `max_length` is the model's longest sequence, `bos` the token that its configuration
    /// says texts begin with.
    pub fn write_hf(&self, dir: &Path, max_length: usize, bos: u32) -> Result<()> {
        let files = self.hf_files(max_length, bos);
        files.iter().try_for_each(|(name, text)| replace_text(&dir.join(name), text))
    }

    /// Names and texts of the files that [`Tokenizer::write_hf`] writes.
    pub fn hf_files(&self, max_length: usize, bos: u32) -> Vec<(&'static str, String)> {
        let eos = String::from_utf8_lossy(&self.tokens[self.eos as usize].bytes).into_owned();
        let special = self.tokens.get(bos as usize).filter(|token| token.special);
        let bos = special.map_or(eos.clone(), |token| String::from_utf8_lossy(&token.bytes).into_owned());
        let config = json!({
            "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": bos, "eos_token": eos,
            "model_max_length": max_length, "clean_up_tokenization_spaces": false,
        });
        let mut files = vec![("tokenizer.json", self.json()), ("tokenizer_config.json", format!("{config:#}\n"))];
        files.extend(self.chat_template().map(|template| (CHAT_TEMPLATE, template.to_owned())));
        files
    }

    /// The template of chats: the one that it was given, or ChatML, if the vocabulary has its two special tokens.
    pub fn chat_template(&self) -> Option<&str> {
        let has = |name| self.special_id(name).is_some();
        self.template.as_deref().or((has("<|im_start|>") && has("<|im_end|>")).then_some(CHATML))
    }

    /// The same vocabulary with the chat template `text`.
    pub fn with_chat_template(&self, text: &str) -> Tokenizer {
        Tokenizer { template: Some(text.into()), ..self.clone() }
    }
}
