//! An answer as text while its tokens are drawn.

use crate::tokenizer::Tokenizer;

/// Turns tokens into text that may be shown at once: whole characters only, and nothing that may yet turn out to be one
/// of the texts that end the answer, wherever the borders of tokens lie. Special tokens are no text.
pub struct Text {
    tokenizer: Tokenizer,
    stops: Vec<String>,
    /// The beginning of a character.
    bytes: Vec<u8>,
    /// Perhaps the beginning of a stop.
    held: String,
    stopped: bool,
}

impl Text {
    /// Nothing yet; each of `stops` will end the answer, and is not part of it. Empty ones are left out.
    pub fn new(tokenizer: &Tokenizer, stops: &[String]) -> Text {
        let stops = stops.iter().filter(|stop| !stop.is_empty()).cloned().collect();
        Text { tokenizer: tokenizer.clone(), stops, bytes: Vec::new(), held: String::new(), stopped: false }
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
        self.bytes.extend(self.tokenizer.text_bytes(token));
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

    /// The answer is over; gives what is left of it.
    pub fn finish(&mut self) -> String {
        if !std::mem::take(&mut self.bytes).is_empty() && !self.stopped {
            self.held.push(char::REPLACEMENT_CHARACTER);
        }
        std::mem::take(&mut self.held)
    }

    /// What of the text is not, and will not be, part of a stop.
    fn release(&mut self) -> String {
        let first = self.stops.iter().filter_map(|stop| self.held.find(stop.as_str())).min();
        if let Some(at) = first {
            self.stopped = true;
            let mut held = std::mem::take(&mut self.held);
            held.truncate(at);
            return held;
        }
        let longest = self.stops.iter().map(|stop| overlap(&self.held, stop)).max().unwrap_or(0);
        let kept = self.held.split_off(self.held.len() - longest);
        std::mem::replace(&mut self.held, kept)
    }
}

/// Whether bytes can no longer become a character.
fn is_broken(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|e| e.error_len().is_some())
}

/// Bytes of the longest end of `text` that `stop` begins with.
fn overlap(text: &str, stop: &str) -> usize {
    let most = text.len().min(stop.len());
    let fits = |&n: &usize| text.as_bytes()[text.len() - n..] == stop.as_bytes()[..n];
    (1..=most).rev().find(fits).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(stops: &[&str], text: &[u8]) -> (Vec<String>, Text) {
        let tokenizer = Tokenizer::load("byte").unwrap();
        let stops: Vec<String> = stops.iter().map(|&stop| stop.to_owned()).collect();
        let mut shown = Text::new(&tokenizer, &stops);
        let mut parts: Vec<String> = text.iter().map(|&byte| shown.push(u32::from(byte))).collect();
        parts.push(shown.finish());
        (parts, shown)
    }

    #[test]
    fn only_whole_characters_come_and_together_they_are_the_whole_text() {
        let texts: [&[u8]; 6] =
            ["Grüße ✓ 🐟".as_bytes(), b"\xf0\x9f", b"a\xff\xe2\x28\xa1b", b"\xe2\x9c", b"", b"\xc3\xc3\xa9"];
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
    fn special_tokens_are_no_text() {
        let tokenizer = Tokenizer::load("byte").unwrap();
        let mut text = Text::new(&tokenizer, &[]);
        assert_eq!([97, tokenizer.eos(), 1 << 30, 98].map(|token| text.push(token)).concat(), "ab");
    }
}
