//! JSON lines: the values that one object has under some of its keys.
//!
//! A value is a piece of the line until somebody asks for what is in it, so that the values of other keys, however long
//! or deeply nested, cost one pass over their bytes. What is wrong is one sentence without the text of any value, which
//! may be of megabytes.

use crate::input::quoted;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// Other keys of an object that an error names.
const NAMED: usize = 8;
/// Values of a list: more than any conversation has messages.
const MOST_LISTED: usize = 1 << 16;

/// A value under its key, not looked into yet.
#[derive(Clone, Copy)]
pub struct Value<'a> {
    key: &'a str,
    raw: &'a RawValue,
}

impl<'a> Value<'a> {
    /// What it is, in words.
    fn kind(self) -> &'static str {
        match self.raw.get().as_bytes().first() {
            Some(b'"') => "a string",
            Some(b'[') => "a list",
            Some(b'{') => "an object",
            Some(b't' | b'f') => "true or false",
            Some(b'n') => "null",
            _ if STAND_INS.contains(&self.raw.get()) => "NaN or Infinity, which is no JSON,",
            _ => "a number",
        }
    }

    fn parsed<T: serde::Deserialize<'a>>(self) -> Result<T, String> {
        serde_json::from_str(self.raw.get()).map_err(|e| match lone_surrogate(self.raw.get()) {
            Some(half) => {
                let reason = format!("the escape {half} is half of a surrogate pair and no character; take it out");
                format!("has under {:?} what is not JSON: {reason}", self.key)
            }
            None => format!("has under {:?} what is not JSON: {}", self.key, words(&e)),
        })
    }

    /// That it is not `wanted`.
    pub fn is_no(self, wanted: &str) -> String {
        format!("has {} under {:?}, not {wanted}", self.kind(), self.key)
    }

    /// Its key.
    pub fn key(self) -> &'a str {
        self.key
    }

    /// Whether it is a string.
    pub fn is_string(self) -> bool {
        self.raw.get().starts_with('"')
    }

    /// Whether it is a list.
    pub fn is_list(self) -> bool {
        self.raw.get().starts_with('[')
    }

    /// Whether it is an object.
    pub fn is_object(self) -> bool {
        self.raw.get().starts_with('{')
    }

    /// Whether it is `null`.
    pub fn is_null(self) -> bool {
        self.raw.get() == "null"
    }

    /// Whether it says nothing: `null`, an empty string, list or object, or a string that holds one of the latter.
    pub fn is_empty(self) -> bool {
        let bare: String = self.raw.get().chars().filter(|c| !c.is_whitespace()).take(5).collect();
        matches!(bare.as_str(), "null" | "\"\"" | "[]" | "{}" | "\"[]\"" | "\"{}\"")
    }

    /// The truth value that it is, or that the number 0 or 1 stands for.
    pub fn flag(self) -> Result<bool, String> {
        match self.kind() {
            "true or false" => self.truth(),
            "a number" => match self.number()? {
                0.0 => Ok(false),
                1.0 => Ok(true),
                other => Err(format!("has {other} under {:?}, which must be 0 or 1", self.key)),
            },
            _ => Err(self.is_no("0 or 1")),
        }
    }

    /// The string that it is.
    pub fn string(self) -> Result<String, String> {
        if self.is_string() { self.parsed() } else { Err(self.is_no("a string")) }
    }

    /// The string that it is, or the number as it is written.
    pub fn plain(self) -> Result<String, String> {
        match self.kind() {
            "a string" => self.parsed(),
            "a number" => Ok(self.raw.get().to_owned()),
            _ => Err(self.is_no("a string or a number")),
        }
    }

    /// The truth value that it is.
    pub fn truth(self) -> Result<bool, String> {
        match self.raw.get() {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(self.is_no("true or false")),
        }
    }

    /// The number that it is, which is finite: JSON has no other.
    pub fn number(self) -> Result<f64, String> {
        if self.kind() == "a number" { self.parsed() } else { Err(self.is_no("a number")) }
    }

    /// The values of the list that it is.
    pub fn list(self) -> Result<Vec<Value<'a>>, String> {
        if !self.is_list() {
            return Err(self.is_no("a list"));
        }
        let List(raws) = self.parsed()?;
        if raws.len() > MOST_LISTED {
            return Err(format!("has more than {MOST_LISTED} values in the list under {:?}", self.key));
        }
        Ok(raws.into_iter().map(|raw| Value { key: self.key, raw }).collect())
    }

    /// What the object that it is has under `keys`.
    pub fn object(self, keys: &'a [&'a str]) -> Result<Object<'a>, String> {
        if !self.is_object() {
            return Err(format!("is {}, not an object", self.kind()));
        }
        read(self.raw.get(), keys).map_err(|e| refused(&e, ""))
    }
}

