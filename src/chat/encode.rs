//! A conversation as tokens, and which of them a model is to learn.
//!
//! Frames and contents are encoded each by itself: a name of a special token is one token in a frame of the template,
//! and plain text in what a message says, so nobody can forge the end of a turn.

use super::template::{Segment, Template};
use crate::config::sft::SftMask;
use crate::data::record::{Role, Turn};
use crate::error::{Error, Result};
use crate::tokenizer::Tokenizer;

/// A conversation's tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Encoded {
    /// The tokens.
    pub ids: Vec<u32>,
    /// Whether the loss counts each as a target.
    pub counted: Vec<bool>,
}

impl Encoded {
    fn push(&mut self, ids: &[u32], counted: bool) {
        self.ids.extend(ids);
        self.counted.resize(self.ids.len(), counted);
    }

    /// Targets that count.
    pub fn targets(&self) -> usize {
        self.counted.iter().skip(1).filter(|&&counted| counted).count()
    }
}

/// Encodes conversations by one template, tokenizer and mask.
pub struct Encoder {
    template: Template,
    tokenizer: Tokenizer,
    mask: SftMask,
    /// The special tokens by name, the longest first.
    special: Vec<(String, u32)>,
    end: u32,
}

impl Encoder {
    /// An encoder for `template`.
    ///
    /// # Errors
    /// If the template fails on a plain conversation, ends no answer with a special token of the vocabulary, or, for
    /// the seed's mask, is not ChatML.
    pub fn new(template: Template, tokenizer: Tokenizer, mask: SftMask) -> Result<Encoder> {
        let mut special = tokenizer.special_tokens();
        special.sort_by(|a, b| b.0.len().cmp(&a.0.len()).then(a.cmp(b)));
        let probe = [Turn::new(Role::User, "a"), Turn::new(Role::Assistant, "b")];
        let fail = |reason: String| Error::config("sft.chat_template", format!("{}: it {reason}", template.name()));
        let segments = template.segments(&probe, false).map_err(fail)?;
        let Some(Segment::Frame(after)) = segments.last() else { unreachable!("segments end with a frame") };
        let first = split(after, &special).into_iter().find_map(|part| part.err());
        let reason = "ends no answer with a special token of the vocabulary, by which a model could stop";
        let end = first.ok_or_else(|| fail(reason.to_owned()))?;
        if mask == SftMask::Seed && !template.is_chatml() {
            return Err(Error::config("sft.sft_mask", "is \"seed\", which is for ChatML alone; leave out one of both"));
        }
        Ok(Encoder { template, tokenizer, mask, special, end })
    }

    /// The token that ends an answer.
    pub fn end(&self) -> u32 {
        self.end
    }

    /// The vocabulary.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The template.
    pub fn template(&self) -> &Template {
        &self.template
    }

    /// The tokens of a conversation. What the assistant says and is to be learnt counts, up to the token that ends it.
    ///
    /// # Errors
    /// What is wrong with the template for it, in words that follow its name.
    pub fn encode(&self, turns: &[Turn]) -> std::result::Result<Encoded, String> {
        self.encode_from(turns, 0)
    }

    /// The same where only messages from number `first` on count: those before are what is answered.
    ///
    /// # Errors
    /// As [`Encoder::encode`].
    pub fn encode_from(&self, turns: &[Turn], first: usize) -> std::result::Result<Encoded, String> {
        let counts = |turn: usize| turn >= first && turns[turn].role == Role::Assistant && turns[turn].learnt;
        let segments = self.template.segments(turns, false)?;
        let mut encoded = Encoded::default();
        let mut answered = false; // the frame follows an answer that its first special token ends
        for (i, segment) in segments.iter().enumerate() {
            match segment {
                Segment::Content(turn, text) => {
                    answered = counts(*turn);
                    encoded.push(&self.tokenizer.encode(text), answered);
                }
                Segment::Frame(text) => {
                    let next = segments.get(i + 1);
                    let answer = matches!(next, Some(Segment::Content(turn, _)) if counts(*turn));
                    self.frame(text, &mut encoded, std::mem::take(&mut answered), answer);
                }
            }
        }
        Ok(encoded)
    }

    /// Encodes a frame: `ends` an answer, and `begins` one.
    fn frame(&self, text: &str, encoded: &mut Encoded, mut ends: bool, begins: bool) {
        let parts = split(text, &self.special);
        let last = parts.len();
        for (i, part) in parts.into_iter().enumerate() {
            match part {
                Err(id) => encoded.push(&[id], std::mem::take(&mut ends)),
                Ok(text) => {
                    let ids = self.tokenizer.encode(text);
                    // The seed's loss begins behind the role.
                    let role = if begins && i + 1 == last && self.mask == SftMask::Seed {
                        self.tokenizer.encode(text.trim_end()).len().min(ids.len())
                    } else {
                        ids.len()
                    };
                    encoded.push(&ids[..role], ends);
                    encoded.push(&ids[role..], true);
                }
            }
        }
    }

    /// The tokens of a conversation up to where the assistant is to answer; where the last message is its own, up to
    /// the end of what that says, so that it goes on.
    ///
    /// # Errors
    /// As [`Encoder::encode`].
    pub fn prompt(&self, turns: &[Turn]) -> std::result::Result<Vec<u32>, String> {
        let mut encoded = Encoded::default();
        let goes_on = turns.last().is_some_and(|turn| turn.role == Role::Assistant);
        let mut segments = self.template.segments(turns, !goes_on)?;
        if goes_on {
            segments.pop(); // what ends the message
        }
        for segment in segments {
            match segment {
                Segment::Content(_, text) => encoded.push(&self.tokenizer.encode(text), false),
                Segment::Frame(text) => self.frame(&text, &mut encoded, false, false),
            }
        }
        Ok(encoded.ids)
    }

    /// Cuts a conversation on the right to `most` tokens. By the seed's mask an answer that is cut does not count.
    pub fn cut(&self, encoded: &mut Encoded, most: usize) {
        if encoded.ids.len() <= most {
            return;
        }
        encoded.ids.truncate(most);
        encoded.counted.truncate(most);
        if self.mask == SftMask::Seed && encoded.ids.last() != Some(&self.end) {
            encoded.counted.iter_mut().rev().take_while(|counted| **counted).for_each(|counted| *counted = false);
        }
    }
}

/// Text of a template as text and special tokens, in order.
fn split<'t>(text: &'t str, special: &[(String, u32)]) -> Vec<std::result::Result<&'t str, u32>> {
    let mut parts = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let found = special.iter().filter_map(|(name, id)| Some((rest.find(name.as_str())?, name.len(), *id)));
        // The first, and of those that begin at one place the longest, which stands first.
        match found.min_by_key(|(at, _, _)| *at) {
            Some((at, length, id)) => {
                if at > 0 {
                    parts.push(Ok(&rest[..at]));
                }
                parts.push(Err(id));
                rest = &rest[at + length..];
            }
            None => {
                parts.push(Ok(rest));
                rest = "";
            }
        }
    }
    parts
}
