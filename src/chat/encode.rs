//! A conversation as tokens, and which of them a model is to learn.
//!
//! The template's text is encoded as a whole, as transformers does it: a token may begin in a frame and end in what a
//! message says. But a name of a special token is one token in a frame of the template alone, and plain text in what a
//! message says, so nobody can forge the end of a turn.
//!
//! A model learns what it has to generate: all that follows the text of the prompt that asks for an answer, up to the
//! token that ends it; or what the template itself says is generated. It is asked by the tokens of the prompt, and as
//! in transformers these need not be the first tokens of the whole: [`Encoder::warning`] tells.

use super::template::Template;
use super::written::Written;
use crate::config::sft::SftMask;
use crate::data::record::{Role, Turn};
use crate::error::{Error, Result};
use crate::tokenizer::{Marked, Placed, Tokenizer};
use std::ops::Range;

/// A conversation's tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Encoded {
    /// The tokens.
    pub ids: Vec<u32>,
    /// Whether the loss counts each as a target.
    pub counted: Vec<bool>,
}

impl Encoded {
    /// Targets that count.
    pub fn targets(&self) -> usize {
        self.counted.iter().skip(1).filter(|&&counted| counted).count()
    }
}

/// Encodes conversations by one template, tokenizer and mask.
pub struct Encoder {
    template: Template,
    marked: Marked,
    mask: SftMask,
    end: u32,
    lead: String,
}

/// An answer in a conversation's text: the bytes that the prompt for it ends at, and those of what it says.
struct Answer {
    begin: usize,
    content: Range<usize>,
    /// Where the next message begins to say something, or the text ends.
    next: usize,
}

impl Encoder {
    /// An encoder for `template`.
    ///
    /// # Errors
    /// If the template fails on a plain conversation, ends no answer with a special token of the vocabulary, or, for
    /// the seed's mask, is not ChatML.
    pub fn new(template: Template, tokenizer: Tokenizer, mask: SftMask) -> Result<Encoder> {
        let marked = Marked::new(tokenizer, template.source())?;
        let probe = [Turn::new(Role::User, "a"), Turn::new(Role::Assistant, "b")];
        let fail = |reason: String| Error::config("sft.chat_template", format!("{}: it {reason}", template.name()));
        let (written, prompts) = template.write_answers(&probe, &[1]).map_err(fail)?;
        let placed = marked.encode(&written.text, &plain(&written));
        let answers = answers(&written, &[1], &prompts);
        let lead = answers.first().map_or("", |answer| &written.text[answer.begin..answer.content.start]).to_owned();
        let after = |one: &&Placed| answers.first().is_some_and(|answer| one.bytes.start >= answer.content.end);
        let end = placed.iter().filter(after).find(|one| marked.is_end(one.id)).map(|one| one.id);
        let reason = "ends no answer with a special token of the vocabulary, by which a model could stop";
        let end = end.ok_or_else(|| fail(reason.to_owned()))?;
        if mask == SftMask::Seed && !template.is_chatml() {
            return Err(Error::config("sft.sft_mask", "is \"seed\", which is for ChatML alone; leave out one of both"));
        }
        Ok(Encoder { template, marked, mask, end, lead })
    }

    /// What is to be known of how the template meets the vocabulary: that a prompt has other tokens at its end than
    /// the conversation that goes on from it, so that a model is asked by other tokens than it learns to answer after.
    /// So it is in transformers, and so it is here.
    ///
    /// # Errors
    /// As [`Encoder::encode`].
    pub fn warning(&self) -> std::result::Result<Option<String>, String> {
        let turns = [Turn::new(Role::User, "a"), Turn::new(Role::Assistant, "b")];
        let [prompt, whole] = [self.template.write(&turns[..1], true)?, self.template.write(&turns, false)?];
        let same = !whole.text.starts_with(&prompt.text) || self.ids(&whole).starts_with(&self.ids(&prompt));
        Ok((!same).then(|| {
            let name = self.template.name();
            format!(
                "{name}: with this vocabulary its prompts end in other tokens than a conversation has there, as in \
                 transformers; the model is asked by other tokens than it learns to answer after"
            )
        }))
    }

    /// The token that ends an answer.
    pub fn end(&self) -> u32 {
        self.end
    }

    /// The vocabulary.
    pub fn tokenizer(&self) -> &Tokenizer {
        self.marked.tokenizer()
    }

    /// The template.
    pub fn template(&self) -> &Template {
        &self.template
    }