/// What an object has under the keys that were asked for.
pub struct Object<'a> {
    found: Vec<Value<'a>>,
    /// The first of its other keys, escaped.
    others: Vec<String>,
}

impl<'a> Object<'a> {
    /// The value under `key`.
    pub fn get(&self, key: &str) -> Option<Value<'a>> {
        self.found.iter().find(|value| value.key == key).copied()
    }

    /// Whether all of `keys` are there.
    pub fn has(&self, keys: &[&str]) -> bool {
        keys.iter().all(|key| self.get(key).is_some())
    }

    /// The first of its keys, in words.
    pub fn keys(&self) -> String {
        let known = self.found.iter().map(|value| format!("{:?}", value.key));
        let keys: Vec<String> = known.chain(self.others.iter().cloned()).take(NAMED).collect();
        if keys.is_empty() { "none".to_owned() } else { keys.join(", ") }
    }
}

/// The values that the object in `line` has under `keys`, each of which it may have once; what is wrong with the line
/// otherwise.
pub fn object<'a>(line: &'a [u8], keys: &'a [&'a str]) -> Result<Object<'a>, String> {
    let text = std::str::from_utf8(line).map_err(|e| {
        let at = e.valid_up_to();
        format!("is not UTF-8: its byte {at} is 0x{:02x}", line[at])
    })?;
    // The errors of another value would hold its text.
    match text.trim_start().as_bytes().first() {
        Some(b'{') => read(text, keys).map_err(|e| refused(&e, &format!(" at column {}", e.column()))),
        Some(b'[' | b'"') => Err("is no object; a line begins with { and ends with }".to_owned()),
        _ => Err("is not JSON: a line begins with { and ends with }".to_owned()),
    }
}

/// `line` with something that JSON knows in the place of each bare NaN and Infinity, which Python writes: they do no
/// harm under keys that nobody asks for, and are told where somebody does.
pub fn tolerated(line: &[u8]) -> Cow<'_, [u8]> {
    let names = [&b"-Infinity"[..], b"Infinity", b"NaN"];
    let mut cleaned = Cow::Borrowed(line);
    if !line.windows(3).any(|three| three == b"NaN" || three == b"Inf") {
        return cleaned;
    }
    let (mut at, mut quoted) = (0, false);
    while at < line.len() {
        match line[at] {
            b'"' => quoted = !quoted,
            b'\\' if quoted => at += 1,
            _ if quoted => {}
            _ => {
                if let Some(i) = names.iter().position(|name| line[at..].starts_with(name)) {
                    cleaned.to_mut()[at..at + names[i].len()].copy_from_slice(STAND_INS[i].as_bytes());
                    at += names[i].len() - 1;
                }
            }
        }
        at += 1;
    }
    cleaned
}

/// Numbers that stand for -Infinity, Infinity and NaN, as long as these and such as nobody writes.
const STAND_INS: [&str; 3] = ["-0E000000", "0E000000", "0E0"];

/// The first escape of half a surrogate pair in a JSON string.
fn lone_surrogate(raw: &str) -> Option<&str> {
    let unit = |at: usize| u16::from_str_radix(raw.get(at..at + 6)?.strip_prefix("\\u")?, 16).ok();
    let mut at = 0;
    while let Some(found) = raw[at..].find('\\') {
        at += found;
        match unit(at) {
            Some(0xd800..=0xdbff) if matches!(unit(at + 6), Some(0xdc00..=0xdfff)) => at += 12,
            Some(0xd800..=0xdfff) => return raw.get(at..at + 6),
            _ => at += 1 + raw[at + 1..].chars().next().map_or(0, char::len_utf8),
        }
    }
    None
}

/// The text that the object in `line` has under `field`; what is wrong with it otherwise.
pub fn text(line: &[u8], field: &str) -> Result<String, String> {
    let keys = [field];
    let line = tolerated(line);
    let object = object(&line, &keys)?;
    let Some(value) = object.get(field) else {
        return Err(format!(
            "has no {field:?}; its keys are {}; set data.text_field to that of the text",
            object.keys()
        ));
    };
    value.string()
}

