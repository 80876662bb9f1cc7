//! What a run shows while it goes on: a bar on a terminal, lines elsewhere, both on standard error.

use super::rows::TrainRow;
use crate::config::Kind;
use crate::terminal::{bar_style, columns, note};
use indicatif::ProgressBar;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// Columns of the bar where there is room for it.
const BAR: usize = 24;
/// The narrowest bar that is still one.
const NARROWEST: usize = 8;
/// Columns that stay free behind the line: a terminal writes ^C there, and the line would wrap.
const FREE: usize = 3;

/// The display of one run.
#[derive(Debug)]
pub struct Progress {
    kind: Kind,
    /// On a terminal only.
    bar: Option<ProgressBar>,
    total: u64,
    interval: u64,
    pace: Pace,
    /// Share of a checkpoint that is written, while one is.
    saving: Option<f64>,
    /// Width of the terminal and how many parts of the line it had no room for: they stay away, rather than come and go
    /// with the length of a number.
    dropped: (usize, usize),
}

/// Mean time of an update, from which the remaining time follows.
#[derive(Debug)]
struct Pace {
    /// Step and time from which updates are counted: the first row, because it includes the start of the pipelines.
    origin: Option<(u64, Instant)>,
}

impl Progress {
    /// A display for a run of this kind that has done `start` of `total` updates. Off a terminal it prints the first
    /// update, the last, and every `interval`-th one; with an interval of 0, none.
    pub fn new(kind: Kind, start: u64, total: u64, interval: u64) -> Progress {
        let bar = std::io::stderr().is_terminal().then(|| ProgressBar::new(total).with_position(start));
        Progress { kind, bar, total, interval, pace: Pace { origin: None }, saving: None, dropped: (0, 0) }
    }

    /// Shows an update; where a line is due for it, that line is returned for the log.
    pub fn update(&mut self, row: &TrainRow) -> Option<String> {
        let first = self.pace.origin.is_none();
        let left = self.pace.remaining(row.step, self.total, Instant::now());
        let line = Line { row, kind: self.kind, total: self.total, left, saving: self.saving };
        let due = self.interval > 0 && (first || row.step == self.total || row.step.is_multiple_of(self.interval));
        match &self.bar {
            Some(bar) => {
                let columns = columns();
                let least = if self.dropped.0 == columns { self.dropped.1 } else { 0 };
                let (width, dropped, text) = line.fitted(columns.saturating_sub(FREE), least);
                self.dropped = (columns, dropped);
                bar.set_style(match width {
                    0 => bar_style("{msg}"),
                    _ => bar_style(&format!("{{bar:{width}.cyan/238}} {{msg}}")),
                });
                bar.set_message(text);
                bar.set_position(row.step);
            }
            None if due => note(line.text(0)),
            None => {}
        }
        due.then(|| line.text(0))
    }

    /// Shows from the next update on how far a save is, or none.
    pub fn saving(&mut self, share: Option<f64>) {
        self.saving = share;
    }

    /// Prints a line of text above the bar.
    pub fn say(&self, text: &str) {
        self.voice()(text);
    }

    /// Prints lines of text above the bar from another thread.
    pub fn voice(&self) -> impl Fn(&str) + Send + 'static {
        let bar = self.bar.clone();
        move |text| match &bar {
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

/// One update in words.
struct Line<'a> {
    row: &'a TrainRow,
    kind: Kind,
    total: u64,
    left: Option<Duration>,
    saving: Option<f64>,
}

impl Line<'_> {
    /// The parts of the line with the order in which they give way where there is no room; 0 stays always.
    fn parts(&self) -> Vec<(usize, String)> {
        let (row, total) = (self.row, self.total);
        let width = total.to_string().len();
        let mut parts = vec![(0, format!("step {:>width$}/{total}", row.step))];
        // What the stage is about comes first.
        let about = match self.kind {
            Kind::Pretrain | Kind::Sft => None,
            Kind::Reward | Kind::Dpo => Some(("rewards/accuracies", "accuracy")),
            Kind::Grpo | Kind::Ppo => Some(("reward", "reward")),
        };
        let about = about.and_then(|(name, word)| Some(format!("{word} {:.3}", row.numbers.get(name)?)));
        let loss = if about.is_some() { 4 } else { 0 };
        parts.extend(about.map(|text| (0, text)));
        parts.push((loss, format!("loss {:.4}", row.loss)));
        parts.push((2, format!("lr {:.2e}", row.lr)));
        parts.push((1, format!("norm {:.3}", row.grad_norm)));
        parts.push((0, format!("{} tokens/s", with_commas(row.tokens_per_second))));
        parts.extend(self.left.map(|left| (0, format!("{} left", short(left)))));
        parts.extend(self.saving.map(|share| (3, format!("saving, {:.0} %", 100.0 * share))));
        parts
    }

    /// The line without the parts that give way first, up to the `dropped`-th.
    fn text(&self, dropped: usize) -> String {
        let kept = self.parts().into_iter().filter(|(order, _)| *order == 0 || *order > dropped);
        kept.map(|(_, text)| text).collect::<Vec<_>>().join("  ")
    }

