//! Files that others wrote, read as hostile: opened only where they are regular files, read up to a limit, their JSON
//! parsed within bounds, and quoted in messages escaped and cut short.

use crate::error::{Error, Result};
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use std::cell::Cell;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Values of one JSON file, those inside of others included: more than the largest published tokenizer has.
const MOST_VALUES: usize = 1 << 21;
/// Bytes of a string or key in JSON: more than any chat template has.
const LONGEST_TEXT: usize = 1 << 20;
/// Stands before the text of files of some systems, and is no part of it.
pub const BYTE_ORDER_MARK: char = '\u{feff}';
/// Characters of a name that a message shows.
const SHOWN: usize = 40;

/// What a file holds that Git LFS left in place of a large one begins with.
const POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";
/// What is wrong with such a file.
pub const IS_POINTER: &str =
    "is a pointer of Git LFS, not the file itself; fetch that by `git lfs pull` in the folder that was cloned";

/// Whether a file that begins with `bytes` is what Git LFS leaves in place of a large one.
pub fn is_pointer(bytes: &[u8]) -> bool {
    bytes.starts_with(POINTER)
}

/// Opens a regular file. Pipes and devices, which a reader might wait for or never see the end of, are not opened.
pub fn open(path: &Path) -> Result<File> {
    let io = |e| Error::io(path, e);
    let regular = |known: std::fs::Metadata| match known.is_file() {
        true => Ok(()),
        false => Err(Error::file(path, "is not a regular file")),
    };
    regular(std::fs::metadata(path).map_err(io)?)?;
    let file = File::open(path).map_err(io)?;
    regular(file.metadata().map_err(io)?)?; // it may have been replaced in between
    Ok(file)
}

/// Reads a regular file of at most `limit` bytes.
pub fn read(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let file = open(path)?;
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(|e| Error::io(path, e))?;
    if bytes.len() as u64 > limit {
        return Err(Error::file(path, format!("is larger than {limit} bytes, more than such a file can need")));
    }
    if is_pointer(&bytes) {
        return Err(Error::file(path, IS_POINTER));
    }
    Ok(bytes)
}

/// Reads a text of at most `limit` bytes.
pub fn read_text(path: &Path, limit: u64) -> Result<String> {
    let not_text = |e: std::string::FromUtf8Error| {
        let at = e.utf8_error().valid_up_to();
        let line = 1 + e.as_bytes()[..at].iter().filter(|b| **b == b'\n').count();
        Error::file(path, format!("line {line}: not UTF-8: byte {at} is 0x{:02x}", e.as_bytes()[at]))
    };
    String::from_utf8(read(path, limit)?).map_err(not_text)
}

/// Reads a JSON file of at most `limit` bytes whose top is an object.
pub fn read_json_object(path: &Path, limit: u64) -> Result<Map<String, Value>> {
    json_object(&read(path, limit)?).map_err(|reason| Error::file(path, reason))
}

/// Parses JSON whose top is an object, as [`json`] does.
pub fn json_object(bytes: &[u8]) -> std::result::Result<Map<String, Value>, String> {
    match json(bytes)? {
        Value::Object(map) => Ok(map),
        _ => Err("holds JSON, but not an object { .. } at its top".to_owned()),
    }
}

/// Parses JSON: at most two million values, 127 deep, texts of at most 1 MiB, and no key of an object twice, since
/// readers differ in which of both they take. The reason of a refusal is one line, safe to print.
pub fn json(bytes: &[u8]) -> std::result::Result<Value, String> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let left = Cell::new(MOST_VALUES);
    let bounded = Bounded { values: &left, text: LONGEST_TEXT };
    let parsed = bounded.deserialize(&mut reader).and_then(|value| reader.end().map(|()| value));
    parsed.map_err(|e| format!("is not valid JSON: {}", one_line(&e)))
}

/// What an error of a parser says, escaped and cut short: it may repeat text of the file.
pub fn one_line(e: &dyn fmt::Display) -> String {
    const LONGEST: usize = 300;
    let text = e.to_string();
    let short: String = text.chars().take(LONGEST).collect();
    let more = if short.len() < text.len() { "…" } else { "" };
    format!("{}{more}", short.escape_debug()).replace("\\\"", "\"").replace("\\'", "'")
}

/// The beginning of a name in a file in quotes, all of it printable.
pub fn quoted(name: &str) -> String {
    let mut short: String = name.chars().take(SHOWN).collect();
    if short.len() < name.len() {
        short.push('…');
    }
    format!("{short:?}")
}

/// Reads one JSON value of a bounded number of values and length of texts.
#[derive(Clone, Copy)]
pub struct Bounded<'c> {
    /// Values that may still come.
    pub values: &'c Cell<usize>,
    /// Bytes of the longest text.
    pub text: usize,
}