fn read<'a>(text: &'a str, keys: &'a [&'a str]) -> serde_json::Result<Object<'a>> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let object = Keys(keys).deserialize(&mut reader)?;
    reader.end().map(|()| object)
}

/// What is wrong with an object, and where.
fn refused(error: &serde_json::Error, place: &str) -> String {
    let what = if error.is_data() { "has" } else { "is not JSON:" };
    format!("{what} {}{place}", words(error))
}

/// The words of an error without the place.
fn words(error: &serde_json::Error) -> String {
    error.to_string().split(" at line ").next().unwrap_or_default().to_owned()
}

/// Reads what is under these keys, and the names of the first others.
struct Keys<'a>(&'a [&'a str]);

impl<'a> DeserializeSeed<'a> for Keys<'a> {
    type Value = Object<'a>;

    fn deserialize<D: serde::Deserializer<'a>>(self, deserializer: D) -> Result<Object<'a>, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'a> Visitor<'a> for Keys<'a> {
    type Value = Object<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<Object<'a>, A::Error> {
        let mut object = Object { found: Vec::new(), others: Vec::new() };
        while let Some(Key(name)) = map.next_key()? {
            let Some(key) = self.0.iter().find(|key| **key == name) else {
                map.next_value::<IgnoredAny>()?;
                if object.others.len() < NAMED {
                    object.others.push(quoted(&name));
                }
                continue;
            };
            if object.get(key).is_some() {
                return Err(serde::de::Error::custom(format!("the key {key:?} twice")));
            }
            object.found.push(Value { key, raw: map.next_value()? });
        }
        Ok(object)
    }
}

/// The values of a list, up to one more than [`MOST_LISTED`].
#[derive(Default)]
struct List<'a>(Vec<&'a RawValue>);

impl<'a> serde::Deserialize<'a> for List<'a> {
    fn deserialize<D: serde::Deserializer<'a>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(List::default())
    }
}

impl<'a> Visitor<'a> for List<'a> {
    type Value = List<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list")
    }

    fn visit_seq<A: SeqAccess<'a>>(mut self, mut list: A) -> Result<List<'a>, A::Error> {
        while self.0.len() <= MOST_LISTED
            && let Some(raw) = list.next_element()?
        {
            self.0.push(raw);
        }
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(self)
    }
}

/// A key, copied only where it holds escapes.
#[derive(serde::Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::text;

    #[test]
    fn a_line_gives_its_text_or_says_why_not() {
        let line = r#"{"id": [1, {"text": "no"}], "te\u0078t": "a\n\u00e9", "meta": null}"#.as_bytes();
        assert_eq!(text(line, "text").unwrap(), "a\n\u{e9}");
        for (line, words) in [
            (r#"{"body": "x", "id": 3}"#, "has no \"text\"; its keys are \"body\", \"id\"; set data.text_field"),
            ("{}", "its keys are none"),
            (r#"{"text": 3}"#, "has a number under \"text\", not a string"),
            (r#"{"text": "\ud800"}"#, "has under \"text\" what is not JSON: "),
            (r#"{"text": "a", "text": "b"}"#, "has the key \"text\" twice"),
            ("[1]", "is no object"),
            ("{\"text\": \"a", "is not JSON"),
            ("{\"text\": \"a\"} x", "is not JSON"),
            ("\0", "is not JSON"),
        ] {
            let error = text(line.as_bytes(), "text").unwrap_err();
            assert!(error.contains(words), "{line}: {error}");
        }
        assert!(text(b"{\"text\": \"\xff\"}", "text").unwrap_err().contains("its byte 10 is 0xff"));
        let deep = format!("{{\"text\": {}", "[".repeat(100_000));
        assert!(text(deep.as_bytes(), "text").is_err());
    }

    #[test]
    fn an_error_is_short_and_printable_whatever_the_line() {
        let (long, wild) = ("x".repeat(1 << 20), "\\u001b[2J".repeat(1000));
        for line in [
            format!("\"{long}\""),
            format!("{{\"{long}\": 1}}"),
            format!("{{\"text\": [\"{long}\"]}}"),
            format!("{{\"{wild}\": 1, \"b{wild}\": 1}}"),
            format!("{{\"text\": \"{long}\", \"text\": \"{long}\"}}"),
        ] {
            let error = text(line.as_bytes(), "text").unwrap_err();
            assert!(error.len() < 1000 && !error.contains(char::is_control), "{error:.1200}");
        }
    }
}
