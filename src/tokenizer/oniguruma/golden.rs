//! Expressions beside Oniguruma.

use super::translate;
use serde_json::Value;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer, SplitDelimiterBehavior};

/// What `tests/golden/make_splits.py` saw.
fn golden() -> Value {
    serde_json::from_str(include_str!("../../../tests/golden/splits.json")).unwrap()
}

fn translated(pattern: &str) -> String {
    translate(pattern).unwrap_or_else(|e| panic!("{pattern}: {e}"))
}

/// The lengths, in characters, of what `text` is cut into.
fn split(pattern: &str, text: &str) -> Vec<usize> {
    let split = Split::new(SplitPattern::Regex(pattern.into()), SplitDelimiterBehavior::Isolated, false).unwrap();
    let mut whole = PreTokenizedString::from(text);
    split.pre_tokenize(&mut whole).unwrap();
    let parts = whole.get_splits(OffsetReferential::Original, OffsetType::Byte);
    parts.into_iter().map(|(part, _, _)| part.chars().count()).collect()
}

#[test]
fn texts_are_cut_as_by_the_library_that_transformers_uses() {
    let golden = golden();
    let texts: Vec<&str> = golden["texts"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect();
    let mut wrong = Vec::new();
    for (pattern, splits) in golden["splits"].as_object().unwrap() {
        let here = translated(pattern);
        for (text, expected) in texts.iter().zip(splits.as_array().unwrap()) {
            let found = split(&here, text);
            if Value::from(found.clone()) != *expected {
                wrong.push(format!("{pattern} as {here} on {text:?}: {found:?}, not {expected}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} differ\n{}", wrong.len(), wrong[..wrong.len().min(20)].join("\n"));
}

#[test]
fn classes_hold_the_characters_that_they_hold_there() {
    for (pattern, expected) in golden()["classes"].as_object().unwrap() {
        let class = regex::Regex::new(&format!("^{}$", translated(pattern))).unwrap();
        let mut text = [0; 4];
        let held = ('\0'..=char::MAX).filter(|c| class.is_match(c.encode_utf8(&mut text)));
        let (count, sum) = held.fold((0, 0), |(count, sum), c| (count + 1, sum + u64::from(u32::from(c))));
        assert_eq!((count, sum), (expected[0].as_u64().unwrap(), expected[1].as_u64().unwrap()), "{pattern}");
    }
}

#[test]
fn what_cannot_be_said_here_is_refused_by_name() {
    for (pattern, word) in [
        ("(", "unclosed"),
        (r"(?=a)b", "backtracking"),
        (r"(a)\1", "backtracking"),
        (r"\bx", r"\b"),
        (r"(?<=a)b", "backtracking"),
        (r"a\<", r"\<"),
        (r"(?>a)b", "kind of group"),
        (r"(?:\s+(?!\S)|\s)*x", "of its own"),
        (r"(a*)*\s+(?!\S)", "of its own"),
        (r"x\s+(?!\S)|y", "of its own"),
        (r"a|\s+(?!\S)b", "of its own"),
        (r"\s+(?!\S)|\s+(?!\S)|x(?!y)", "backtracking"),
        (r"(?i)a|\s+(?!\S)", "(?i)"),
        (r"a++a", "a++ holds"),
        (r"(?:a++)b", "a++ holds"),
        (r"(?:ab)++c", "(?:ab)++ holds"),
        (r"\s++\n", "holds"),
        (r"a++^b", "holds"),
        (r"a{2}?", "take none"),
        (r"a??*", "twice"),
        (r"a{,2}b", "decimal"),
        (r"(?s)a", "\"s\""),
        (r"(?x) a", "\"x\""),
        (r"(?U)a", "\"U\""),
        (r"a(?i)b|c", "middle"),
        (r"(?P<n>a)", "(?P<"),
        (r"\pL", r"\pL"),
        (r"\p{sc=Greek}", "NAME"),
        (r"\xe9", r"\xe9"),
        (r"\U000000e9", r"\U"),
        (r"[a~~b]", "~~"),
        (r"(?i:ss)", "case"),
        (r"(?i:ß)", "case"),
        (r"(?i:[ß])", "case"),
        (r"(?i:\p{Lu})", "case"),
    ] {
        let error = translate(pattern).err().unwrap_or_default();
        assert!(error.contains(word), "{pattern}: {error:?}");
    }
}
