//! Records as plain text, for pretraining.
//!
//! The marks of ChatML in it are characters like all others: the tokenizer takes text for text, whatever it spells.

use super::record::{Content, Record, Turn};
use std::borrow::Cow;

impl Record {
    /// The text that a model learns from it; none where that is not wanted (a `label` that is false).
    ///
    /// | record | text |
    /// |---|---|
    /// | text | itself |
    /// | messages | of each `<|im_start|>role`, a line feed, the content, `<|im_end|>`, a line feed (ChatML) |
    /// | prompt and completion | both with nothing between; messages as ChatML |
    /// | preference | the prompt and what is chosen, likewise |
    /// | instruction | instruction, input unless it is empty, and output, with blank lines between |
    /// | question | question and answer with a blank line between |
    ///
    /// With a system message or a history beside them, the last two are messages.
    ///
    /// # Errors
    /// If it is a prompt alone, or has a message that is not to be learnt: of a text every token is.
    pub fn text(&self) -> Result<Option<Cow<'_, str>>, String> {
        if self.has_unlearnt() {
            let reason = "has a message that is not to be learnt, and pretraining learns every token; fine-tune on it \
                          with `hadal sft`, or take the message out";
            return Err(reason.to_owned());
        }
        let owned = match self {
            Record::Text(text) => return Ok(Some(text.into())),
            Record::Labelled { label: false, .. } => return Ok(None),
            Record::Messages(turns) => chat(turns),
            Record::Completion { prompt, completion } | Record::Labelled { prompt, completion, .. } => {
                plain(prompt) + &plain(completion)
            }
            Record::Preference { prompt, chosen, .. } => prompt.as_ref().map_or(String::new(), plain) + &plain(chosen),
            Record::Instruction { instruction, input, output } if input.is_empty() => {
                [instruction.as_str(), output].join("\n\n")
            }
            Record::Instruction { instruction, input, output } => [instruction.as_str(), input, output].join("\n\n"),
            Record::Question { question, answer } => [question.as_str(), answer].join("\n\n"),
            Record::Prompt { .. } => {
                let reason = "has a prompt and no answer to it, which is no text to pretrain on; \
                              give prompts with completions, or set data.text_field to the key of a text";
                return Err(reason.to_owned());
            }
        };
        Ok(Some(owned.into()))
    }

    /// Whether a message of it is not to be learnt.
    fn has_unlearnt(&self) -> bool {
        let any = |turns: &[Turn]| turns.iter().any(|turn| !turn.learnt);
        match self {
            Record::Messages(turns) => any(turns),
            other => other.contents().into_iter().filter_map(Content::turns).any(any),
        }
    }

    /// Messages in it.
    pub fn turns(&self) -> usize {
        match self {
            Record::Messages(turns) => turns.len(),
            other => other.contents().into_iter().filter_map(Content::turns).map(<[Turn]>::len).sum(),
        }
    }

    /// Whether a text or a message in it holds nothing but white space; the input of an instruction may.
    pub fn has_empty(&self) -> bool {
        let empty = |text: &String| text.trim().is_empty();
        let silent = |turns: &[Turn]| turns.iter().any(|turn| empty(&turn.content));
        match self {
            Record::Text(text) => empty(text),
            Record::Messages(turns) => silent(turns),
            Record::Instruction { instruction, output, .. } => empty(instruction) || empty(output),
            Record::Question { question, answer } => empty(question) || empty(answer),
            other => other.contents().into_iter().any(|content| match content {
                Content::Text(text) => empty(text),
                Content::Turns(turns) => silent(turns),
            }),
        }
    }

    /// Its parts that may be text or messages.
    fn contents(&self) -> Vec<&Content> {
        match self {
            Record::Completion { prompt, completion } | Record::Labelled { prompt, completion, .. } => {
                vec![prompt, completion]
            }
            Record::Preference { prompt, chosen, rejected, .. } => prompt.iter().chain([chosen, rejected]).collect(),
            Record::Prompt { prompt, .. } => vec![prompt],
            Record::Text(_) | Record::Messages(_) | Record::Instruction { .. } | Record::Question { .. } => Vec::new(),
        }
    }
}

impl Content {
    /// Its messages, if it is such.
    pub fn turns(&self) -> Option<&[Turn]> {
        match self {
            Content::Text(_) => None,
            Content::Turns(turns) => Some(turns),
        }
    }
}

fn plain(content: &Content) -> String {
    match content {
        Content::Text(text) => text.clone(),
        Content::Turns(turns) => chat(turns),
    }
}

/// Messages as ChatML.
fn chat(turns: &[Turn]) -> String {
    let one = |turn: &Turn| format!("<|im_start|>{}\n{}<|im_end|>\n", turn.role.name(), turn.content);
    turns.iter().map(one).collect()
}
