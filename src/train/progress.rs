//! What the user sees during a run: a bar on a terminal, lines now and then elsewhere. All of it on standard error.

use super::rows::TrainRow;
use crate::terminal::note;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// The display of one run.
#[derive(Debug)]
pub struct Progress {
    /// On a terminal only.
    bar: Option<ProgressBar>,
    total: u64,
    interval: u64,
    pace: Pace,
    /// Share of a checkpoint that is written, while one is.
    saving: Option<f64>,
}

/// Mean time of an update, from which the remaining time follows.
#[derive(Debug)]
struct Pace {
    /// Step and time from which updates are counted: the first row, because it includes the start of the pipelines.
    origin: Option<(u64, Instant)>,
}

impl Progress {
    /// A display for a run that has done `start` of `total` updates. Off a terminal it prints the first update, the
    /// last, and every `interval`-th one; with an interval of 0, none.
    pub fn new(start: u64, total: u64, interval: u64) -> Progress {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(total).with_position(start);
            let style = ProgressStyle::with_template("{bar:24.cyan/238} {wide_msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("━╸━"));
            bar
        });
        Progress { bar, total, interval, pace: Pace { origin: None }, saving: None }
    }

    /// Shows an update; where a line is due for it, that line is returned for the log.
    pub fn update(&mut self, row: &TrainRow) -> Option<String> {
        let first = self.pace.origin.is_none();
        let left = self.pace.remaining(row.step, self.total, Instant::now());
        let mut text = line(row, self.total, left);
        if let Some(share) = self.saving {
            text += &format!("  saving, {:.0} %", 100.0 * share);
        }
        let due = self.interval > 0 && (first || row.step == self.total || row.step.is_multiple_of(self.interval));
        match &self.bar {
            Some(bar) => {
                bar.set_position(row.step);
                bar.set_message(text.clone());
            }
            None if due => note(&text),
            None => {}
        }
        due.then_some(text)
    }

    /// Shows from the next update on how far a save is, or none.
    pub fn saving(&mut self, share: Option<f64>) {
        self.saving = share;
    }

    /// Prints a line of text above the bar.
    pub fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| note(text)),
            None => note(text),
        }
    }

    /// Begins to measure the time of an update anew: the run went back to an earlier one.
    pub fn restart(&mut self) {
        self.pace = Pace { origin: None };
    }

    /// Leaves the last state on the screen.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.abandon();
        }
    }
}

impl Pace {
    fn remaining(&mut self, step: u64, total: u64, now: Instant) -> Option<Duration> {
        let (first, since) = *self.origin.get_or_insert((step, now));
        let done = step.checked_sub(first).filter(|done| *done > 0)?;
        let each = now.duration_since(since).as_secs_f64() / done as f64;
        Duration::try_from_secs_f64(each * total.saturating_sub(step) as f64).ok()
    }
}

/// One update as a line of text, for the screen and for `log.txt`.
pub fn line(row: &TrainRow, total: u64, left: Option<Duration>) -> String {
    let width = total.to_string().len();
    let mut text = format!(
        "step {:>width$}/{total}  loss {:.4}  lr {:.2e}  norm {:.3}  {} tokens/s",
        row.step,
        row.loss,
        row.lr,
        row.grad_norm,
        with_commas(row.tokens_per_second),
    );
    // What a stage is about, where it is not the loss.
    for (name, word) in [("reward", "reward"), ("rewards/accuracies", "accuracy")] {
        if let Some(value) = row.numbers.get(name) {
            text += &format!("  {word} {value:.3}");
        }
    }
    if let Some(left) = left {
        text += &format!("  {} left", short(left));
    }
    text
}

/// A duration in its two largest units.
fn short(duration: Duration) -> String {
    let seconds = duration.as_secs_f64().round() as u64;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        3600..172_800 => format!("{} h {:02} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {:02} h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// A rate with its thousands apart; small ones keep a decimal.
fn with_commas(rate: f64) -> String {
    if !rate.is_finite() || rate < 100.0 {
        return format!("{rate:.1}");
    }
    let digits = format!("{rate:.0}");
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_every_figure() {
        let row = TrainRow {
            step: 20,
            loss: 2.34567,
            lr: 1.5e-3,
            grad_norm: 0.8125,
            tokens_per_second: 12_345.6,
            ..Default::default()
        };
        assert_eq!(
            line(&row, 300, Some(Duration::from_secs(83))),
            "step  20/300  loss 2.3457  lr 1.50e-3  norm 0.812  12,346 tokens/s  1 min 23 s left"
        );
        assert!(
            line(&TrainRow { loss: f64::NAN, ..row }, 300, None)
                .ends_with("loss NaN  lr 1.50e-3  norm 0.812  12,346 tokens/s")
        );
    }

    #[test]
    fn durations_and_rates_are_short() {
        let shorts = [(0, "0 s"), (59, "59 s"), (60, "1 min 00 s"), (3600, "1 h 00 min"), (180_000, "2 d 02 h")];
        for (seconds, text) in shorts {
            assert_eq!(short(Duration::from_secs(seconds)), text);
        }
        for (rate, text) in [(0.0, "0.0"), (99.94, "99.9"), (999.6, "1,000"), (1e6, "1,000,000"), (f64::NAN, "NaN")] {
            assert_eq!(with_commas(rate), text);
        }
    }

    #[test]
    fn the_remaining_time_follows_from_the_updates_after_the_first() {
        let mut pace = Pace { origin: None };
        let start = Instant::now();
        assert_eq!(pace.remaining(101, 200, start), None);
        let later = start + Duration::from_secs(10);
        assert_eq!(pace.remaining(121, 200, later), Some(Duration::from_millis(39_500)));
        assert_eq!(pace.remaining(200, 200, later), Some(Duration::ZERO));
    }
}
