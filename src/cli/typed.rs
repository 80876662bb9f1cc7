//! What somebody is typing.

use rustyline::completion::Completer;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::validate::Validator;
use rustyline::{Context, Helper};
use std::cell::Cell;

/// Remembers whether anything is typed, which a Ctrl-C clears.
#[derive(Default)]
pub(super) struct Typed(Cell<bool>);

impl Typed {
    /// Whether the line had any text when it was last changed.
    pub(super) fn any(&self) -> bool {
        self.0.get()
    }
}

impl Hinter for Typed {
    type Hint = String;

    fn hint(&self, line: &str, _: usize, _: &Context<'_>) -> Option<String> {
        self.0.set(!line.is_empty());
        None
    }
}

impl Completer for Typed {
    type Candidate = String;
}

impl Highlighter for Typed {}

impl Validator for Typed {}

impl Helper for Typed {}
