//! Methods of Python's texts and lists, and filters and functions of Jinja2, that templates use and minijinja lacks.

use super::json;
use super::tags::PERCENT;
use minijinja::formatting::{FormatStyle, format};
use minijinja::value::{Rest, Tuple, Value, ValueKind, ValueOrKwargs, from_args};
use minijinja::{Environment, Error, ErrorKind, State, context};
use std::ops::Range;

/// Adds them to an environment.
pub fn add(environment: &mut Environment<'static>) {
    environment.set_unknown_method_callback(method);
    environment.add_filter("tojson", json::tojson);
    environment.add_filter("center", |state: &State, text: String, width: Option<usize>| {
        padded(state, &text, width.unwrap_or(80), ' ', Side::Both)
    });
    environment.add_filter("count", minijinja::filters::length);
    environment
        .add_filter("wordcount", |text: String| text.split(|c: char| !is_word(c)).filter(|w| !w.is_empty()).count());
    environment.add_filter("truncate", truncate);
    environment.add_filter("int", |value: &Value, default: Option<i64>| integer(value, default.unwrap_or(0)));
    environment
        .add_filter("float", |value: &Value, default: Option<f64>| real(value).unwrap_or(default.unwrap_or(0.0)));
    environment.add_filter("filesizeformat", minijinja_contrib::filters::filesizeformat);
    environment.add_filter("striptags", minijinja_contrib::filters::striptags);
    environment.add_function("cycler", |items: Rest<Value>| minijinja_contrib::globals::cycler(items.0));
    environment.add_function("joiner", minijinja_contrib::globals::joiner);
    environment.add_function(PERCENT, percent);
    for name in ["default", "d"] {
        environment.add_filter(name, default);
    }
    environment.add_test("iterable", |value: &Value| {
        !matches!(value.kind(), ValueKind::None | ValueKind::Bool | ValueKind::Number | ValueKind::Plain)
    });
    environment.add_test("sequence", |value: &Value| match value.kind() {
        ValueKind::Iterable => value.len().is_some(), // a range
        kind => matches!(kind, ValueKind::Undefined | ValueKind::String | ValueKind::Seq | ValueKind::Map),
    });
    environment.add_test("callable", |value: &Value| matches!(value.kind(), ValueKind::Undefined | ValueKind::Plain));
    environment.set_formatter(|out, state, value| match value.kind() {
        ValueKind::Number => out.write_str(&json::number(value)).map_err(Error::from),
        _ => minijinja::escape_formatter(out, state, value),
    });
}

/// Whether Python's `\w` is `c`.
fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Whether Python's `str.split` and `str.strip` take `c` for a space.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

fn fails(reason: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidOperation, reason)
}

/// The number that a value is or that its text says.
fn real(value: &Value) -> Option<f64> {
    match value.as_str() {
        Some(text) => text.trim().parse().ok(),
        None if value.kind() == ValueKind::Bool => Some(f64::from(u8::from(value.is_true()))),
        None => f64::try_from(value.clone()).ok(),
    }
}

/// The filter `int`: without what stands behind the point, or `default` where there is no number.
fn integer(value: &Value, default: i64) -> Value {
    if value.is_integer() {
        return value.clone();
    }
    let whole = value.as_str().and_then(|text| text.trim().replace('_', "").parse::<i64>().ok());
    let cut = || real(value).filter(|x| x.is_finite()).map(|x| x.trunc() as i64);
    Value::from(whole.or_else(cut).unwrap_or(default))
}

/// The filter `default(default_value='', boolean=false)`.
fn default(value: &Value, arguments: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    let arguments = arguments.into_values();
    let (placed, named) = json::given(&arguments)?;
    let (other, lax): (Option<Value>, Option<bool>) = from_args(placed)?;
    let other = other.map_or_else(|| named.get("default_value"), |other| Ok(Some(other)))?;
    let lax = lax.map_or_else(|| named.get("boolean"), |lax| Ok(Some(lax)))?.unwrap_or(false);
    named.assert_all_used()?;
    let missing = value.is_undefined() || (lax && !value.is_true());
    Ok(if missing { other.unwrap_or_else(|| Value::from("")) } else { value.clone() })
}

