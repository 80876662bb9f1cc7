//! The legend: what each kind of line means, with the figure it ends at, above the panels where no curve can hide it.

use super::PlotOptions;
use super::axis::{Scale, thousands};
use super::canvas::{Align, Canvas, Color, Line, Rect, Shape, Size};
use super::draw::raw_opacity;
use super::kind::Kind;
use super::run::Run;
use super::series::{end, smooth};
use super::style::{DASHES, ENTROPY, LEFT, MARKER, RAW, RIGHT, SMOOTHED, TEXT, VALIDATION, color, dash};

/// Top of the first line, and distance of the lines.
pub const TOP: f64 = 76.0;
/// Height of a line.
pub const LINE: f64 = 30.0;
/// More lines than this would leave no room for the curves.
const MOST_LINES: usize = 5;

/// Width of a sample of a line, and the room behind a sample and behind an entry.
const SAMPLE: f64 = 44.0;
const SAMPLE_GAP: f64 = 12.0;
const ENTRY_GAP: f64 = 40.0;
/// Room for "and 123 more".
const MORE: f64 = 180.0;
/// Longest names of runs among several, from which those are taken that leave no entry alone in the last line.
const NAMES: [f64; 5] = [320.0, 280.0, 240.0, 200.0, 160.0];

/// One entry: a sample and what it means.
#[derive(Clone, Debug)]
pub struct Entry {
    label: String,
    color: Color,
    mark: Mark,
}

impl Entry {
    fn width(&self) -> f64 {
        SAMPLE + SAMPLE_GAP + Size::NORMAL.width(&self.label)
    }
}

/// How an entry's sample looks.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mark {
    /// A faint line, as faint as this.
    Raw(f64),
    Smoothed,
    Validation,
    Dashes,
    /// A line as thick as a smoothed one, with the dashes of this run.
    Run(usize),
}

/// The entries for these runs, whose main panel shows this kind on an axis of this scale.
pub fn entries(runs: &[Run], kind: &Kind, scale: Scale, options: &PlotOptions) -> Vec<Entry> {
    let entropy = options.entropy.filter(|e| e.is_finite() && kind.is_loss()).map(|entropy| {
        let label = format!("entropy of the text{}", figure(Some(entropy)));
        Entry { label, color: ENTROPY, mark: Mark::Dashes }
    });
    let ends = Ends { kind, scale, options };
    let [run] = runs else {
        // What is common to all comes first, as many runs may not all find room.
        let common: Vec<Entry> = of_all(runs, kind).into_iter().chain(entropy).collect();
        let with = |widest: f64| common.iter().cloned().chain(ends.of_each(runs, widest)).collect::<Vec<_>>();
        let widths = || NAMES.into_iter().filter(|width| runs.len() <= 6 || *width <= NAMES[4]);
        let even = |entries: &Vec<Entry>| !rows(entries).ends_alone();
        return widths().map(with).find(even).unwrap_or_else(|| with(NAMES[4]));
    };
    ends.of_one(run).into_iter().chain(entropy).collect()
}

/// The entries for stages one after the other.
pub fn of_story(stages: &[Run]) -> Vec<Entry> {
    let mut entries = Vec::new();
    let faint = raw_opacity(&stages[..stages.len().min(1)]);
    let entry = |label: &str, i: usize, mark| Entry { label: label.to_owned(), color: color(i), mark };
    if stages.iter().any(|run| !run.train.is_empty()) {
        entries.extend([entry("train, each step", 0, Mark::Raw(faint)), entry("smoothed", 0, Mark::Smoothed)]);
    }
    if stages.iter().any(|run| !run.val.is_empty()) {
        entries.push(entry("held out", 1, Mark::Validation));
    }
    entries
}

/// What the entries of runs need to know beside them.
struct Ends<'o> {
    kind: &'o Kind,
    scale: Scale,
    options: &'o PlotOptions,
}

