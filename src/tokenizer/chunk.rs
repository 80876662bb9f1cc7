//! Cuts text into pieces that can be tokenised on their own, so that encoding is parallel and its worst case bounded.
//!
//! Byte-pair merging and backtracking expressions both degrade on very long runs of one character class; no piece is
//! longer than [`LIMIT`]. Where the text has lines or words, the cut is a place where the byte-level pre-tokenisers
//! cut too: after a single line feed, or before a single space, between visible characters. The pieces' tokens are
//! then those of the whole, as long as no token goes across such a place, which is looked up in the vocabulary. One
//! that marks the beginning of a text marks that of the first piece alone.

/// A piece is cut at the first good place after this many bytes.
const TARGET: usize = 8 << 10;
/// A piece is cut anywhere rather than become longer than this many bytes.
const LIMIT: usize = 16 << 10;

/// Bytes beyond which the rest of a text no longer moves the end of its first piece.
const KNOWN: usize = LIMIT + 4;

/// Where a vocabulary's texts may be cut, if they have such places.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cuts {
    /// After line feeds.
    lines: bool,
    /// Before spaces.
    words: bool,
}

impl Default for Cuts {
    fn default() -> Self {
        Cuts { lines: true, words: true }
    }
}

impl Cuts {
    /// The places that no token goes across.
    pub fn between<'t>(tokens: impl Iterator<Item = &'t [u8]>) -> Cuts {
        tokens.fold(Cuts::default(), |cuts, token| Cuts {
            lines: cuts.lines && !token.windows(2).any(|pair| pair[0] == b'\n' && pair[1].is_ascii_graphic()),
            words: cuts.words && !token.windows(2).any(|pair| pair[0].is_ascii_graphic() && pair[1] == b' '),
        })
    }
}

/// The pieces of `text`, in order; their concatenation is `text`.
pub fn pieces(text: &str, cuts: Cuts) -> Vec<&str> {
    let mut out = Vec::with_capacity(text.len() / TARGET + 1);
    let mut rest = text;
    while let Some(end) = piece(rest, false, cuts) {
        let (piece, tail) = rest.split_at(end);
        out.push(piece);
        rest = tail;
    }
    out
}

/// Where the first piece of `text` ends; none without text, or where `more` text follows that decides it.
pub fn piece(text: &str, more: bool, cuts: Cuts) -> Option<usize> {
    match text.len() {
        0 => None,
        length if more && length < KNOWN => None,
        length if length <= TARGET => Some(length),
        _ => Some(cut(text, cuts)),
    }
}

