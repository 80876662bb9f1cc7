//! Panels of what preference training records beside the loss, under TRL's names.

use super::Run;
use super::axis::Axis;
use super::canvas::{Align, Canvas, Color, Mask, Rect, Size};
use super::draw::{draw_curve, raw_opacity, usual};
use super::panel::Panel;
use super::series::Point;
use super::style::{BACKGROUND, RING, TEXT, VALIDATION, color};
use std::collections::BTreeMap;

/// Length of a sample of a line beside a panel's title, the room behind it, and that before it.
const SAMPLE: f64 = 26.0;
const SAMPLE_GAP: f64 = 8.0;
const KEY_GAP: f64 = 26.0;

/// Numbers by name, each (updates done, value) in ascending order.
pub type Curves = BTreeMap<String, Vec<Point>>;

/// A kind of panel.
#[derive(Debug, PartialEq)]
pub struct Kind {
    /// What it shows.
    pub title: &'static str,
    /// The names of its numbers in rows, and what they are called beside others in the panel.
    pub curves: &'static [(&'static str, &'static str)],
    /// The values that are always in it.
    holds: &'static [f64],
}

const fn kind(title: &'static str, curves: &'static [(&'static str, &'static str)], holds: &'static [f64]) -> Kind {
    Kind { title, curves, holds }
}

/// Rewards of answers.
pub(super) const REWARD: Kind = kind("reward", &[("reward", "")], &[]);
/// How often the better answer has the higher reward.
pub(super) const ACCURACY: Kind = kind("share of pairs ranked right", &[("rewards/accuracies", "")], &[0.5, 1.0]);

/// Every kind of panel, in the order in which they come.
static KINDS: [Kind; 7] = [
    REWARD,
    ACCURACY,
    kind("margin between the rewards of a pair", &[("rewards/margins", "")], &[0.0]),
    kind("KL divergence from the reference", &[("kl", "")], &[0.0]),
    kind("entropy", &[("entropy", "")], &[0.0]),
    kind(
        "share that is clipped",
        &[
            ("clip_ratio/low_mean", "low"),
            ("clip_ratio/high_mean", "high"),
            ("policy/clipfrac_avg", "policy"),
            ("val/clipfrac_avg", "value"),
        ],
        &[0.0],
    ),
    kind("tokens of an answer", &[("completions/mean_length", "mean"), ("completions/max_length", "longest")], &[0.0]),
];

/// The kinds of panels that have something to show of these runs.
pub(super) fn kinds(runs: &[Run]) -> impl Iterator<Item = &'static Kind> {
    KINDS.iter().filter(|kind| kind.has(runs))
}

impl Kind {
    /// Whether any run has a number to show.
    pub(super) fn has(&self, runs: &[Run]) -> bool {
        runs.iter().any(|run| self.points(run).any(|(_, value)| value.is_finite()))
    }

    fn points<'r>(&'r self, run: &'r Run) -> impl Iterator<Item = Point> + 'r {
        self.shown(run).flat_map(|(_, _, train, val)| train.iter().chain(val).copied())
    }

    /// Number and short name of each curve that the run has, with its points of updates and of validations.
    fn shown<'r>(&self, run: &'r Run) -> impl Iterator<Item = (usize, &'static str, &'r [Point], &'r [Point])> {
        let of = |curves: &'r Curves, name: &str| curves.get(name).map_or(&[][..], Vec::as_slice);
        let all = self.curves.iter().enumerate();
        let all = all.map(move |(i, (name, short))| (i, *short, of(&run.numbers, name), of(&run.val_numbers, name)));
        all.filter(|(_, _, train, val)| !train.is_empty() || !val.is_empty())
    }

    /// Holds the validations, and the numbers of updates but for the extreme hundredth.
    pub(super) fn axis(&self, runs: &[Run]) -> Axis {
        let mut values = self.holds.to_vec();
        for (_, _, train, val) in runs.iter().flat_map(|run| self.shown(run)) {
            values.extend(usual(train));
            values.extend(val.iter().map(|p| p.1));
        }
        match self.holds {
            [0.0] if values.iter().all(|value| *value >= 0.0 || value.is_nan()) => Axis::from_zero(values.into_iter()),
            _ => Axis::linear(values.into_iter(), 0.07),
        }
    }

    /// Frame and title of its panel. The horizontal axis is labelled if it has a `name`; where one run has several
    /// curves, their names stand beside the title, which must leave room for them, and else in it.
    pub(super) fn draw_frame(&self, canvas: &mut Canvas, panel: &Panel, name: Option<&str>, runs: &[Run]) {
        let mut names: Vec<(usize, &str)> = runs.iter().flat_map(|run| self.shown(run)).map(|s| (s.0, s.1)).collect();
        names.sort_unstable();
        names.dedup();
        let several = names.len() > 1;
        let listed = names.iter().map(|(_, short)| *short).collect::<Vec<_>>().join(", ");
        let title = if several && runs.len() > 1 { format!("{}: {listed}", self.title) } else { self.title.to_owned() };
        panel.draw_frame(canvas, &title, name);
        if several && runs.len() == 1 {
            let mut x = panel.area.left + Size::NORMAL.width(&title);
            for (i, short) in names {
                x = draw_key(canvas, x + KEY_GAP, panel.area.top - 28.0, short, curve_color(i));
            }
        }
    }

    /// The curves of each run, of which a single one has other colours for other curves.
    pub(super) fn draw_curves(&self, canvas: &mut Canvas, panel: &Panel, runs: &[Run]) {
        let alone = runs.len() == 1;
        for (i, run) in runs.iter().enumerate() {
            for (curve, _, train, val) in self.shown(run) {
                let paint = if alone { curve_color(curve) } else { color(i) };
                draw_curve(canvas, panel, train, paint, raw_opacity(runs));
                let paint = if alone { color(1) } else { color(i) };
                draw_rings(canvas, panel, val, paint, if alone { 1.0 } else { 0.35 });
            }
        }
    }
}

/// Colour of the curve number `i` of a single run; the second of all colours is that of validations.
fn curve_color(i: usize) -> Color {
    color(if i == 0 { 0 } else { i + 1 })
}

/// Validations as rings, and the line between them.
pub(super) fn draw_rings(canvas: &mut Canvas, panel: &Panel, val: &[Point], paint: Color, line: f64) {
    canvas.paint(&panel.curve(val, VALIDATION), paint, line);
    canvas.paint(&panel.discs(val, RING, 4.0 * RING), paint, 1.0);
    canvas.paint(&panel.discs(val, RING - 1.5, 4.0 * RING), BACKGROUND, 1.0);
}

/// A sample of a curve and its name, from `x` on; gives where that ends.
fn draw_key(canvas: &mut Canvas, x: f64, top: f64, name: &str, paint: Color) -> f64 {
    let y = top + Size::NORMAL.height() / 2.0;
    let end = x + SAMPLE;
    let mut mask = Mask::new(&Rect::new(x, y - 4.0, end, y + 4.0));
    mask.segment((x + 2.0, y), (end - 2.0, y), VALIDATION / 2.0);
    canvas.paint(&mask, paint, 1.0);
    canvas.text(name, end + SAMPLE_GAP, top, Align::Left, Size::NORMAL, TEXT);
    end + SAMPLE_GAP + Size::NORMAL.width(name)
}
