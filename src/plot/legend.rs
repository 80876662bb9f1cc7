//! The legend: what each kind of line means, with the figure it ends at, above the panels where no curve can hide it.

use super::axis::thousands;
use super::canvas::{Align, Canvas, Color, Mask, Rect, Size};
use super::series::{Point, smooth, smoothing_reach};
use super::style::{BACKGROUND, DASHES, ENTROPY, LEFT, MARKER, RAW, RIGHT, SMOOTHED, TEXT, VALIDATION, color};
use super::{PlotOptions, Run};

/// Top of the first line, and distance of the lines.
pub const TOP: f64 = 76.0;
/// Height of a line.
pub const LINE: f64 = 30.0;
/// More lines than this would leave no room for the curves.
const MOST_LINES: usize = 5;

/// Width of a sample, and the room behind a sample and behind an entry.
const SAMPLE: f64 = 44.0;
const SAMPLE_GAP: f64 = 12.0;
const ENTRY_GAP: f64 = 40.0;
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
}

/// The entries for these runs, of which raw curves have the opacity `faint`.
pub fn entries(runs: &[Run], options: &PlotOptions, faint: f64) -> Vec<Entry> {
    let mut entries = match runs {
        [run] => of_one(run, faint),
        _ => of_many(runs),
    };
    if let Some(entropy) = options.entropy.filter(|e| e.is_finite()) {
        let label = format!("entropy of the text{}", figure(Some(entropy)));
        entries.push(Entry { label, color: ENTROPY, mark: Mark::Dashes });
    }
    entries
}

fn of_one(run: &Run, faint: f64) -> Vec<Entry> {
    let mut entries = Vec::new();
    let reach = smoothing_reach(run.train.len());
    if reach > 0 {
        entries.push(Entry { label: "train, each update".to_owned(), color: color(0), mark: Mark::Raw(faint) });
    }
    if !run.train.is_empty() {
        let window = thousands(&(2 * reach + 1).to_string());
        let name = if reach > 0 { format!("train, mean of {window} updates") } else { "train".to_owned() };
        let label = format!("{name}{}", figure(smoothed_end(run)));
        entries.push(Entry { label, color: color(0), mark: Mark::Smoothed });
    }
    if !run.val.is_empty() {
        let label = format!("validation{}", figure(end(&run.val)));
        entries.push(Entry { label, color: color(1), mark: Mark::Validation });
    }
    entries
}

fn of_many(runs: &[Run]) -> Vec<Entry> {
    let mut entries = Vec::new();
    for (i, run) in runs.iter().enumerate() {
        let name = Size::NORMAL.shortened(&run.name, NAME);
        let figures = match (end(&run.val), smoothed_end(run)) {
            (Some(val), _) => format!("  val{}", figure(Some(val))),
            (None, Some(train)) => format!("  train{}", figure(Some(train))),
            (None, None) => String::new(),
        };
        entries.push(Entry { label: format!("{name}{figures}"), color: color(i), mark: Mark::Smoothed });
    }
    if runs.iter().any(|run| !run.val.is_empty()) {
        entries.push(Entry { label: "validation".to_owned(), color: TEXT, mark: Mark::Validation });
    }
    entries
}

/// The last value of a curve that is a number.
fn end(points: &[Point]) -> Option<f64> {
    points.iter().rev().map(|p| p.1).find(|y| y.is_finite())
}

fn smoothed_end(run: &Run) -> Option<f64> {
    end(&smooth(&run.train, smoothing_reach(run.train.len())))
}

/// A loss behind a name.
fn figure(value: Option<f64>) -> String {
    match value {
        None => String::new(),
        Some(value) if value.abs() < 1e4 => format!("  {value:.3}"),
        Some(value) => format!("  {value:.3e}"),
    }
}

/// The entries with their left edges, line by line. What needs more than the allowed lines is left out.
pub fn rows(entries: &[Entry]) -> Vec<Vec<(f64, &Entry)>> {
    let mut rows: Vec<Vec<(f64, &Entry)>> = Vec::new();
    let mut x = f64::INFINITY;
    for entry in entries {
        let width = SAMPLE + SAMPLE_GAP + Size::NORMAL.width(&entry.label);
        if x + width > RIGHT {
            if rows.len() == MOST_LINES {
                break;
            }
            rows.push(Vec::new());
            x = LEFT;
        }
        if let Some(row) = rows.last_mut() {
            row.push((x, entry));
        }
        x += width + ENTRY_GAP;
    }
    rows
}

/// Draws the lines of the legend.
pub fn draw(canvas: &mut Canvas, rows: &[Vec<(f64, &Entry)>]) {
    for (line, row) in rows.iter().enumerate() {
        let top = TOP + LINE * line as f64;
        let y = top + Size::NORMAL.height() / 2.0;
        for (x, entry) in row {
            draw_sample(canvas, *x, y, entry);
            canvas.text(&entry.label, x + SAMPLE + SAMPLE_GAP, top, Align::Left, Size::NORMAL, TEXT);
        }
    }
}

fn draw_sample(canvas: &mut Canvas, x: f64, y: f64, entry: &Entry) {
    let area = Rect::new(x, y - MARKER - 1.0, x + SAMPLE, y + MARKER + 1.0);
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
    }
    canvas.paint(&mask, entry.color, opacity);
    if entry.mark == Mark::Validation {
        let mut hole = Mask::new(&area);
        hole.segment(middle, middle, MARKER - 2.0);
        canvas.paint(&hole, BACKGROUND, 1.0);
    }
}