/// The filter `truncate(length=255, killwords=false, end='...', leeway=5)`.
fn truncate(text: String, arguments: Rest<ValueOrKwargs>) -> Result<String, Error> {
    let arguments = arguments.into_values();
    let (placed, named) = json::given(&arguments)?;
    let (length, cuts, end, leeway): (Option<usize>, Option<bool>, Option<String>, Option<usize>) = from_args(placed)?;
    let length = length.map_or_else(|| named.get("length"), |n| Ok(Some(n)))?.unwrap_or(255);
    let cuts = cuts.map_or_else(|| named.get("killwords"), |cuts| Ok(Some(cuts)))?.unwrap_or(false);
    let end = end.map_or_else(|| named.get("end"), |end| Ok(Some(end)))?.unwrap_or_else(|| "...".to_owned());
    let leeway = leeway.map_or_else(|| named.get("leeway"), |n| Ok(Some(n)))?.unwrap_or(5);
    named.assert_all_used()?;
    if text.chars().count() <= length.saturating_add(leeway) {
        return Ok(text);
    }
    let kept: String = text.chars().take(length.saturating_sub(end.chars().count())).collect();
    let word = if cuts { kept.as_str() } else { kept.rsplit_once(' ').map_or(kept.as_str(), |(words, _)| words) };
    Ok(format!("{word}{end}"))
}

/// `a % b`: of texts what Python's old formats make, else the rest of a division.
fn percent(state: &State, a: &Value, b: &Value) -> Result<Value, Error> {
    let Some(text) = a.as_str() else {
        return state.env().compile_expression("a % b")?.eval(context! { a, b });
    };
    let one = [b.clone()];
    let many: Vec<Value> = if b.is_tuple() { b.try_iter()?.collect() } else { Vec::new() };
    let arguments = if b.is_tuple() { many.as_slice() } else { &one };
    let made = format(FormatStyle::Printf, text, arguments)?;
    state.consume_fuel(made.len() as u64 / 64)?;
    Ok(Value::from(made))
}

/// Where a text is padded.
#[derive(Clone, Copy)]
enum Side {
    Left,
    Right,
    Both,
}

/// `text` with as many of `fill` beside it as make it `width` characters.
fn padded(state: &State, text: &str, width: usize, fill: char, side: Side) -> Result<String, Error> {
    let missing = width.saturating_sub(text.chars().count());
    state.consume_fuel(missing.saturating_mul(fill.len_utf8()) as u64 / 64)?;
    let left = match side {
        Side::Left => missing,
        Side::Right => 0,
        Side::Both => missing / 2 + (missing & width & 1), // as CPython halves
    };
    let fills = |n: usize| fill.to_string().repeat(n);
    Ok(fills(left) + text + &fills(missing - left))
}

/// Bytes of the part of `text` between two places of Python's, which may count from its end.
fn slice(text: &str, start: Option<i64>, end: Option<i64>) -> Range<usize> {
    let length = text.chars().count() as i64;
    let place = |at: i64| if at < 0 { (length + at).max(0) } else { at.min(length) } as usize;
    let byte = |at: i64| text.char_indices().nth(place(at)).map_or(text.len(), |(byte, _)| byte);
    let start = start.map_or(0, byte);
    start..end.map_or(text.len(), byte).max(start)
}

/// A method that is called on a value: one of these, or of minijinja's own imitation.
fn method(state: &mut State, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    if let Some(text) = value.as_str()
        && let Some(done) = of_text(state, text, name, args).transpose()
    {
        return done;
    }
    if value.kind() == ValueKind::Seq && name == "index" {
        let (item,): (&Value,) = from_args(args)?;
        let place = value.try_iter()?.position(|other| other == *item);
        return place.map(Value::from).ok_or_else(|| fails("the list does not have what is looked for"));
    }
    if matches!(value.kind(), ValueKind::Seq | ValueKind::Map) && name == "copy" {
        let () = from_args(args)?;
        return Ok(value.clone()); // no method changes one
    }
    minijinja_contrib::pycompat::unknown_method_callback(state, value, name, args)
}

fn of_text(state: &State, text: &str, name: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    match name {
        "removeprefix" | "removesuffix" | "partition" | "rpartition" | "strip" | "lstrip" | "rstrip" => {
            parted(text, name, args).map(Some)
        }
        "split" | "rsplit" => split(text, name == "rsplit", args).map(Some),
        "splitlines" => splitlines(text, args).map(Some),
        "zfill" | "center" | "ljust" | "rjust" => aligned(state, text, name, args).map(|text| Some(Value::from(text))),
        "index" | "rindex" | "find" | "rfind" => found(text, name, args).map(Some),
        "startswith" | "endswith" if args.len() > 1 => {
            let (part, start, end): (&str, Option<i64>, Option<i64>) = from_args(args)?;
            let inside = &text[slice(text, start, end)];
            let is = if name == "startswith" { inside.starts_with(part) } else { inside.ends_with(part) };
            Ok(Some(Value::from(is)))
        }
        "expandtabs" => {
            let (width,): (Option<usize>,) = from_args(args)?;
            expandtabs(state, text, width.unwrap_or(8)).map(Some)
        }
        "swapcase" | "casefold" | "isdecimal" | "istitle" | "title" => {
            let () = from_args(args)?;
            Ok(Some(cased(text, name)))
        }
        _ => Ok(None),
    }
}

