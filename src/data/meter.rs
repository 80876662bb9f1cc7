//! How far reading the data is: a bar on a terminal, nothing elsewhere.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
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
        let template = "{bar:24.cyan/238} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left: {wide_msg}";
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style.progress_chars("━╸━"));
        bar.set_message(crate::terminal::printable(&format!("{what} {}", path.display())));
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
