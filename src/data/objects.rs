//! Objects of a JSON file that lines do not tell apart: the elements of one list, or one after the other.

use std::ops::Range;

/// Finds where objects begin and end, in text that comes in parts.
#[derive(Default)]
pub struct Objects {
    /// Bytes of the text that were looked at.
    at: usize,
    /// Where the object that is being read begins.
    begun: Option<usize>,
    /// Brackets that are open in it.
    depth: usize,
    /// Whether a string in it is open, and whether its next character is escaped.
    string: bool,
    escaped: bool,
    /// How the whole is written.
    form: Form,
    /// Whether the next thing in a list is to be a comma, or its end.
    comma: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Form {
    /// Not known yet.
    #[default]
    Open,
    /// One after the other.
    Row,
    /// Elements of a list.
    List,
    /// A list that has ended.
    Ended,
}

impl Objects {
    /// Where in `text` the next object is; none if more text is needed, or, where it `ended`, there is no other.
    ///
    /// # Errors
    /// What else stands there, in words that follow the file's name.
    pub fn next(&mut self, text: &[u8], ended: bool) -> Result<Option<Range<usize>>, String> {
        while let Some(&byte) = text.get(self.at) {
            self.at += 1;
            let Some(start) = self.begun else {
                self.between(byte)?;
                continue;
            };
            if self.ends(byte) {
                (self.begun, self.comma) = (None, true);
                return Ok(Some(start..self.at));
            }
        }
        match (ended, self.begun, self.form) {
            (true, Some(_), _) => Err("ends in the middle of a record; copy it again".to_owned()),
            (true, None, Form::List) => Err("ends without the ] of its list; copy it again".to_owned()),
            _ => Ok(None),
        }
    }

    /// Whether no object has begun that has not ended.
    pub fn is_between(&self) -> bool {
        self.begun.is_none()
    }

    /// Takes note that the first `n` bytes of the text are gone.
    pub fn dropped(&mut self, n: usize) {
        self.at -= n;
        self.begun = self.begun.map(|start| start - n);
    }

    /// Takes in a byte of an object; whether it ends there.
    fn ends(&mut self, byte: u8) -> bool {
        if self.string {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.string = false,
                _ => {}
            }
            return false;
        }
        match byte {
            b'"' => self.string = true,
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
        self.depth == 0
    }

    /// Takes in a byte between objects.
    fn between(&mut self, byte: u8) -> Result<(), String> {
        match (byte, self.form) {
            (b' ' | b'\t' | b'\r' | b'\n', _) => {}
            (b'[', Form::Open) => self.form = Form::List,
            (b']', Form::List) => self.form = Form::Ended,
            (b',', Form::List) if self.comma => self.comma = false,
            (b'{', Form::Open | Form::Row) => self.begin(Form::Row),
            (b'{', Form::List) if !self.comma => self.begin(Form::List),
            (other, _) => {
                let shown = char::from(other).escape_default();
                return Err(format!("holds no JSON objects alone: between them stands {shown}"));
            }
        }
        Ok(())
    }

    fn begin(&mut self, form: Form) {
        (self.begun, self.depth, self.form) = (Some(self.at - 1), 1, form);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The objects of `text` where it comes in parts of `size` bytes.
    fn read(text: &str, size: usize) -> Result<Vec<String>, String> {
        let (mut objects, mut found, mut rest) = (Objects::default(), Vec::new(), Vec::new());
        let parts: Vec<&[u8]> = text.as_bytes().chunks(size).collect();
        for (i, part) in parts.iter().enumerate() {
            rest.extend_from_slice(part);
            let mut start = 0;
            while let Some(range) = objects.next(&rest, i + 1 == parts.len())? {
                start = range.end;
                found.push(String::from_utf8(rest[range].to_vec()).unwrap());
            }
            if objects.is_between() {
                start = rest.len();
            }
            objects.dropped(start);
            rest.drain(..start);
        }
        Ok(found)
    }

    #[test]
    fn objects_of_a_list_and_in_a_row_are_found_however_the_text_is_cut() {
        let a = r#"{"a": "}]{\\\"", "b": [{"c": []}]}"#;
        for text in [format!("[{a}, {{}}\n,{a}]\n"), format!(" {a}{{}}\n\n{a}"), format!("[\r\n  {a},\n {{}},{a}]")] {
            for size in 1..=text.len() {
                assert_eq!(read(&text, size).unwrap(), [a, "{}", a], "{text} in {size}");
            }
        }
        assert_eq!(read("[]", 1).unwrap(), [""; 0]);
    }

    #[test]
    fn what_is_not_objects_alone_is_refused() {
        for (text, words) in [
            ("[{}", "without the ]"),
            ("[{\"a\": 1", "in the middle of a record"),
            ("[1]", "between them stands 1"),
            ("{},{}", "between them stands ,"),
            ("[{}{}]", "between them stands {"),
            ("[{}]{}", "between them stands {"),
            ("[{},,{}]", "between them stands ,"),
            ("\u{1b}", "between them stands \\u{1b}"),
        ] {
            let error = read(text, 3).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
