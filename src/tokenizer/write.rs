//! The tokenizer's files of a Hugging Face folder.

use super::Tokenizer;
use crate::checkpoint::disk::replace_text;
use crate::error::Result;
use serde_json::json;
use std::path::Path;

/// Turns of a chat between `<|im_start|>` and `<|im_end|>`.
const CHATML: &str = include_str!("../../assets/chatml.jinja");
/// The file of the chat template.
pub const CHAT_TEMPLATE: &str = "chat_template.jinja";

impl Tokenizer {
    /// Writes `tokenizer.json`, `tokenizer_config.json` and, where there is one, `chat_template.jinja` into `dir`, as
    /// transformers reads them. `max_length` is the model's longest sequence, `bos` the token that its configuration
    /// says texts begin with.
    pub fn write_hf(&self, dir: &Path, max_length: usize, bos: u32) -> Result<()> {
        let eos = String::from_utf8_lossy(&self.tokens[self.eos as usize].bytes).into_owned();
        let special = self.tokens.get(bos as usize).filter(|token| token.special);
        let bos = special.map_or(eos.clone(), |token| String::from_utf8_lossy(&token.bytes).into_owned());
        let config = json!({
            "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": bos, "eos_token": eos,
            "model_max_length": max_length, "clean_up_tokenization_spaces": false,
        });
        replace_text(&dir.join("tokenizer.json"), &self.json())?;
        replace_text(&dir.join("tokenizer_config.json"), &format!("{config:#}\n"))?;
        match self.chat_template() {
            Some(template) => replace_text(&dir.join(CHAT_TEMPLATE), template),
            None => Ok(()),
        }
    }

    /// The template of chats, ChatML, if the vocabulary has its two special tokens.
    pub fn chat_template(&self) -> Option<&'static str> {
        let has = |name| self.special_id(name).is_some();
        (has("<|im_start|>") && has("<|im_end|>")).then_some(CHATML)
    }
}