impl Ends<'_> {
    /// What the main curves of a run end at: the smoothed one, and that of the validations.
    fn of(&self, run: &Run) -> (Option<f64>, Option<f64>) {
        self.kind.shown(run).next().map_or((None, None), |(_, _, train, val)| {
            (end(&smooth(train, self.options.reach(train.len()), self.scale)), end(val))
        })
    }

    fn of_one(&self, run: &Run) -> Vec<Entry> {
        let (train, val) = has(std::slice::from_ref(run), self.kind);
        let (train_end, val_end) = self.of(run);
        let mut entries = Vec::new();
        let count = self.kind.shown(run).next().map_or(0, |(_, _, train, _)| train.len());
        let reach = self.options.reach(count);
        if reach > 0 {
            let mark = Mark::Raw(raw_opacity(std::slice::from_ref(run)));
            entries.push(Entry { label: "train, each step".to_owned(), color: color(0), mark });
        }
        if train {
            let window = thousands(&(2 * reach + 1).to_string());
            let name = if reach > 0 { format!("train, smoothed over {window} steps") } else { "train".to_owned() };
            entries.push(Entry { label: name + &figure(train_end), color: color(0), mark: Mark::Smoothed });
        }
        if val {
            let label = format!("validation{}", figure(val_end));
            entries.push(Entry { label, color: color(1), mark: Mark::Validation });
        }
        entries
    }

    fn of_each(&self, runs: &[Run], widest: f64) -> impl Iterator<Item = Entry> {
        runs.iter().enumerate().map(move |(i, run)| {
            let (train, val) = self.of(run);
            let of = |what: &str, end: Option<f64>| end.map_or(String::new(), |_| format!("  {what}{}", figure(end)));
            let name = Size::NORMAL.shortened_within(&run.name, widest);
            let label = format!("{name}{}{}", of("train", train), of("val", val));
            Entry { label, color: color(i), mark: Mark::Run(i) }
        })
    }
}

fn of_all(runs: &[Run], kind: &Kind) -> Vec<Entry> {
    let (train, val) = has(runs, kind);
    let entry = |label: &str, mark| Entry { label: label.to_owned(), color: TEXT, mark };
    let train = train.then(|| entry("train, smoothed", Mark::Smoothed));
    train.into_iter().chain(val.then(|| entry("validation", Mark::Validation))).collect()
}

/// Whether the kind shows points of steps, and of validations.
fn has(runs: &[Run], kind: &Kind) -> (bool, bool) {
    let curves = || runs.iter().flat_map(|run| kind.shown(run));
    (curves().any(|(_, _, train, _)| !train.is_empty()), curves().any(|(_, _, _, val)| !val.is_empty()))
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

impl Rows<'_> {
    /// Whether one entry is alone in the last of several lines.
    fn ends_alone(&self) -> bool {
        self.lines.len() > 1 && self.lines.last().is_some_and(|line| line.len() == 1) && self.rest.is_none()
    }
}

/// Places the entries, as many as the allowed lines hold, in as few lines as they need and these about equally long.
pub fn rows(entries: &[Entry]) -> Rows<'_> {
    let widest = placed(entries, RIGHT);
    if widest.rest.is_some() {
        return widest;
    }
    // The narrowest that needs no more lines.
    let narrower = (1..30).map(|i| RIGHT - (RIGHT - LEFT) / 40.0 * f64::from(i)).map(|right| placed(entries, right));
    let fitting = narrower.take_while(|rows| rows.rest.is_none() && rows.lines.len() == widest.lines.len());
    let mut rows = fitting.filter(|rows| rows.lines.len() > 1).last().unwrap_or(widest);
    if rows.ends_alone()
        && let [.., before, last] = &mut rows.lines[..]
        && before.len() > 2
        && let Some((_, entry)) = before.pop()
    {
        last.iter_mut().for_each(|(x, _)| *x += entry.width() + ENTRY_GAP);
        last.insert(0, (LEFT, entry));
    }
    rows
}

fn placed(entries: &[Entry], right: f64) -> Rows<'_> {
    let mut rows = Rows::default();
    let mut x = f64::INFINITY;
    for (i, entry) in entries.iter().enumerate() {
        let width = entry.width();
        // The last line keeps room for the count of those that do not fit.
        let last = rows.lines.len() == MOST_LINES;
        let end = if last && i + 1 < entries.len() { right - MORE } else { right };
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
            canvas.text(&entry.label, x + SAMPLE + SAMPLE_GAP, top(line), Align::Left, Size::NORMAL, TEXT);
        }
    }
    if let Some((x, text)) = &rows.rest {
        canvas.text(text, *x, top(rows.lines.len() - 1), Align::Left, Size::NORMAL, TEXT);
    }
}

fn draw_sample(canvas: &mut Canvas, x: f64, y: f64, entry: &Entry) {
    let clip = Rect::new(x, y - MARKER - 2.0, x + SAMPLE, y + MARKER + 2.0);
    let (thickness, dash, opacity) = match entry.mark {
        Mark::Raw(faint) => (RAW, &[][..], faint),
        Mark::Smoothed => (SMOOTHED, &[][..], 1.0),
        Mark::Validation => (VALIDATION, &[][..], 1.0),
        Mark::Dashes => (VALIDATION, DASHES, 1.0),
        Mark::Run(i) => (SMOOTHED + 1.0, dash(i), 1.0),
    };
    let pieces = vec![vec![(x + 2.0, y), (x + SAMPLE - 2.0, y)]];
    canvas.shapes.push(Shape::Line(Line { pieces, thickness, dash, clip, color: entry.color, opacity }));
    if entry.mark == Mark::Validation {
        canvas.rings(vec![(x + SAMPLE / 2.0, y)], MARKER, MARKER - 2.0, clip, entry.color);
    }
}
