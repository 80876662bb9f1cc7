//! What is said on the terminal: results on standard output, everything else on standard error.

use crate::error::{Error, Result};
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
        assert_eq!(printable("Grüße,\n\tworld \u{1b}[31m\r"), "Grüße,\n\tworld \\u{1b}[31m\\r");
    }
}
