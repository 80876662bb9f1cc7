//! An answer as text while its tokens are drawn.

use crate::tokenizer::Tokenizer;
use std::ops::Range;

/// Turns tokens into text that may be shown at once: whole characters only, and nothing that may yet turn out to be one
/// of the texts that end the answer, wherever the borders of tokens lie. Special tokens are no text, but a text that
/// ends the answer may spell them.
pub struct Text {
    tokenizer: Tokenizer,
    stops: Vec<String>,
    /// The beginning of a character.
    bytes: Vec<u8>,
    /// Perhaps the beginning of a stop, special tokens by name.
    held: String,
    /// Where in it such names stand.
    hidden: Vec<Range<usize>>,
    /// Whether there is no text yet, in the prompt either.
    begins: bool,
    /// What is left out where the answer begins with it; none as soon as that is known.
    lead: Option<String>,
    /// Perhaps the beginning of the lead.
    led: String,
    stopped: bool,
}

impl Text {
    /// What follows the tokens `prompt`: nothing yet. Each of `stops` will end the answer, and is not part of it. Empty
    /// ones are left out.
    pub fn new(tokenizer: &Tokenizer, prompt: &[u32], stops: &[String]) -> Text {
        Text {
            tokenizer: tokenizer.clone(),
            stops: stops.iter().filter(|stop| !stop.is_empty()).cloned().collect(),
            bytes: Vec::new(),
            held: String::new(),
            hidden: Vec::new(),
            begins: tokenizer.byte_count(prompt) == 0,
            lead: None,
            led: String::new(),
            stopped: false,
        }
    }

    /// The same without `lead` where the answer begins with it: a chat template may write text between its prompt and
    /// what the assistant says, which a model generates as well.
    pub fn after(self, lead: &str) -> Text {
        Text { lead: Some(lead.to_owned()).filter(|lead| !lead.is_empty()), ..self }
    }

    /// Whether one of the stops has come.
    pub fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// Takes a token; gives what may now be shown.
    pub fn push(&mut self, token: u32) -> String {
        if self.stopped {
            return String::new();
        }
        if let Some(name) = self.tokenizer.special_name(token) {
            let begin = self.held.len();
            self.held.push_str(name);
            self.hidden.push(begin..self.held.len());
            return self.release();
        }
        self.take(token);
        let mut used = 0;
        for chunk in self.bytes.utf8_chunks() {
            self.held.push_str(chunk.valid());
            used += chunk.valid().len();
            // What is no character, whatever follows, is replaced; the beginning of one waits.
            if used + chunk.invalid().len() < self.bytes.len() || is_broken(chunk.invalid()) {
                if !chunk.invalid().is_empty() {
                    self.held.push(char::REPLACEMENT_CHARACTER);
                }
                used += chunk.invalid().len();
            }
        }
        self.bytes.drain(..used);
        self.release()
    }

    /// Adds the bytes of a token. Some vocabularies mark the first word of a text as others with a space before it,
    /// which is no part of the text.
    fn take(&mut self, token: u32) {
        let mut bytes = self.tokenizer.text_bytes(token);
        if self.begins && !bytes.is_empty() {
            self.begins = false;
            let spaces = |text: &[u8]| text.iter().take_while(|byte| **byte == b' ').count();
            let kept = spaces(self.tokenizer.decode(&[token]).as_bytes());
            bytes = &bytes[spaces(bytes).saturating_sub(kept)..];
        }
        self.bytes.extend(bytes);
    }

    /// The answer is over; gives what is left of it.
    pub fn finish(&mut self) -> String {
        if !std::mem::take(&mut self.bytes).is_empty() && !self.stopped {
            self.held.push(char::REPLACEMENT_CHARACTER);
        }
        let rest = self.shown(self.held.len());
        self.lead = None;
        std::mem::take(&mut self.led) + &rest
    }

    /// What of the text is not, and will not be, part of a stop.
    fn release(&mut self) -> String {
        let first = self.stops.iter().filter_map(|stop| self.find(stop)).min();
        if let Some(at) = first {
            self.stopped = true;
            let shown = self.shown(at);
            self.held.clear();
            return shown;
        }
        let longest = self.stops.iter().map(|stop| self.overlap(stop)).max().unwrap_or(0);
        self.shown(self.held.len() - longest)
    }

    /// Where a stop stands: of the name of a special token it has all or nothing.
    fn find(&self, stop: &str) -> Option<usize> {
        let mut starts = self.held.char_indices().map(|(at, _)| at);
        starts.find(|&at| self.held[at..].starts_with(stop) && !self.is_inside(at) && !self.is_inside(at + stop.len()))
    }

    /// Bytes of the longest end of what is held that `stop` begins with.
    fn overlap(&self, stop: &str) -> usize {
        let (held, most) = (self.held.as_bytes(), self.held.len().min(stop.len()));
        let begins = |&n: &usize| held[held.len() - n..] == stop.as_bytes()[..n] && !self.is_inside(held.len() - n);
        (1..=most).rev().find(begins).unwrap_or(0)
    }

    /// Whether a place is inside of the name of a special token.
    fn is_inside(&self, at: usize) -> bool {
        self.hidden.iter().any(|name| name.start < at && at < name.end)
    }

