//! How far reading the data is: a bar on a terminal, nothing elsewhere.

use crate::terminal::{bar_style, printable};
use indicatif::{ProgressBar, ProgressDrawTarget};
use std::io::IsTerminal;
use std::path::Path;

/// A bar over bytes, gone when dropped.
pub struct Meter(ProgressBar);

impl Meter {
    /// A bar for `bytes` in all, which `what` ("tokenising") is done with.
    pub fn new(what: &str, path: &Path, bytes: u64) -> Meter {
        let terminal = std::io::stderr().is_terminal();
        let target = if terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(bytes), target);
        // Narrow: in 80 columns there is room for everything but the end of a long path.
        let template = "{bar:12.cyan/238} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left: {wide_msg}";
        bar.set_style(bar_style(template));
        bar.set_message(printable(&format!("{what} {}", path.display())));
        Meter(bar)
    }

    /// `bytes` more are done.
    pub fn add(&self, bytes: u64) {
        self.0.inc(bytes);
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