    /// The width of the bar, how many parts give way, and the line, which have room in `columns`. The bar gives way
    /// first, then at least `least` parts.
    fn fitted(&self, columns: usize, least: usize) -> (usize, usize, String) {
        let fits = |dropped: &usize| self.text(*dropped).len() <= columns;
        let dropped = (least..4).find(fits).unwrap_or(4);
        let text = self.text(dropped);
        let room = columns.saturating_sub(text.len() + 1).min(BAR);
        let bar = if dropped == 0 && room >= NARROWEST { room } else { 0 };
        (bar, dropped, text)
    }
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

    /// An update of a long run of a kind, with figures as wide as they come.
    fn row(kind: Kind, step: u64) -> TrainRow {
        let about = match kind {
            Kind::Pretrain | Kind::Sft => None,
            Kind::Reward | Kind::Dpo => Some(("rewards/accuracies", 0.96875)),
            Kind::Grpo | Kind::Ppo => Some(("reward", -0.4375)),
        };
        TrainRow {
            step,
            loss: 2.34567,
            lr: 1.5e-3,
            grad_norm: 0.8125,
            tokens_per_second: 12_345.6,
            numbers: about.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
            ..Default::default()
        }
    }

    fn line(row: &TrainRow, kind: Kind, seconds: Option<u64>, saving: Option<f64>) -> Line<'_> {
        Line { row, kind, total: 300, left: seconds.map(Duration::from_secs), saving }
    }

    #[test]
    fn a_line_names_every_figure_and_what_the_stage_is_about_first() {
        let rest = "lr 1.50e-3  norm 0.812  12,346 tokens/s  1 min 23 s left";
        for (kind, about) in [
            (Kind::Pretrain, "loss 2.3457"),
            (Kind::Sft, "loss 2.3457"),
            (Kind::Reward, "accuracy 0.969  loss 2.3457"),
            (Kind::Dpo, "accuracy 0.969  loss 2.3457"),
            (Kind::Grpo, "reward -0.438  loss 2.3457"),
            (Kind::Ppo, "reward -0.438  loss 2.3457"),
        ] {
            let row = row(kind, 20);
            assert_eq!(line(&row, kind, Some(83), None).text(0), format!("step  20/300  {about}  {rest}"), "{kind:?}");
        }
        let row = TrainRow { loss: f64::NAN, ..row(Kind::Pretrain, 20) };
        let text = line(&row, Kind::Pretrain, None, Some(0.456)).text(0);
        assert!(text.ends_with("loss NaN  lr 1.50e-3  norm 0.812  12,346 tokens/s  saving, 46 %"), "{text}");
    }

    #[test]
    fn eighty_columns_show_what_a_stage_is_about_speed_and_time_left_of_every_stage() {
        for kind in [Kind::Pretrain, Kind::Sft, Kind::Reward, Kind::Dpo, Kind::Grpo, Kind::Ppo] {
            for (total, saving) in [(40, None), (2000, Some(0.5)), (1_000_000, Some(0.999))] {
                let row = TrainRow { tokens_per_second: 1_234_567.0, loss: 12.34567, ..row(kind, total - 1) };
                let left = Some(Duration::from_secs(86_399));
                let (bar, _, text) = Line { row: &row, kind, total, left, saving }.fitted(80 - FREE, 0);
                assert!(bar + usize::from(bar > 0) + text.len() <= 77, "{text}");
                let about = match kind {
                    Kind::Pretrain | Kind::Sft => "loss 12.3457",
                    Kind::Reward | Kind::Dpo => "accuracy 0.969",
                    Kind::Grpo | Kind::Ppo => "reward -0.438",
                };
                for part in [about, "1,234,567 tokens/s", "23 h 59 min left"] {
                    assert!(text.contains(part), "{kind:?}: {text}");
                }
            }
        }
    }

    #[test]
    fn the_bar_gives_way_first_then_the_norm_then_the_rate_and_they_stay_away() {
        let row = row(Kind::Grpo, 20);
        let line = line(&row, Kind::Grpo, Some(83), None);
        let full = line.text(0).len();
        assert_eq!(line.fitted(full + 1 + BAR, 0), (24, 0, line.text(0)));
        assert_eq!(line.fitted(full + 500, 0), (24, 0, line.text(0)));
        assert_eq!(line.fitted(full + 1 + NARROWEST, 0), (8, 0, line.text(0)));
        assert_eq!(line.fitted(full + NARROWEST, 0), (0, 0, line.text(0)));
        let (bar, dropped, text) = line.fitted(full - 1, 0);
        assert!((bar, dropped) == (0, 1) && !text.contains("norm") && text.contains("lr "), "{text}");
        let (bar, dropped, text) = line.fitted(60, 0);
        assert!((bar, dropped) == (0, 4) && !text.contains("lr ") && !text.contains("loss"), "{text}");
        assert_eq!(line.fitted(full + 500, 1).1, 1);
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
