//! The parts of a `tokenizer.json` around its vocabulary: only kinds that are understood, and none that makes much of
//! little: no text grows by more than a small factor, and no expression takes more than polynomial time.

use crate::input::quoted;
use regex_syntax::ast::{self, AssertionKind, Ast, RepetitionKind};
use serde_json::{Map, Value};

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
/// The one look-ahead that is understood, as published vocabularies have it.
const LAST_SPACES: &str = r"\s+(?!\S)";

/// Checks normalizer, pre-tokenizer and decoder.
pub fn check(root: &Map<String, Value>) -> Result<(), String> {
    for (key, kinds) in [("normalizer", NORMALIZERS), ("pre_tokenizer", PRE_TOKENIZERS), ("decoder", DECODERS)] {
        let mut tree = Tree { key, kinds, parts: 0, replaced: 0 };
        tree.check(root.get(key).unwrap_or(&Value::Null))?;
    }
    Ok(())
}

/// A part and those inside it.
struct Tree {
    key: &'static str,
    kinds: &'static [&'static str],
    parts: usize,
    replaced: usize,
}

impl Tree {
    fn check(&mut self, part: &Value) -> Result<(), String> {
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
        let pattern = part.get("pattern");
        let [regex, literal] = ["Regex", "String"].map(|name| pattern.and_then(|pattern| pattern.get(name)));
        if [regex, literal].into_iter().flatten().any(|text| text.as_str().is_none_or(|t| t.len() > LONGEST_PATTERN)) {
            return Err(format!("{key}: an expression must be a text of up to {LONGEST_PATTERN} bytes"));
        }
        if let Some(regex) = regex.and_then(Value::as_str).filter(|regex| !is_bounded(regex)) {
            return Err(format!(
                "{key}: the expression {} is not supported; of what needs backtracking only {LAST_SPACES} is, as an \
                 alternative of its own",
                quoted(regex)
            ));
        }
        for inner in ["normalizers", "pretokenizers", "decoders"] {
            for part in part.get(inner).and_then(Value::as_array).into_iter().flatten() {
                self.check(part)?;
            }
        }
        Ok(())
    }
}

/// Whether an expression runs without backtracking, but for an alternative [`LAST_SPACES`], which goes back over spaces
/// once.
fn is_bounded(pattern: &str) -> bool {
    match pattern.split_once(LAST_SPACES) {
        None => is_linear(pattern),
        // Each side is whole by itself, so that the alternative is inside of nothing.
        Some((before, after)) => {
            (before.is_empty() || before.strip_suffix('|').is_some_and(is_linear))
                && (after.is_empty() || after.strip_prefix('|').is_some_and(is_linear))
        }
    }
}

/// Whether an expression is one of the automaton's language, with the same meaning in the backtracking one's.
fn is_linear(pattern: &str) -> bool {
    ast::parse::Parser::new().parse(pattern).is_ok_and(|parsed| ast::visit(&parsed, Linear).is_ok())
}

/// Finds what parses as an automaton's but is the backtracking engine's.
struct Linear;

impl ast::Visitor for Linear {
    type Output = ();
    type Err = ();

    fn finish(self) -> Result<(), ()> {
        Ok(())
    }

    fn visit_pre(&mut self, part: &Ast) -> Result<(), ()> {
        match part {
            Ast::Assertion(place) => match place.kind {
                AssertionKind::StartLine | AssertionKind::EndLine => Ok(()),
                AssertionKind::StartText | AssertionKind::EndText => Ok(()),
                _ => Err(()), // boundaries of words are looked for by backtracking
            },
            // `a++` holds on to what it has taken there, and repeats twice here.
            Ast::Repetition(outer) => match &*outer.ast {
                Ast::Repetition(_) if outer.op.kind == RepetitionKind::OneOrMore => Err(()),
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn expressions_of_published_vocabularies_are_bounded_and_traps_are_not() {
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
            assert!(is_bounded(pattern), "{pattern}");
        }
        for pattern in [
            "(",
            r"(?=a)b",
            r"(a)\1",
            r"a++",
            r"(?>a)b",
            r"(?:\s+(?!\S)|\s)*x",
            r"(a*)*\s+(?!\S)",
            r"x\s+(?!\S)|y",
            r"a|\s+(?!\S)b",
            r"\bx",
            r"(?<=a)b",
            r"\s+(?!\S)|\s+(?!\S)|x(?!y)",
            r"a?+",
            r"a{2}+",
        ] {
            assert!(!is_bounded(pattern), "{pattern}");
        }
    }

    #[test]
    fn parts_that_make_much_of_little_are_refused() {
        let replace = |content: &str| json!({"type": "Replace", "pattern": {"Regex": "."}, "content": content});
        let sequence = |n: usize, part: Value| json!({"type": "Sequence", "normalizers": vec![part; n]});
        let judge = |part: Value| check(&Map::from_iter([("normalizer".to_owned(), part)]));
        assert!(judge(sequence(4, replace("\u{2581}"))).is_ok());
        assert!(judge(sequence(5, replace("\u{2581}"))).unwrap_err().contains("replacements"));
        assert!(judge(sequence(16, json!({"type": "NFC"}))).unwrap_err().contains("parts"));
        assert!(judge(replace("12345")).unwrap_err().contains("content"));
        assert!(judge(json!({"type": "Prepend", "prepend": "x".repeat(17)})).unwrap_err().contains("prepend"));
        let deep = (0..100).fold(json!({"type": "NFC"}), |part, _| sequence(1, part));
        assert!(judge(deep).unwrap_err().contains("parts"));
    }
}
