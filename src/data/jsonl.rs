//! The text of a JSON line.

use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor};
use std::fmt;

/// Keys of a line that an error names.
const NAMED: usize = 8;

/// The text that the object in `line` has under `field`; what is wrong with it otherwise.
pub fn text(line: &[u8], field: &str) -> Result<String, String> {
    if let Err(e) = std::str::from_utf8(line) {
        let at = e.valid_up_to();
        return Err(format!("is not UTF-8: its byte {at} is 0x{:02x}", line[at]));
    }
    let mut reader = serde_json::Deserializer::from_slice(line);
    let found = Field(field).deserialize(&mut reader).and_then(|found| reader.end().map(|()| found));
    match found {
        Ok(Ok(text)) => Ok(text),
        Ok(Err(keys)) => {
            let others = if keys.is_empty() { "none".to_owned() } else { keys.join(", ") };
            Err(format!("has no {field:?}; its keys are {others}; set data.text_field to that of the text"))
        }
        Err(e) if e.is_data() => Err(format!("is no object with a text under {field:?}: {}", reason(&e))),
        Err(e) => Err(format!("is not JSON: {}", reason(&e))),
    }
}

/// The words of an error with the column, without the line, which is always 1 here.
fn reason(error: &serde_json::Error) -> String {
    error.to_string().replace(" at line 1 column", " at column")
}

/// Reads the text under this key, or the names of the first other keys.
struct Field<'f>(&'f str);

impl<'de> DeserializeSeed<'de> for Field<'_> {
    type Value = Result<String, Vec<String>>;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Field<'_> {
    type Value = Result<String, Vec<String>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut text, mut others) = (None, Vec::new());
        while let Some(key) = map.next_key::<String>()? {
            if key == self.0 {
                text = Some(map.next_value::<String>()?);
                continue;
            }
            map.next_value::<IgnoredAny>()?;
            if others.len() < NAMED {
                others.push(format!("{key:.40?}"));
            }
        }
        Ok(text.ok_or(others))
    }
}

#[cfg(test)]
mod tests {
    use super::text;

    #[test]
    fn a_line_gives_its_text_or_says_why_not() {
        let line = r#"{"id": [1, {"text": "no"}], "text": "a\n\u00e9", "meta": null}"#.as_bytes();
        assert_eq!(text(line, "text").unwrap(), "a\n\u{e9}");
        for (line, words) in [
            (r#"{"body": "x", "id": 3}"#, "has no \"text\"; its keys are \"body\", \"id\"; set data.text_field"),
            ("{}", "its keys are none"),
            (r#"{"text": 3}"#, "a text under \"text\""),
            ("[1]", "is no object"),
            ("{\"text\": \"a", "is not JSON"),
            ("{\"text\": \"a\"} x", "is not JSON"),
        ] {
            let error = text(line.as_bytes(), "text").unwrap_err();
            assert!(error.contains(words), "{line}: {error}");
        }
        assert!(text(b"{\"text\": \"\xff\"}", "text").unwrap_err().contains("its byte 10 is 0xff"));
        let deep = format!("{{\"text\": {}", "[".repeat(100_000));
        assert!(text(deep.as_bytes(), "text").is_err());
    }
}
