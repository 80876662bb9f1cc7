//! What is said on the terminal: results on standard output, everything else on standard error.

use crate::error::{Error, Result};
use console::Term;
use indicatif::ProgressStyle;
use std::fmt::Display;
use std::io::{ErrorKind, Write};

/// Writes a result and a line feed to standard output. A reader that has seen enough and closed the pipe, as `head`
/// does, is no error.
pub fn print(text: impl Display) -> Result<()> {
    print_part(format_args!("{text}\n"))
}

/// The same for a part of a result, without a line feed; it is seen at once.
pub fn print_part(text: impl Display) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match write!(out, "{text}").and_then(|()| out.flush()) {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => Err(Error::io("standard output", e)),
        _ => Ok(()),
    }
}

/// Writes a line to standard error if anybody reads it: a run does not end because its terminal was closed.
pub fn note(text: impl Display) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Columns of the terminal that standard error is; 80 where none says.
pub fn columns() -> usize {
    Term::stderr().size_checked().map_or(80, |(_, columns)| columns.into())
}

/// The style of a bar. Without colours, what is done and what is not are told apart by their signs.
pub fn bar_style(template: &str) -> ProgressStyle {
    let signs = if console::colors_enabled_stderr() { "━╸━" } else { "━╸ " };
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    style.progress_chars(signs)
}

/// Bytes in the unit that suits them, to a part in a thousand.
pub fn size(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 1023.95 && unit + 1 < units.len() {
        (value, unit) = (value / 1024.0, unit + 1);
    }
    match (unit, value) {
        (0, _) => format!("{bytes} B"),
        (_, value) if value < 9.995 => format!("{value:.2} {}", units[unit]),
        _ => format!("{value:.1} {}", units[unit]),
    }
}

/// `text` as one word of a command line, in quotes where it needs them.
pub fn quoted(text: &str) -> String {
    // Only a text with a NUL has no such form, and no argument or path has one.
    shlex::try_quote(text).map_or_else(|_| text.to_owned(), Into::into)
}

/// `text` with control characters other than line feeds and tabs as escapes: names in files and the tokens of a model
/// must not command the terminal.
pub fn printable(text: &str) -> String {
    let shown = |c: char| !c.is_control() || matches!(c, '\n' | '\t');
    text.chars().map(|c| if shown(c) { c.to_string() } else { c.escape_default().to_string() }).collect()
}

/// `text` in one line of bounded length without control characters: errors quote what others wrote.
pub fn sentence(text: impl Display) -> String {
    const LONGEST: usize = 4000;
    let text = text.to_string();
    let mut line: String = text.chars().take(LONGEST).collect();
    if line.len() < text.len() {
        line.push('…');
    }
    let escaped = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    if line.contains(char::is_control) { line.chars().map(escaped).collect() } else { line }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped_and_text_stays() {
        assert_eq!(sentence("a\tb\n\u{1b}[2J"), "a\\tb\\n\\u{1b}[2J");
        assert_eq!(sentence("x".repeat(5000)).chars().count(), 4001);
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.00 KiB"),
            (76_546_048, "73.0 MiB"),
            ((1 << 30) - 1, "1.00 GiB"),
            (24 << 30, "24.0 GiB"),
            (1 << 50, "1024.0 TiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
        assert_eq!(quoted("runs/tiny-1"), "runs/tiny-1");
        assert_eq!(shlex::split(&quoted("my run's")), Some(vec!["my run's".to_owned()]));
        assert_eq!(printable("Grüße,\n\tworld \u{1b}[31m\r"), "Grüße,\n\tworld \\u{1b}[31m\\r");
    }
}
