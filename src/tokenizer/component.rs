//! The parts of a `tokenizer.json` around its vocabulary: only kinds that are understood, and none that makes much of
//! little: no text grows by more than a small factor, and no expression takes more than polynomial time.

use super::oniguruma;
use crate::input::quoted;
use serde_json::{Map, Value, json};

const NORMALIZERS: &[&str] = &["Sequence", "NFC", "NFD", "NFKC", "NFKD", "Lowercase", "Prepend", "Replace"];
const PRE_TOKENIZERS: &[&str] =
    &["Sequence", "ByteLevel", "Split", "Metaspace", "Whitespace", "WhitespaceSplit", "Digits", "Punctuation"];
const DECODERS: &[&str] =
    &["Sequence", "ByteLevel", "ByteFallback", "Fuse", "Replace", "Strip", "Metaspace", "BPEDecoder"];

/// Parts of one kind, those inside of others included.
const MOST_PARTS: usize = 16;
/// Of these, replacements: each can make a text [`LONGEST_CONTENT`] times as long.
const MOST_REPLACED: usize = 4;
/// Bytes of what replaces a match: a character.
const LONGEST_CONTENT: usize = 4;
/// Bytes of what is put before a text.
const LONGEST_PREFIX: usize = 16;
/// Bytes of an expression, several times the longest published one.
const LONGEST_PATTERN: usize = 4096;

/// Normalizer, pre-tokenizer and decoder of a file, checked, their expressions in the words of the engine that runs
/// here.
pub fn translated(file: &Map<String, Value>) -> Result<Map<String, Value>, String> {
    let mut parts = Map::new();
    for (key, kinds) in [("normalizer", NORMALIZERS), ("pre_tokenizer", PRE_TOKENIZERS), ("decoder", DECODERS)] {
        let mut part = file.get(key).cloned().unwrap_or_default();
        Tree { key, kinds, parts: 0, replaced: 0 }.translate(&mut part)?;
        parts.insert(key.to_owned(), part);
    }
    Ok(parts)
}

/// Has the parts of a file put no mark before a text; false if they put none.
pub fn unmarked(parts: &mut Map<String, Value>) -> bool {
    let kinds = ["normalizer", "pre_tokenizer"].map(|key| parts.get_mut(key).is_some_and(unmark));
    kinds.contains(&true)
}

/// The same of a part and those inside of it. What `Prepend` puts there is left out by another that does nothing.
fn unmark(part: &mut Value) -> bool {
    let kind = part.get("type").and_then(Value::as_str).unwrap_or_default();
    let marks = match kind {
        "Prepend" => true,
        "ByteLevel" => part["add_prefix_space"] == true,
        "Metaspace" => part["prepend_scheme"] != "never" && part["add_prefix_space"] != false,
        _ => false,
    };
    match (marks, kind) {
        (false, _) => {}
        (true, "Prepend") => *part = json!({"type": "Sequence", "normalizers": []}),
        (true, "ByteLevel") => part["add_prefix_space"] = false.into(),
        (true, _) => {
            part["prepend_scheme"] = "never".into();
            part.as_object_mut().and_then(|part| part.remove("add_prefix_space"));
        }
    }
    let inner = ["normalizers", "pretokenizers"].map(|inner| {
        let parts = part.get_mut(inner).and_then(Value::as_array_mut);
        parts.into_iter().flatten().fold(false, |any, part| unmark(part) | any)
    });
    marks | inner.contains(&true)
}

/// A part and those inside it.
struct Tree {
    key: &'static str,
    kinds: &'static [&'static str],
    parts: usize,
    replaced: usize,
}

impl Tree {
    fn translate(&mut self, part: &mut Value) -> Result<(), String> {
        let key = self.key;
        if part.is_null() {
            return Ok(());
        }
        let kind = part.get("type").and_then(Value::as_str).unwrap_or("absent");
        if !self.kinds.contains(&kind) {
            return Err(format!("{key}.type {} is not supported; known are {}", quoted(kind), self.kinds.join(", ")));
        }
        self.parts += 1;
        self.replaced += usize::from(kind == "Replace");
        if self.parts > MOST_PARTS || self.replaced > MOST_REPLACED {
            return Err(format!("{key} has more than {MOST_PARTS} parts, or {MOST_REPLACED} replacements"));
        }
        // A trailing strip underflows inside the crate on tokens shorter than it.
        let number = |key: &str| part.get(key).and_then(Value::as_u64);
        if kind == "Strip" && (number("stop") != Some(0) || number("start") > Some(16)) {
            return Err(format!("{key}: Strip is supported with stop 0 and start up to 16"));
        }
        for (name, longest) in [("content", LONGEST_CONTENT), ("prepend", LONGEST_PREFIX)] {
            if part.get(name).is_some_and(|text| text.as_str().is_none_or(|text| text.len() > longest)) {
                return Err(format!("{key}: {name} must be a text of up to {longest} bytes"));
            }
        }
        for kind in ["Regex", "String"] {
            let Some(text) = part.get_mut("pattern").and_then(|pattern| pattern.get_mut(kind)) else { continue };
            let Some(expression) = text.as_str().filter(|text| text.len() <= LONGEST_PATTERN) else {
                return Err(format!("{key}: an expression must be a text of up to {LONGEST_PATTERN} bytes"));
            };
            if kind == "Regex" {
                let refused = |reason| format!("{key}: the expression {}: {reason}", quoted(expression));
                *text = oniguruma::translate(expression).map_err(refused)?.into();
            }
        }
        for inner in ["normalizers", "pretokenizers", "decoders"] {
            for part in part.get_mut(inner).and_then(Value::as_array_mut).into_iter().flatten() {
                self.translate(part)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_of_published_vocabularies_are_understood() {
        for pattern in [
            r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
            super::super::ranks::CL100K_PATTERN.unwrap(),
            r"(?i:'s|'t|'re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
            r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|\s+(?!\S)|\s+"##,
            r"[\r\n]",
            r"\s?\p{L}+",
            r"\s?[!-/:-~！-／：-～‘-‟　-。]+",
            r"\s+$",
            r"[一-龥ࠀ-一가-퟿]+",
            r"\p{N}{1,3}",
            r"\s+(?!\S)",
            r"(?:a|b)+c{2,5}?",
            r"(a+)+$", // without a look-around it goes to an engine that is linear
        ] {
            assert!(oniguruma::translate(pattern).is_ok(), "{pattern}");
        }
    }

    #[test]
    fn parts_that_make_much_of_little_are_refused() {
        let replace = |content: &str| json!({"type": "Replace", "pattern": {"Regex": "."}, "content": content});
        let sequence = |n: usize, part: Value| json!({"type": "Sequence", "normalizers": vec![part; n]});
        let judge = |part: Value| translated(&Map::from_iter([("normalizer".to_owned(), part)]));
        assert!(judge(sequence(4, replace("\u{2581}"))).is_ok());
        assert!(judge(sequence(5, replace("\u{2581}"))).unwrap_err().contains("replacements"));
        assert!(judge(sequence(16, json!({"type": "NFC"}))).unwrap_err().contains("parts"));
        assert!(judge(replace("12345")).unwrap_err().contains("content"));
        assert!(judge(json!({"type": "Prepend", "prepend": "x".repeat(17)})).unwrap_err().contains("prepend"));
        let deep = (0..100).fold(json!({"type": "NFC"}), |part, _| sequence(1, part));
        assert!(judge(deep).unwrap_err().contains("parts"));
    }
}