/// Where the first piece of `text`, which is longer than [`TARGET`], ends.
fn cut(text: &str, cuts: Cuts) -> usize {
    let bytes = text.as_bytes();
    let end = bytes.len().min(LIMIT);
    // Visible ASCII around the cut: other characters might be spaces of Unicode.
    let visible = |at: usize| bytes[at].is_ascii_graphic();
    let lines = if cuts.lines { TARGET..end } else { 0..0 };
    let words = if cuts.words { TARGET..end - 1 } else { 0..0 };
    let line = lines.into_iter().find(|&at| bytes[at - 1] == b'\n' && visible(at) && visible(at - 2));
    let word = || words.clone().find(|&at| bytes[at] == b' ' && visible(at - 1) && bytes[at + 1].is_ascii_alphabetic());
    line.or_else(word).unwrap_or_else(|| text.floor_char_boundary(end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::Tokenizer;
    use serde_json::{Map, Value, json};

    #[test]
    fn pieces_join_to_the_text_and_stay_short() {
        let lines: String = (0..4000).map(|i| format!("line {i} of the text\n")).collect();
        let unbroken = "\u{e9}^ ".repeat(20_000);
        for text in [lines.as_str(), unbroken.as_str(), "short", ""] {
            let pieces = pieces(text, Cuts::default());
            assert_eq!(pieces.concat(), text);
            assert!(pieces.iter().all(|p| p.len() <= LIMIT && !p.is_empty()));
        }
        assert!(pieces(&lines, Cuts::default()).iter().all(|p| p.ends_with('\n')));
    }

    /// A vocabulary in the style of Llama's with this normalizer and pre-tokenizer, and more tokens.
    fn marked(normalizer: Value, pre_tokenizer: Value, more: &[&str]) -> Tokenizer {
        let bytes = (0..=255u8).map(|b| format!("<0x{b:02X}>"));
        let letters = "</s> ▁ t h e c a . ▁t he ▁the ▁c at ▁cat".split(' ').map(str::to_owned);
        let texts = letters.chain(more.iter().map(|text| (*text).to_owned())).chain(bytes);
        let vocab: Map<String, Value> = texts.enumerate().map(|(id, text)| (text, json!(id))).collect();
        let eos = json!({"id": 0, "content": "</s>", "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true});
        let merges = ["▁ t", "h e", "▁t he", "▁ c", "a t", "▁c at"];
        let file = json!({
            "version": "1.0", "added_tokens": [eos], "normalizer": normalizer, "pre_tokenizer": pre_tokenizer,
            "decoder": null, "post_processor": null, "truncation": null, "padding": null,
            "model": {"type": "BPE", "byte_fallback": true, "vocab": vocab, "merges": merges},
        });
        Tokenizer::from_json("marked", &file.to_string()).unwrap()
    }

    #[test]
    fn a_long_text_has_the_tokens_of_the_whole_where_its_beginning_is_marked() {
        let legacy = json!({"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]});
        let space = |scheme| json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": true});
        let words = "the cat. the  cat that ate".repeat(1000);
        let lines = "the\ncat\n\n.\nthat\n".repeat(2000);
        let none = "cat.the".repeat(6000);
        for (normalizer, pre_tokenizer) in
            [(legacy, Value::Null), (Value::Null, space("first")), (Value::Null, space("always"))]
        {
            let tokenizer = marked(normalizer, pre_tokenizer, &[]);
            let whole = tokenizers::Tokenizer::from_bytes(tokenizer.json()).unwrap();
            for text in [&words, &lines, &none, &format!(" {words}"), &lines.replace('\n', "\n ")] {
                let expected = whole.encode(text.as_str(), false).unwrap();
                assert!(tokenizer.encode(text) == expected.get_ids(), "{:?}", &text[..20]);
            }
        }
        assert_eq!(marked(Value::Null, Value::Null, &["a\nb"]).cuts(), Cuts { lines: false, words: true });
        assert_eq!(marked(Value::Null, Value::Null, &["a▁"]).cuts(), Cuts { lines: true, words: false });
    }

    #[test]
    fn text_that_a_vocabulary_cannot_hold_is_named() {
        let whole = marked(Value::Null, Value::Null, &[]);
        assert_eq!((whole.lack(), Tokenizer::load("world").unwrap().lack()), (None, None));
        let mut file: Value = serde_json::from_str(&whole.json()).unwrap();
        file["model"]["byte_fallback"] = false.into();
        let lack = |file: &Value| Tokenizer::from_json("t", &file.to_string()).unwrap().lack().unwrap();
        assert!(lack(&file).contains("are left out"), "{}", lack(&file));
        file["model"]["unk_token"] = ".".into();
        assert!(lack(&file).contains("become \".\""), "{}", lack(&file));
        let mut file: Value = serde_json::from_str(&Tokenizer::load("byte").unwrap().json()).unwrap();
        for c in ["a", "b", "c", "\u{e9}"] {
            file["model"]["vocab"].as_object_mut().unwrap().remove(c);
        }
        assert!(lack(&file).contains("4 of the 256 bytes (0x61 to 0x63, 0xe9)"), "{}", lack(&file));
    }

    #[test]
    fn text_that_arrives_bit_by_bit_is_cut_as_the_whole() {
        let lines: String = (0..3000).map(|i| format!("line {i} of\u{e9} text\n\n  x")).collect();
        let unbroken = "\u{e9}^ ".repeat(20_000);
        for text in [lines.as_str(), unbroken.as_str()] {
            for step in [1000, 7001, 40_000] {
                let (mut found, mut start, mut known) = (Vec::new(), 0, 0);
                while known < text.len() {
                    known = text.ceil_char_boundary((known + step).min(text.len()));
                    while let Some(end) = piece(&text[start..known], known < text.len(), Cuts::default()) {
                        found.push(&text[start..start + end]);
                        start += end;
                    }
                }
                assert_eq!(found, pieces(text, Cuts::default()));
            }
        }
    }
}