    /// Takes what is held up to `end`, without the names of special tokens.
    fn shown(&mut self, end: usize) -> String {
        let (mut shown, mut at) = (String::new(), 0);
        for name in &mut self.hidden {
            shown.push_str(&self.held[at..name.start.clamp(at, end)]);
            at = name.end.min(end);
            *name = name.start.saturating_sub(end)..name.end.saturating_sub(end);
        }
        shown.push_str(&self.held[at..end]);
        self.hidden.retain(|name| !name.is_empty());
        self.held.drain(..end);
        self.without_lead(shown)
    }

    /// What of `shown` may be shown as long as it is not known whether the answer begins with the lead.
    fn without_lead(&mut self, shown: String) -> String {
        let Some(lead) = &self.lead else { return shown };
        self.led.push_str(&shown);
        if lead.starts_with(self.led.as_str()) && lead.len() > self.led.len() {
            return String::new();
        }
        let text = std::mem::take(&mut self.led);
        let said = text.strip_prefix(lead.as_str()).unwrap_or(&text).to_owned();
        self.lead = None;
        said
    }
}

/// The text that `tokens` add to `prompt`, special tokens left out.
pub fn continued(tokenizer: &Tokenizer, prompt: &[u32], tokens: &[u32]) -> String {
    let mut text = Text::new(tokenizer, prompt, &[]);
    let mut shown: String = tokens.iter().map(|&token| text.push(token)).collect();
    shown.push_str(&text.finish());
    shown
}

/// Whether bytes can no longer become a character.
fn is_broken(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|e| e.error_len().is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(stops: &[&str], text: &[u8]) -> (Vec<String>, Text) {
        let tokenizer = Tokenizer::load("byte").unwrap();
        let stops: Vec<String> = stops.iter().map(|&stop| stop.to_owned()).collect();
        let mut shown = Text::new(&tokenizer, &[], &stops);
        let mut parts: Vec<String> = text.iter().map(|&byte| shown.push(u32::from(byte))).collect();
        parts.push(shown.finish());
        (parts, shown)
    }

    #[test]
    fn only_whole_characters_come_and_together_they_are_the_whole_text() {
        let texts: [&[u8]; 6] =
            ["Grüße ✓ 🐟".as_bytes(), b"\xf0\x9f", b"a\xfe\xe2\x28\xa1b", b"\xe2\x9c", b"", b"\xc3\xc3\xa9"];
        for text in texts {
            let (parts, _) = bytes(&[], text);
            assert_eq!(parts.concat(), String::from_utf8_lossy(text));
        }
        let (parts, _) = bytes(&[], "é🐟".as_bytes());
        assert_eq!(parts, ["", "é", "", "", "", "🐟", ""]);
    }

    #[test]
    fn a_stop_ends_the_text_wherever_tokens_end() {
        for (stops, text, expected, stopped) in [
            (&["END"][..], "one END two", "one ", true),
            (&["END"], "one EN two", "one EN two", false),
            (&["END"], "EEND", "E", true),
            (&["aab"], "aaab", "a", true),
            (&["two", "one"], "x one two", "x ", true),
            (&["é"], "caféine", "caf", true),
            (&["", "x"], "abc", "abc", false),
        ] {
            let (parts, text) = bytes(stops, text.as_bytes());
            assert_eq!((parts.concat().as_str(), text.is_stopped()), (expected, stopped), "{stops:?}");
        }
        let (parts, _) = bytes(&["END"], b"aE");
        assert_eq!(parts, ["a", "", "E"], "what may begin a stop waits");
    }

    #[test]
    fn what_a_template_writes_before_an_answer_is_left_out_where_the_answer_begins_with_it() {
        let tokenizer = Tokenizer::load("byte").unwrap();
        let cases =
            [(" ", " hi"), ("", " hi"), ("\n\n", "\n\nhi"), ("\n\n", "\nhi"), ("ab", "a"), ("ab", "ab"), (" ", "  hi")];
        let expected = ["hi", " hi", "hi", "\nhi", "a", "", " hi"];
        for ((lead, text), expected) in cases.into_iter().zip(expected) {
            let mut shown = Text::new(&tokenizer, &[], &["END".to_owned()]).after(lead);
            let mut said: String = text.bytes().map(|byte| shown.push(u32::from(byte))).collect();
            said += &shown.finish();
            assert_eq!(said, expected, "{lead:?} before {text:?}");
        }
    }

    #[test]
    fn special_tokens_are_no_text() {
        let tokenizer = Tokenizer::load("byte").unwrap();
        let mut text = Text::new(&tokenizer, &[], &[]);
        assert_eq!([97, tokenizer.eos(), 1 << 30, 98].map(|token| text.push(token)).concat(), "ab");
    }

    #[test]
    fn a_stop_may_spell_a_special_token_that_is_no_text() {
        let tokenizer = Tokenizer::load("byte").unwrap();
        let eos = tokenizer.eos();
        for (stop, tokens, expected, stopped) in [
            ("<|endoftext|>", &[97, eos, 98][..], "a", true),
            ("b<|endoftext|>c", &[97, 98, eos, 99, 100], "a", true),
            ("b<|endoftext|>c", &[97, 98, eos, 100, 98, eos], "abdb", false),
            ("of", &[97, eos, 98], "ab", false),
            ("xt|>b", &[97, eos, 98], "ab", false),
            ("END", &[97, eos, 69, eos, 98], "aEb", false),
        ] {
            let mut text = Text::new(&tokenizer, &[], &[stop.to_owned()]);
            let mut shown: String = tokens.iter().map(|&token| text.push(token)).collect();
            shown += &text.finish();
            assert_eq!((shown.as_str(), text.is_stopped()), (expected, stopped), "{stop} {tokens:?}");
        }
    }
}
