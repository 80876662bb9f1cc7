//! The legend: what each kind of line means, with the figure it ends at, above the panels where no curve can hide it.

use super::axis::{Scale, thousands};
use super::canvas::{Align, Canvas, Color, Mask, Rect, Size};
use super::series::{end, smoothed_end, smoothing_reach};
use super::style::{BACKGROUND, DASHES, ENTROPY, LEFT, MARKER, RAW, RIGHT, SMOOTHED, TEXT, VALIDATION, color};
use super::{PlotOptions, Run};

/// Top of the first line, and distance of the lines.
pub const TOP: f64 = 76.0;
/// Height of a line.
pub const LINE: f64 = 30.0;
/// More lines than this would leave no room for the curves.
const MOST_LINES: usize = 5;

/// Width of a sample of a line and of a patch of colour, and the room behind a sample and behind an entry.
const SAMPLE: f64 = 44.0;
const PATCH: f64 = 24.0;
const SAMPLE_GAP: f64 = 12.0;
const ENTRY_GAP: f64 = 40.0;
/// Room for "and 123 more".
const MORE: f64 = 180.0;
/// Longest name of a run among several.
const NAME: f64 = 320.0;

/// One entry: a sample and what it means.
#[derive(Clone, Debug)]
pub struct Entry {
    label: String,
    color: Color,
    mark: Mark,
}

/// How an entry's sample looks.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mark {
    /// A faint line, as faint as this.
    Raw(f64),
    Smoothed,
    Validation,
    Dashes,
    /// A patch of the run's colour.
    Run,
}

impl Mark {
    fn width(self) -> f64 {
        if self == Mark::Run { PATCH } else { SAMPLE }
    }
}

/// The entries for these runs, of which raw curves have the opacity `faint` and the loss axis has this scale.
pub fn entries(runs: &[Run], options: &PlotOptions, scale: Scale, faint: f64) -> Vec<Entry> {
    let entropy = options.entropy.filter(|e| e.is_finite()).map(|entropy| {
        let label = format!("entropy of the text{}", figure(Some(entropy)));
        Entry { label, color: ENTROPY, mark: Mark::Dashes }
    });
    match runs {
        [run] => of_one(run, scale, faint).into_iter().chain(entropy).collect(),
        // What is common to all comes first, as many runs may not all find room.
        _ => of_all(runs).into_iter().chain(entropy).chain(of_each(runs, scale)).collect(),
    }
}

/// The entries for stages one after the other, of which raw curves have the opacity `faint`.
pub fn of_story(stages: &[Run], faint: f64) -> Vec<Entry> {
    let mut entries = Vec::new();
    let entry = |label: &str, i: usize, mark| Entry { label: label.to_owned(), color: color(i), mark };
    if stages.iter().any(|run| !run.train.is_empty()) {
        entries.extend([entry("train, each update", 0, Mark::Raw(faint)), entry("smoothed", 0, Mark::Smoothed)]);
    }
    if stages.iter().any(|run| !run.val.is_empty()) {
        entries.push(entry("held out", 1, Mark::Validation));
    }
    entries
}

fn of_one(run: &Run, scale: Scale, faint: f64) -> Vec<Entry> {
    let mut entries = Vec::new();
    let reach = smoothing_reach(run.train.len());
    if reach > 0 {
        entries.push(Entry { label: "train, each update".to_owned(), color: color(0), mark: Mark::Raw(faint) });
    }
    if !run.train.is_empty() {
        let window = thousands(&(2 * reach + 1).to_string());
        let name = if reach > 0 { format!("train, smoothed over {window} updates") } else { "train".to_owned() };
        let label = format!("{name}{}", figure(smoothed_end(&run.train, scale)));
        entries.push(Entry { label, color: color(0), mark: Mark::Smoothed });
    }
    if !run.val.is_empty() {
        let label = format!("validation{}", figure(end(&run.val)));
        entries.push(Entry { label, color: color(1), mark: Mark::Validation });
    }
    entries
}

fn of_all(runs: &[Run]) -> Vec<Entry> {
    let mut entries = Vec::new();
    if runs.iter().any(|run| !run.train.is_empty()) {
        entries.push(Entry { label: "train, smoothed".to_owned(), color: TEXT, mark: Mark::Smoothed });
    }
    if runs.iter().any(|run| !run.val.is_empty()) {
        entries.push(Entry { label: "validation".to_owned(), color: TEXT, mark: Mark::Validation });
    }
    entries
}

