//! The filter `tojson` as transformers sets it: Python's `json.dumps`, and Python's way to write numbers.

use minijinja::value::{Kwargs, Rest, Value, ValueKind, ValueOrKwargs, from_args};
use minijinja::{Error, ErrorKind, State};
use std::fmt::Write;

/// How `json.dumps` writes.
struct Style {
    ascii: bool,
    /// What a level is indented by, where every item has a line.
    indent: Option<String>,
    between: String,
    colon: String,
    sorted: bool,
}

/// `json.dumps(value, ensure_ascii, indent, separators, sort_keys)`.
pub fn tojson(state: &State, value: &Value, arguments: Rest<ValueOrKwargs>) -> Result<String, Error> {
    let arguments = arguments.into_values();
    type Given = Option<Value>;
    let (placed, named) = given(&arguments)?;
    let (ascii, indent, separators, sorted): (Given, Given, Given, Given) = from_args(placed)?;
    let pick = |place: Option<Value>, name: &str| -> Result<Option<Value>, Error> {
        let given = place.map_or_else(|| named.get::<Option<Value>>(name), |value| Ok(Some(value)))?;
        Ok(given.filter(|value| !value.is_none() && !value.is_undefined()))
    };
    let is = |value: Option<Value>| value.is_some_and(|value| value.is_true());
    let (ascii, sorted) = (is(pick(ascii, "ensure_ascii")?), is(pick(sorted, "sort_keys")?));
    let indent = match pick(indent, "indent")? {
        None => None,
        Some(indent) => Some(match indent.as_str() {
            Some(text) => text.to_owned(),
            None => {
                let wide = || Error::new(ErrorKind::InvalidOperation, "indent is no number up to 64");
                " ".repeat(indent.as_i64().filter(|n| *n <= 64).ok_or_else(wide)?.max(0) as usize)
            }
        }),
    };
    let (between, colon) = match pick(separators, "separators")? {
        Some(pair) => {
            let part = |i| pair.get_item_by_index(i).map(|text| text.to_string());
            (part(0)?, part(1)?)
        }
        None => (if indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned()),
    };
    named.assert_all_used()?;
    let mut out = String::new();
    Style { ascii, indent, between, colon, sorted }.write(state, value, 0, &mut out)?;
    Ok(out)
}

/// Arguments by their places and those by name.
pub fn given(arguments: &[Value]) -> Result<(&[Value], Kwargs), Error> {
    match arguments.split_last() {
        Some((named, placed)) if named.is_kwargs() => Ok((placed, Kwargs::try_from(named.clone())?)),
        _ => Ok((arguments, Kwargs::from_iter(std::iter::empty::<(&str, Value)>()))),
    }
}

impl Style {
    fn write(&self, state: &State, value: &Value, depth: usize, out: &mut String) -> Result<(), Error> {
        let before = out.len();
        match value.kind() {
            ValueKind::None => out.push_str("null"),
            ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => out.push_str(&number(value)),
            ValueKind::String => self.string(value.as_str().unwrap_or_default(), out),
            ValueKind::Seq | ValueKind::Iterable => {
                let items = value.try_iter()?.map(|item| (None, item));
                self.items(state, items.collect(), ['[', ']'], depth, out)?;
            }
            ValueKind::Map => {
                let mut pairs = Vec::new();
                for key in value.try_iter()? {
                    pairs.push((Some(self.key(&key)?), value.get_item(&key)?));
                }
                if self.sorted {
                    pairs.sort_by(|a, b| a.0.cmp(&b.0));
                }
                self.items(state, pairs, ['{', '}'], depth, out)?;
            }
            kind => {
                let reason = format!("an {kind} value has no form in JSON");
                return Err(Error::new(ErrorKind::BadSerialization, reason));
            }
        }
        state.consume_fuel((out.len() - before) as u64 / 64)
    }

    fn items(
        &self,
        state: &State,
        items: Vec<(Option<String>, Value)>,
        [open, close]: [char; 2],
        depth: usize,
        out: &mut String,
    ) -> Result<(), Error> {
        out.push(open);
        let last = items.len();
        let line = |depth: usize, out: &mut String| {
            if let Some(indent) = self.indent.as_ref().filter(|_| last > 0) {
                out.push('\n');
                (0..depth).for_each(|_| out.push_str(indent));
            }
        };
        for (i, (key, item)) in items.into_iter().enumerate() {
            if i > 0 {
                out.push_str(&self.between);
            }
            line(depth + 1, out);
            if let Some(key) = key {
                self.string(&key, out);
                out.push_str(&self.colon);
            }
            self.write(state, &item, depth + 1, out)?;
        }
        line(depth, out);
        out.push(close);
        Ok(())
    }

    fn key(&self, key: &Value) -> Result<String, Error> {
        match key.kind() {
            ValueKind::String => Ok(key.as_str().unwrap_or_default().to_owned()),
            ValueKind::Number => Ok(number(key)),
            ValueKind::Bool => Ok(if key.is_true() { "true" } else { "false" }.to_owned()),
            ValueKind::None => Ok("null".to_owned()),
            kind => Err(Error::new(ErrorKind::BadSerialization, format!("a {kind} is no key in JSON"))),
        }
    }

    fn string(&self, text: &str, out: &mut String) {
        out.push('"');
        for c in text.chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\u{8}' => out.push_str("\\b"),
                '\u{c}' => out.push_str("\\f"),
                c if c < ' ' || (self.ascii && !c.is_ascii()) => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        let _ = write!(out, "\\u{unit:04x}"); // a String takes everything
                    }
                }
                c => out.push(c),
            }
        }
        out.push('"');
    }
}

/// A number as Python writes it.
pub fn number(value: &Value) -> String {
    if value.is_integer() {
        return value.to_string();
    }
    f64::try_from(value.clone()).map_or_else(|_| value.to_string(), float)
}

/// The shortest decimal number that is read back as `x`, as Python's `repr` writes it.
fn float(x: f64) -> String {
    if !x.is_finite() {
        let sign = if x < 0.0 { "-" } else { "" };
        return if x.is_nan() { "nan".to_owned() } else { format!("{sign}inf") };
    }
    let scientific = format!("{x:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let power: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&power) {
        return format!("{x:?}");
    }
    format!("{digits}e{}{:02}", if power < 0 { '-' } else { '+' }, power.abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_python_writes_them() {
        for (x, written) in [
            (1.0, "1.0"),
            (-0.0, "-0.0"),
            (0.1, "0.1"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.5e300, "1.5e+300"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (f64::INFINITY, "inf"),
        ] {
            assert_eq!(float(x), written);
        }
    }
}
