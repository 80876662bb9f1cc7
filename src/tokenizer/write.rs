//! The tokenizer's files of a Hugging Face folder.

use super::Tokenizer;
use super::settings::TOKENIZER_CONFIG;
use crate::checkpoint::disk::replace_text;
use crate::error::Result;
use serde_json::{Map, Value, json};
use std::path::Path;

/// ChatML: turns of a chat between `<|im_start|>` and `<|im_end|>`.
pub const CHATML: &str = include_str!("../../assets/chatml.jinja");
/// The file of the chat template.
pub const CHAT_TEMPLATE: &str = "chat_template.jinja";

impl Tokenizer {
    /// Writes `tokenizer.json`, `tokenizer_config.json` and, where there is one, `chat_template.jinja` into `dir`, as
    /// transformers reads them: its `tokenizer(text)` then begins as [`Tokenizer::begun`] does. `max_length` is the
    /// model's longest sequence, `end` the token that ends what it writes.
    pub fn write_hf(&self, dir: &Path, max_length: usize, end: u32) -> Result<()> {
        let files = self.hf_files(max_length, end);
        files.iter().try_for_each(|(name, text)| replace_text(&dir.join(name), text))
    }

    /// Names and texts of the files that [`Tokenizer::write_hf`] writes.
    pub fn hf_files(&self, max_length: usize, end: u32) -> Vec<(&'static str, String)> {
        let mut config = Map::from_iter([("model_max_length".to_owned(), json!(max_length))]);
        config.extend(self.settings.kept());
        // llama.cpp goes by the flag, and then begins chats so as well. A model that ends its answers by a mark of its
        // chats learnt them without the token; transformers goes by the post-processor, and for texts alone.
        let flag = self.bos().is_some_and(|bos| self.begin().first() == Some(&bos)) && end == self.eos;
        let own = json!({
            "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": self.bos().map(|bos| self.name_of(bos)),
            "eos_token": self.name_of(self.eos), "add_bos_token": flag, "add_eos_token": false,
            "clean_up_tokenization_spaces": false,
        });
        config.extend(own.as_object().cloned().unwrap_or_default());
        let config = Value::Object(config);
        let mut files = vec![("tokenizer.json", self.json()), (TOKENIZER_CONFIG, format!("{config:#}\n"))];
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
