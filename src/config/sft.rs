//! How to fine-tune on conversations: `[sft]` in TOML.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Which targets count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum SftMask {
    /// What the assistant says, and the token that ends it.
    #[default]
    Answers,
    /// The same and the line feed after the assistant's name, but nothing of an answer that is cut: as the seed has it.
    Seed,
}

/// Supervised fine-tuning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SftConfig {
    /// Which targets count: `answers` or `seed`; default `answers`.
    pub sft_mask: SftMask,
    /// Whether several conversations share a row, each as if it were alone, rather than one a row; default true.
    pub packing: bool,
    /// File of a Jinja chat template, or `chatml`; if absent the model's own, or ChatML where it has none.
    pub chat_template: Option<PathBuf>,
    /// Special tokens that the vocabulary is given where it lacks them: their ids follow its own, and the embedding and
    /// the head grow if they have too few rows. If absent `<|im_start|>` and `<|im_end|>` for ChatML, none for another
    /// template, which a model's vocabulary suits.
    pub special_tokens: Option<Vec<String>>,
    /// Lines of the data that may be unusable, and are left out; one more ends the run before it begins; default 0.
    pub max_bad_lines: usize,
}

impl SftConfig {
    /// Whether the template is named as ChatML, not by a file.
    pub fn names_chatml(&self) -> bool {
        self.chat_template.as_ref().is_some_and(|path| path.as_os_str() == "chatml")
    }

    /// The special tokens that the vocabulary must have, where conversations are written as ChatML or not.
    pub fn special_tokens(&self, chatml: bool) -> Vec<&str> {
        match &self.special_tokens {
            Some(names) => names.iter().map(String::as_str).collect(),
            None if chatml => vec!["<|im_start|>", "<|im_end|>"],
            None => Vec::new(),
        }
    }
}

impl Default for SftConfig {
    fn default() -> Self {
        SftConfig {
            sft_mask: SftMask::Answers,
            packing: true,
            chat_template: None,
            special_tokens: None,
            max_bad_lines: 0,
        }
    }
}