/// Methods that take a part away, or text apart in three.
fn parted(text: &str, name: &str, args: &[Value]) -> Result<Value, Error> {
    if name.ends_with("strip") {
        let (chars,): (Option<&str>,) = from_args(args)?;
        let strips = |c: char| chars.map_or_else(|| is_space(c), |chars| chars.contains(c));
        let text = if name == "rstrip" { text } else { text.trim_start_matches(strips) };
        return Ok(Value::from(if name == "lstrip" { text } else { text.trim_end_matches(strips) }));
    }
    let (part,): (&str,) = from_args(args)?;
    let three = |found: Option<(&str, &str)>, none: [&str; 3]| {
        let parts = found.map_or(none, |(before, after)| [before, part, after]);
        Value::from(Tuple::new(parts.map(Value::from).to_vec()))
    };
    Ok(match name {
        "removeprefix" => Value::from(text.strip_prefix(part).unwrap_or(text)),
        "removesuffix" => Value::from(text.strip_suffix(part).unwrap_or(text)),
        "rpartition" => three(text.rsplit_once(part), ["", "", text]),
        _ => three(text.split_once(part), [text, "", ""]),
    })
}

/// Methods that pad a text.
fn aligned(state: &State, text: &str, name: &str, args: &[Value]) -> Result<String, Error> {
    if name == "zfill" {
        let (width,): (usize,) = from_args(args)?;
        let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
        let sign = &text[..text.len() - digits.len()];
        return Ok(sign.to_owned() + &padded(state, digits, width.saturating_sub(sign.len()), '0', Side::Left)?);
    }
    let (width, fill): (usize, Option<char>) = from_args(args)?;
    let side = match name {
        "center" => Side::Both,
        "ljust" => Side::Right,
        _ => Side::Left,
    };
    padded(state, text, width, fill.unwrap_or(' '), side)
}

/// Methods that say where a part is, in characters.
fn found(text: &str, name: &str, args: &[Value]) -> Result<Value, Error> {
    let (part, start, end): (&str, Option<i64>, Option<i64>) = from_args(args)?;
    let range = slice(text, start, end);
    let inside = &text[range.clone()];
    match if name.starts_with('r') { inside.rfind(part) } else { inside.find(part) } {
        Some(at) => Ok(Value::from(text[..range.start + at].chars().count())),
        None if name.ends_with("find") => Ok(Value::from(-1)),
        None => Err(fails("the text does not have what is looked for")),
    }
}

/// Methods on cases and kinds of characters.
fn cased(text: &str, name: &str) -> Value {
    let swapped =
        |c: char| -> String { if c.is_uppercase() { c.to_lowercase().collect() } else { c.to_uppercase().collect() } };
    match name {
        "swapcase" => Value::from(text.chars().map(swapped).collect::<String>()),
        "casefold" => Value::from(text.to_lowercase().replace('\u{df}', "ss")),
        "title" => {
            let mut cased = false;
            let letter = |c: char| -> String {
                let lower = std::mem::replace(&mut cased, c.is_uppercase() || c.is_lowercase());
                if lower { c.to_lowercase().collect() } else { c.to_uppercase().collect() }
            };
            Value::from(text.chars().map(letter).collect::<String>())
        }
        "isdecimal" => Value::from(!text.is_empty() && text.chars().all(|c| c.is_ascii_digit())),
        _ => {
            let (mut cased, mut title) = (false, false);
            let fits = text.chars().all(|c| {
                let fits = if c.is_uppercase() { !cased } else { !c.is_lowercase() || cased };
                cased = c.is_uppercase() || c.is_lowercase();
                title |= cased;
                fits
            });
            Value::from(fits && title)
        }
    }
}

/// `str.split` and `str.rsplit`.
fn split(text: &str, last: bool, args: &[Value]) -> Result<Value, Error> {
    let (placed, named) = json::given(args)?;
    let (by, most): (Option<Value>, Option<i64>) = from_args(placed)?;
    let by = by.map_or_else(|| named.get::<Option<Value>>("sep"), |by| Ok(Some(by)))?.filter(|by| !by.is_none());
    let most = most.map_or_else(|| named.get::<Option<i64>>("maxsplit"), |most| Ok(Some(most)))?.unwrap_or(-1);
    named.assert_all_used()?;
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let pieces = most.saturating_add(1);
    let mut parts: Vec<&str> = match by.as_ref().map(|by| by.as_str().unwrap_or_default()) {
        Some("") => return Err(fails("the text to split by is empty or none")),
        Some(by) if last => text.rsplitn(pieces, by).collect(),
        Some(by) => text.splitn(pieces, by).collect(),
        None => by_spaces(text, last, most),
    };
    if last {
        parts.reverse();
    }
    Ok(parts.into_iter().map(Value::from).collect())
}

