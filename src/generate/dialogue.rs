//! Conversations as prompts, for a model that was taught to chat.

use crate::data::record::Turn;
use crate::tokenizer::Tokenizer;
use std::path::Path;

/// How a model is told a conversation, and how it ends its answers.
pub struct Dialogue {
    tokenizer: Tokenizer,
    start: u32,
    end: u32,
}

impl Dialogue {
    /// The dialogue of the model in `folder` with this vocabulary.
    ///
    /// # Errors
    /// Why it cannot chat, and what to do.
    pub fn open(_folder: &Path, tokenizer: &Tokenizer) -> Result<Dialogue, String> {
        match (tokenizer.special_id("<|im_start|>"), tokenizer.special_id("<|im_end|>")) {
            (Some(start), Some(end)) => Ok(Dialogue { tokenizer: tokenizer.clone(), start, end }),
            _ => {
                Err("its vocabulary has no tokens for turns; hadal sft gives it some and teaches it to chat".to_owned())
            }
        }
    }

    /// The token that ends an answer.
    pub fn end(&self) -> u32 {
        self.end
    }

    /// The tokens of a conversation up to where the assistant is to answer.
    ///
    /// # Errors
    /// What is wrong with the template for it, in words that follow "the chat template".
    pub fn prompt(&self, turns: &[Turn]) -> Result<Vec<u32>, String> {
        let mut ids = Vec::new();
        for turn in turns {
            ids.push(self.start);
            ids.extend(self.tokenizer.encode(&format!("{}\n", turn.role.name())));
            ids.extend(self.tokenizer.encode(&turn.content));
            ids.push(self.end);
            ids.extend(self.tokenizer.encode("\n"));
        }
        ids.push(self.start);
        ids.extend(self.tokenizer.encode("assistant\n"));
        Ok(ids)
    }
}