fn of_each(runs: &[Run], scale: Scale) -> Vec<Entry> {
    let widest = if runs.len() > 6 { NAME / 2.0 } else { NAME };
    let entry = |(i, run): (usize, &Run)| {
        let figures = match (end(&run.val), smoothed_end(&run.train, scale)) {
            (Some(val), _) => format!("  val{}", figure(Some(val))),
            (None, Some(train)) => format!("  train{}", figure(Some(train))),
            (None, None) => String::new(),
        };
        let name = Size::NORMAL.shortened(&run.name, widest);
        Entry { label: format!("{name}{figures}"), color: color(i), mark: Mark::Run }
    };
    runs.iter().enumerate().map(entry).collect()
}

/// A loss behind a name.
fn figure(value: Option<f64>) -> String {
    match value {
        None => String::new(),
        Some(value) if value.abs() < 1e4 => format!("  {value:.3}"),
        Some(value) => format!("  {value:.3e}"),
    }
}

/// Entries in their places.
#[derive(Clone, Debug, Default)]
pub struct Rows<'a> {
    /// Line by line, each entry with its left edge.
    pub lines: Vec<Vec<(f64, &'a Entry)>>,
    /// What stands behind the last one where not all found room.
    rest: Option<(f64, String)>,
}

/// Places the entries, as many as the allowed lines hold.
pub fn rows(entries: &[Entry]) -> Rows<'_> {
    let mut rows = Rows::default();
    let mut x = f64::INFINITY;
    for (i, entry) in entries.iter().enumerate() {
        let width = entry.mark.width() + SAMPLE_GAP + Size::NORMAL.width(&entry.label);
        // The last line keeps room for the count of those that do not fit.
        let last = rows.lines.len() == MOST_LINES;
        let end = if last && i + 1 < entries.len() { RIGHT - MORE } else { RIGHT };
        if x + width > end {
            if last {
                rows.rest = Some((x, format!("and {} more", entries.len() - i)));
                break;
            }
            rows.lines.push(Vec::new());
            x = LEFT;
        }
        if let Some(line) = rows.lines.last_mut() {
            line.push((x, entry));
        }
        x += width + ENTRY_GAP;
    }
    rows
}

/// Draws the lines of the legend.
pub fn draw(canvas: &mut Canvas, rows: &Rows) {
    let top = |line: usize| TOP + LINE * line as f64;
    for (line, row) in rows.lines.iter().enumerate() {
        let y = top(line) + Size::NORMAL.height() / 2.0;
        for (x, entry) in row {
            draw_sample(canvas, *x, y, entry);
            canvas.text(&entry.label, x + entry.mark.width() + SAMPLE_GAP, top(line), Align::Left, Size::NORMAL, TEXT);
        }
    }
    if let Some((x, text)) = &rows.rest {
        canvas.text(text, *x, top(rows.lines.len() - 1), Align::Left, Size::NORMAL, TEXT);
    }
}

fn draw_sample(canvas: &mut Canvas, x: f64, y: f64, entry: &Entry) {
    let area = Rect::new(x, y - MARKER - 2.0, x + SAMPLE, y + MARKER + 2.0);
    let (from, to, middle) = ((x + 2.0, y), (x + SAMPLE - 2.0, y), (x + SAMPLE / 2.0, y));
    let mut mask = Mask::new(&area);
    let mut opacity = 1.0;
    match entry.mark {
        Mark::Raw(faint) => {
            opacity = faint;
            mask.segment(from, to, RAW / 2.0);
        }
        Mark::Smoothed => mask.segment(from, to, SMOOTHED / 2.0),
        Mark::Validation => {
            mask.segment(from, to, VALIDATION / 2.0);
            mask.segment(middle, middle, MARKER);
        }
        Mark::Dashes => mask.dashes(x, x + SAMPLE, y, DASHES),
        Mark::Run => mask.segment((x + 7.0, y), (x + PATCH - 7.0, y), 7.0),
    }
    canvas.paint(&mask, entry.color, opacity);
    if entry.mark == Mark::Validation {
        let mut hole = Mask::new(&area);
        hole.segment(middle, middle, MARKER - 2.0);
        canvas.paint(&hole, BACKGROUND, 1.0);
    }
}