/// Words between spaces, with `most` cuts; from the end backwards if `last`.
fn by_spaces(text: &str, last: bool, most: usize) -> Vec<&str> {
    let trim = |text: &'_ str| -> (usize, usize) {
        let start = text.len() - text.trim_start_matches(is_space).len();
        (start, text.trim_end_matches(is_space).len().max(start))
    };
    let (mut parts, (mut start, mut end)) = (Vec::new(), trim(text));
    while start < end {
        let rest = &text[start..end];
        let cut = if last { rest.rfind(is_space) } else { rest.find(is_space) };
        let Some(at) = cut.filter(|_| parts.len() < most) else {
            // What is left keeps the spaces at its far end.
            parts.push(if last { &text[..end] } else { &text[start..] });
            break;
        };
        if last {
            let from = at + rest[at..].chars().next().map_or(0, char::len_utf8);
            parts.push(&rest[from..]);
            end = start + rest[..at].trim_end_matches(is_space).len();
        } else {
            parts.push(&rest[..at]);
            start = end - rest[at..].trim_start_matches(is_space).len();
        }
    }
    // Without a limit nothing is left over, so no far end keeps its spaces.
    if parts.len() <= most
        && let Some(over) = parts.last_mut()
    {
        *over = over.trim_matches(is_space);
    }
    parts
}

/// `str.splitlines`.
fn splitlines(text: &str, args: &[Value]) -> Result<Value, Error> {
    let (placed, named) = json::given(args)?;
    let (keep,): (Option<bool>,) = from_args(placed)?;
    let keep = keep.map_or_else(|| named.get::<Option<bool>>("keepends"), |keep| Ok(Some(keep)))?.unwrap_or(false);
    named.assert_all_used()?;
    let ends =
        |c: char| matches!(c, '\n' | '\r' | '\x0b' | '\x0c' | '\x1c'..='\x1e' | '\u{85}' | '\u{2028}' | '\u{2029}');
    let (mut lines, mut rest) = (Vec::new(), text);
    while let Some(at) = rest.find(ends) {
        let long = if rest[at..].starts_with("\r\n") { 2 } else { rest[at..].chars().next().map_or(1, char::len_utf8) };
        lines.push(Value::from(&rest[..if keep { at + long } else { at }]));
        rest = &rest[at + long..];
    }
    if !rest.is_empty() {
        lines.push(Value::from(rest));
    }
    Ok(Value::from(lines))
}

/// `str.expandtabs`.
fn expandtabs(state: &State, text: &str, width: usize) -> Result<Value, Error> {
    let (mut out, mut column) = (String::new(), 0);
    for c in text.chars() {
        match c {
            '\t' if width > 0 => {
                let spaces = width - column % width;
                state.consume_fuel(spaces as u64 / 64)?;
                out.push_str(&" ".repeat(spaces));
                column += spaces;
            }
            '\t' => {}
            c => {
                column = if c == '\n' || c == '\r' { 0 } else { column + 1 };
                out.push(c);
            }
        }
    }
    Ok(Value::from(out))
}

/// `strftime_now(format)`: the local time `now`, in seconds since 1970, as C's `strftime` writes it.
pub fn strftime(now: i64, format: &str) -> Result<String, Error> {
    let time = jiff::Timestamp::from_second(now).map_err(|e| fails(e.to_string()))?;
    let local = time.to_zoned_datetime(jiff::tz::TimeZone::system());
    // As Python writes a time without a zone in the locale C.
    let parts = format.split("%%").map(|part| {
        let part = part.replace("%c", "%a %b %e %H:%M:%S %Y").replace("%x", "%m/%d/%y").replace("%X", "%H:%M:%S");
        part.replace("%f", "000000").replace("%Z", "").replace("%z", "")
    });
    let format = parts.collect::<Vec<_>>().join("%%");
    jiff::fmt::strtime::format(&format, &local).map_err(|e| fails(format!("strftime_now: {e}")))
}

/// What `raise_exception` does.
pub fn raise(message: String) -> Result<Value, Error> {
    Err(fails(message))
}