impl<'de> DeserializeSeed<'de> for Bounded<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<Value, D::Error> {
        match self.values.get().checked_sub(1) {
            Some(left) => self.values.set(left),
            None => return Err(D::Error::custom("more values than such a file can need")),
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Bounded<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, x: bool) -> std::result::Result<Value, E> {
        Ok(x.into())
    }

    fn visit_i64<E>(self, x: i64) -> std::result::Result<Value, E> {
        Ok(x.into())
    }

    fn visit_u64<E>(self, x: u64) -> std::result::Result<Value, E> {
        Ok(x.into())
    }

    fn visit_f64<E>(self, x: f64) -> std::result::Result<Value, E> {
        Ok(x.into())
    }

    fn visit_unit<E>(self) -> std::result::Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> std::result::Result<Value, E> {
        Text(self.text).visit_str(text).map(Value::String)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> std::result::Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = list.next_element_seed(self)? {
            values.push(value);
        }
        values.shrink_to_fit(); // a tokenizer has half a million lists of two
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Value, A::Error> {
        let mut values = Map::new();
        while let Some(key) = map.next_key_seed(Text(self.text))? {
            let value = map.next_value_seed(self)?;
            if values.contains_key(&key) {
                return Err(A::Error::custom(format!("the key {} stands there twice", quoted(&key))));
            }
            values.insert(key, value);
        }
        Ok(Value::Object(values))
    }
}

/// Reads a string of at most this many bytes; longer ones are not copied.
#[derive(Clone, Copy)]
pub struct Text(pub usize);

impl<'de> DeserializeSeed<'de> for Text {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<String, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Text {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a string of at most {} bytes", self.0)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> std::result::Result<String, E> {
        match text.len() <= self.0 {
            true => Ok(text.to_owned()),
            false => Err(E::custom(format!("a string of {} bytes; at most {} are allowed", text.len(), self.0))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json as value;

    #[test]
    fn json_that_is_too_large_too_deep_or_no_object_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            read_json_object(&path, 1000).map_err(|e| (e.exit_code(), e.to_string()))
        };
        assert_eq!(read("{\"a\": 1}").unwrap().len(), 1);
        for (text, word) in [
            ("[1]", "object"),
            ("{", "JSON"),
            (&"[".repeat(900), "JSON"),
            (&" ".repeat(1001), "larger"),
            (r#"{"a": {"b": 1, "b": 2}}"#, "\"b\" stands there twice"),
            (r#"{"a": 1e999}"#, "number out of range"),
        ] {
            let (code, message) = read(text).unwrap_err();
            assert!(code == 2 && message.contains(word), "{message}");
        }
        assert!(read_json_object(dir.path(), 1000).is_err());
    }

    #[test]
    fn a_value_is_what_it_was_and_its_bounds_are_kept() {
        let text = r#"{"a": [1, -2, 2.5, null, true, "\u00e9"], "b": {"c": 18446744073709551615}}"#;
        assert_eq!(json(text.as_bytes()).unwrap(), value!({"a": [1, -2, 2.5, null, true, "é"], "b": {"c": u64::MAX}}));
        let many = format!("[{}0]", "0,".repeat(MOST_VALUES));
        assert!(json(many.as_bytes()).unwrap_err().contains("more values"));
        for text in [format!("[\"{}\"]", "x".repeat(LONGEST_TEXT + 1)), format!("{{\"{}\": 1}}", "x".repeat(2 << 20))] {
            let reason = json(text.as_bytes()).unwrap_err();
            assert!(reason.contains("bytes; at most") && reason.len() < 500, "{reason}");
        }
        assert!(json(b"{} x").is_err() && json(b"\"\xff\"").is_err());
    }

    #[test]
    fn messages_are_short_and_printable() {
        let wild = "\u{1b}[2J\n\"'".repeat(1000);
        for shown in [one_line(&wild), quoted(&wild)] {
            assert!(shown.len() < 2500 && !shown.contains(char::is_control), "{shown}");
        }
        assert_eq!(one_line(&"a \"b\" 'c'"), "a \"b\" 'c'");
    }

    #[cfg(unix)]
    #[test]
    fn a_pipe_or_a_device_is_not_opened() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let zeros = dir.path().join("zeros");
        std::os::unix::fs::symlink("/dev/zero", &zeros).unwrap();
        for path in [pipe, zeros] {
            let error = read(&path, 10).unwrap_err();
            assert!(error.exit_code() == 2 && error.to_string().contains("regular"), "{error}");
        }
    }

    #[test]
    fn text_that_is_not_utf_8_is_refused_by_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        std::fs::write(&path, b"a\n\xe9").unwrap();
        assert!(read_text(&path, 10).unwrap_err().to_string().contains("line 2: not UTF-8: byte 2 is 0xe9"));
        assert!(read_text(&path, 2).unwrap_err().to_string().contains("larger than 2 bytes"));
    }
}