    /// What a generated text says: without what the template writes between its prompt and an answer, which a model
    /// generates as well.
    pub fn said<'t>(&self, generated: &'t str) -> &'t str {
        generated.strip_prefix(self.lead.as_str()).unwrap_or(generated)
    }

    /// What the template writes between its prompt and an answer, which a model generates as well.
    pub fn lead(&self) -> &str {
        &self.lead
    }

    /// Tokens that a model generates to say `text`, the one that ends it included.
    pub fn length_of(&self, text: &str) -> usize {
        self.tokenizer().encode(&format!("{}{text}", self.lead)).len() + 1
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
        let counts = |turn: &Turn| turn.role == Role::Assistant && turn.learnt;
        let numbers: Vec<usize> = (first..turns.len()).filter(|&i| counts(&turns[i])).collect();
        let (written, prompts) = self.template.write_answers(turns, &numbers)?;
        let answers = answers(&written, &numbers, &prompts);
        let placed = self.marked.encode(&written.text, &plain(&written));
        let mut counted = vec![false; placed.len()];
        let mut count = |bytes: &Range<usize>, whole: bool| {
            let from = placed.partition_point(|one| one.bytes.end < bytes.start);
            for (one, counted) in placed.iter().zip(&mut counted).skip(from) {
                if one.bytes.start >= bytes.end {
                    break;
                }
                *counted |= one.bytes.end > bytes.start || (whole && one.bytes.start >= bytes.start);
            }
        };
        if self.template.generates() {
            let all = numbers.len() == turns.iter().filter(|turn| turn.role == Role::Assistant).count();
            let of = |bytes: &Range<usize>| answers.iter().any(|a| bytes.start < a.next && a.begin < bytes.end);
            written.generated.iter().filter(|bytes| all || of(bytes)).for_each(|bytes| count(bytes, false));
        } else {
            for answer in &answers {
                count(&(self.begin(&written.text, answer)..self.stop(answer, &placed)), true);
            }
        }
        Ok(Encoded { ids: placed.into_iter().map(|one| one.id).collect(), counted })
    }

    /// Where the answer begins to count; the seed's loss begins behind the role.
    fn begin(&self, text: &str, answer: &Answer) -> usize {
        match self.mask {
            SftMask::Answers => answer.begin,
            SftMask::Seed => text[..answer.content.start].trim_end().len(),
        }
    }

    /// Where the answer stops to count: behind the token that ends it, if one does before the next message.
    fn stop(&self, answer: &Answer, placed: &[Placed]) -> usize {
        let from = placed.partition_point(|one| one.bytes.end <= answer.content.end);
        let frame = placed[from..].iter().take_while(|one| one.bytes.start < answer.next);
        let end = frame.into_iter().find(|one| self.marked.is_end(one.id));
        end.map_or(answer.content.end, |one| one.bytes.end)
    }

    /// The tokens of a conversation up to where the assistant is to answer; where the last message is its own, up to
    /// the end of what that says, so that it goes on.
    ///
    /// # Errors
    /// As [`Encoder::encode`].
    pub fn prompt(&self, turns: &[Turn]) -> std::result::Result<Vec<u32>, String> {
        if turns.last().is_none_or(|turn| turn.role != Role::Assistant) {
            return self.generation_prompt(turns);
        }
        let mut written = self.template.write(turns, false)?;
        if let Some((_, last)) = written.contents.last() {
            written.text.truncate(last.end); // what ends the message
        }
        Ok(self.ids(&written))
    }

    /// The tokens of a conversation and of the generation prompt behind it, whoever spoke last.
    ///
    /// # Errors
    /// As [`Encoder::encode`].
    pub fn generation_prompt(&self, turns: &[Turn]) -> std::result::Result<Vec<u32>, String> {
        Ok(self.ids(&self.template.write(turns, true)?))
    }

    fn ids(&self, written: &Written) -> Vec<u32> {
        let placed = self.marked.encode(&written.text, &plain(written));
        placed.into_iter().map(|one| one.id).collect()
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

/// What of a text messages say.
fn plain(written: &Written) -> Vec<Range<usize>> {
    written.contents.iter().map(|(_, bytes)| bytes.clone()).collect()
}

/// The answers that the messages `numbers` are, in the order of the text; `prompts` are the last frames of the prompts
/// that they answer.
fn answers(written: &Written, numbers: &[usize], prompts: &[Option<String>]) -> Vec<Answer> {
    let mut answers = Vec::new();
    for (i, (number, content)) in written.contents.iter().enumerate() {
        let Ok(place) = numbers.binary_search(number) else { continue };
        let start = i.checked_sub(1).map_or(0, |before| written.contents[before].1.end);
        let frame = &written.text[start..content.start];
        // As far as the prompt and the frame are the same.
        let prompt = prompts[place].as_deref().unwrap_or(frame);
        let same = frame.chars().zip(prompt.chars()).take_while(|(a, b)| a == b);
        let begin = start + same.map(|(c, _)| c.len_utf8()).sum::<usize>();
        let next = written.contents.get(i + 1).map_or(written.text.len(), |(_, next)| next.start);
        answers.push(Answer { begin, content: content.clone(), next });
    }
    answers
}
