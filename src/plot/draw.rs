//! From runs to shapes: where the panels lie and what is drawn in them.

use super::PlotOptions;
use super::axis::{Axis, Scale, extent};
use super::canvas::{Align, Canvas, Color, Line, Rect, Shape, Size};
use super::kind::{self, Kind};
use super::legend;
use super::panel::{Panel, Pen};
use super::raster::covered;
use super::run::{Run, about, placed};
use super::series::smooth;
use super::style::{
    BACKGROUND, DASHES, ENTROPY, GUTTER, HEADING, HEIGHT, LEFT, LOWER, MARKER, RAW, RIGHT, RING, SMOOTHED, SPACING,
    TEXT, UNDER, UPPER, VALIDATION, WIDTH, color, dash,
};

/// Length of a sample of a line beside a panel's title, the room behind it, and that before it.
const SAMPLE: f64 = 26.0;
const SAMPLE_GAP: f64 = 8.0;
const KEY_GAP: f64 = 26.0;

/// Where the panels of a picture lie, and the values at their edges.
#[derive(Clone, Debug, PartialEq)]
pub struct Layout {
    /// What the runs are judged by: the loss, or what a stage has instead.
    pub main: (Kind, Panel),
    /// What else there is to show, in smaller panels.
    pub others: Vec<(Kind, Panel)>,
    /// Height of the picture.
    pub height: u32,
}

/// How thick things are in a panel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    smoothed: f64,
    marker: f64,
    hole: f64,
}

impl Look {
    /// In a large panel.
    pub(super) const LARGE: Look = Look { smoothed: SMOOTHED, marker: MARKER, hole: MARKER - 2.0 };
    /// In a small one.
    pub(super) const SMALL: Look = Look { smoothed: VALIDATION, marker: RING, hole: RING - 1.5 };
}

/// The layout that [`render`] uses for these runs.
pub fn layout(runs: &[Run], options: &PlotOptions) -> Layout {
    arrange(&placed(runs, options.by).0, options)
}

/// Draws the runs over each other.
pub fn render(runs: &[Run], options: &PlotOptions) -> Canvas {
    let title = about(runs);
    let (runs, name) = placed(runs, options.by);
    let layout = arrange(&runs, options);
    let mut canvas = Canvas::new(WIDTH, layout.height, BACKGROUND);
    draw_title(&mut canvas, &heading(&runs, options), &title);
    legend::draw(&mut canvas, &legend::rows(&legend::entries(&runs, &layout.main.0, layout.main.1.y.scale, options)));
    let last = layout.others.last().unwrap_or(&layout.main).1.area.bottom;
    for (i, (kind, panel)) in std::iter::once(&layout.main).chain(&layout.others).enumerate() {
        draw_frame(&mut canvas, kind, panel, (panel.area.bottom == last).then_some(name), &runs);
        let look = if i == 0 { Look::LARGE } else { Look::SMALL };
        draw_curves(&mut canvas, kind, panel, look, &runs, options);
    }
    if runs.iter().all(|run| run.train.is_empty() && run.val.is_empty()) {
        let area = layout.main.1.area;
        let (x, y) = ((area.left + area.right) / 2.0, area.top + area.height() / 4.0);
        canvas.text("nothing recorded yet", x, y, Align::Center, Size::NORMAL, TEXT);
    }
    canvas
}

/// The main panel above, the others under it in two columns, the last, where it is alone in its row, in both. The
/// picture is higher than usual where the main panel would be low.
fn arrange(runs: &[Run], options: &PlotOptions) -> Layout {
    let main = kind::main(runs, options);
    let others = kind::others(runs, &main, options);
    let (x, y) = (horizontal_axis(runs), main.axis(runs, options));
    let top = top(legend::rows(&legend::entries(runs, &main, y.scale, options)).lines.len());
    let rows = others.len().div_ceil(2) as f64;
    let bottom = (f64::from(HEIGHT) - UNDER - rows * (LOWER + SPACING)).max(top + UPPER);
    let panel = |area, y| Panel { area, x, y };
    let main_panel = panel(Rect::new(LEFT, top, RIGHT, bottom), y);
    let (count, first) = (others.len(), bottom + SPACING);
    let place = |(i, kind): (usize, Kind)| {
        let y = kind.axis(runs, options);
        (kind, panel(cell(i, count, first, LOWER, SPACING), y))
    };
    let others: Vec<_> = others.into_iter().enumerate().map(place).collect();
    let lowest = others.last().map_or(bottom, |(_, panel): &(Kind, Panel)| panel.area.bottom);
    Layout { main: (main, main_panel), others, height: (lowest + UNDER).ceil() as u32 }
}

/// Place number `i` of `count` in two columns under `top`, in rows of a `height` that are `room` apart; the last one,
/// where it is alone in its row, has both columns.
pub(super) fn cell(i: usize, count: usize, top: f64, height: f64, room: f64) -> Rect {
    let half = (RIGHT - LEFT - GUTTER) / 2.0;
    let (top, left) = (top + (i / 2) as f64 * (height + room), if i.is_multiple_of(2) { LEFT } else { RIGHT - half });
    let right = if i + 1 == count { RIGHT } else { left + half };
    Rect::new(left, top, right, top + height)
}

/// Top of the highest panel, under the legend.
pub(super) fn top(legend_lines: usize) -> f64 {
    legend::TOP + legend::LINE * legend_lines as f64 + 44.0
}

/// From 0 to the end of the longest curve.
pub(super) fn horizontal_axis(runs: &[Run]) -> Axis {
    let ends = runs.iter().flat_map(|run| {
        let curves = [&run.train, &run.val, &run.learning_rate, &run.grad_norm];
        let numbers = run.numbers.values().chain(run.val_numbers.values());
        curves.into_iter().chain(numbers).filter_map(|points| extent(points.iter().map(|p| p.0)))
    });
    // A single step has its place at 1.
    let last = ends.fold(0.0f64, |last, (_, high)| last.max(high));
    Axis { low: 0.0, high: if last > 1e-9 { last.min(1e100) } else { 1.0 }, scale: Scale::Linear }
}

/// What stands in large letters.
pub(super) fn heading(runs: &[Run], options: &PlotOptions) -> String {
    options.title.clone().unwrap_or_else(|| match runs {
        [run] => run.name.clone(),
        _ => format!("{} runs", runs.len()),
    })
}

/// The title, and behind it what is known of the runs.
pub(super) fn draw_title(canvas: &mut Canvas, title: &str, about: &str) {
    let title = Size::TITLE.shortened(title, RIGHT - LEFT);
    canvas.text(&title, LEFT, 30.0, Align::Left, Size::TITLE, HEADING);
    let from = LEFT + Size::TITLE.width(&title) + 28.0;
    let about = Size::NORMAL.shortened(about, RIGHT - from);
    canvas.text(&about, from, 37.0, Align::Left, Size::NORMAL, ENTROPY);
}

/// How much a raw curve hides of what is under it: the less, the denser its points and the more runs there are.
pub(super) fn raw_opacity(runs: &[Run]) -> f64 {
    let longest = runs.iter().map(|run| run.train.len()).max().unwrap_or(0);
    let alone = if longest > 2000 { 0.28 } else { 0.45 };
    if runs.len() > 1 { alone * 0.6 } else { alone }
}

/// Frame and title of a panel, and what tells its curves apart. The horizontal axis has a `name` if one is given.
pub(super) fn draw_frame(canvas: &mut Canvas, kind: &Kind, panel: &Panel, name: Option<&str>, runs: &[Run]) {
    let names = kind.names(runs);
    let mut title = kind.heading(&panel.y, runs);
    if names.len() > 1 && runs.len() > 1 {
        title += &format!(": {}", names.iter().map(|(_, short)| *short).collect::<Vec<_>>().join(", "));
    }
    let title = Size::NORMAL.shortened(&title, panel.area.width());
    panel.draw_frame(canvas, &title, name);
    let mut x = panel.area.left + Size::NORMAL.width(&title);
    for (i, short) in names.into_iter().filter(|_| runs.len() == 1) {
        let pen = Pen { thickness: VALIDATION, dash: &[], color: curve_color(i), opacity: 1.0 };
        x = draw_key(canvas, x + KEY_GAP, panel.area.top - 28.0, short, pen);
    }
    if let Some((_, text)) = kind.balance(runs) {
        let pen = Pen { thickness: VALIDATION, dash: DASHES, color: ENTROPY, opacity: 1.0 };
        draw_key(canvas, x + KEY_GAP, panel.area.top - 28.0, &text, pen);
    }
}

/// The curves of each run: with a point for each step, faint, and smoothed, and rings for validations. A single run has
/// other colours for other curves.
pub(super) fn draw_curves(
    canvas: &mut Canvas,
    kind: &Kind,
    panel: &Panel,
    look: Look,
    runs: &[Run],
    options: &PlotOptions,
) {
    let alone = runs.len() == 1;
    let faint = raw_opacity(runs);
    let level = options.entropy.filter(|e| e.is_finite() && kind.is_loss());
    let (first, add) = (canvas.shapes.len(), |canvas: &mut Canvas, line| canvas.shapes.push(Shape::Line(line)));
    let each = || runs.iter().enumerate().flat_map(|(i, run)| kind.shown(run).map(move |shown| (i, shown)));
    let paint = |i: usize, curve: usize| if alone { curve_color(curve) } else { color(i) };
    let pattern = |i: usize| if alone { &[][..] } else { dash(i) };
    for (i, (curve, _, train, _)) in each().filter(|_| !kind.is_exact()) {
        add(canvas, panel.line(train, Pen { thickness: RAW, dash: &[], color: paint(i, curve), opacity: faint }));
    }
    if let Some(y) = level.or(kind.balance(runs).map(|(share, _)| share)).filter(|y| panel.y.share(*y).is_finite()) {
        let y = panel.pixel((0.0, y)).1.round();
        let pieces = vec![vec![(panel.area.left + 1.0, y), (panel.area.right - 1.0, y)]];
        let (thickness, dash, color, clip) = (VALIDATION, DASHES, ENTROPY, panel.area);
        add(canvas, Line { pieces, thickness, dash, clip, color, opacity: 1.0 });
    }
    for (i, (curve, _, train, _)) in each() {
        let reach = if kind.is_exact() { 0 } else { options.reach(train.len()) };
        let pen = Pen { thickness: look.smoothed, dash: pattern(i), color: paint(i, curve), opacity: 1.0 };
        add(canvas, panel.line(&smooth(train, reach, panel.y.scale), pen));
    }
    for (i, (_, _, _, val)) in each() {
        // Among several runs a validation has its run's colour, and its line steps back behind the markers.
        let (color, opacity) = if alone { (color(1), 1.0) } else { (color(i), 0.35) };
        add(canvas, panel.line(val, Pen { thickness: VALIDATION, dash: &[], color, opacity }));
        panel.draw_rings(canvas, val, look.marker, look.hole, color);
    }
    if let Some(entropy) = level {
        draw_label(canvas, panel, entropy, first);
    }
}

/// Colour of the curve number `i` of a single run; the second of all colours is that of validations.
fn curve_color(i: usize) -> Color {
    color(if i == 0 { 0 } else { i + 1 })
}

/// A sample of a curve and its name, from `x` on; gives where that ends.
fn draw_key(canvas: &mut Canvas, x: f64, top: f64, name: &str, pen: Pen) -> f64 {
    let y = top + Size::NORMAL.height() / 2.0;
    let end = x + SAMPLE;
    let Pen { thickness, dash, color, opacity } = pen;
    let (pieces, clip) = (vec![vec![(x + 2.0, y), (end - 2.0, y)]], Rect::new(x, y - 4.0, end, y + 4.0));
    canvas.shapes.push(Shape::Line(Line { pieces, thickness, dash, clip, color, opacity }));
    canvas.text(name, end + SAMPLE_GAP, top, Align::Left, Size::NORMAL, TEXT);
    end + SAMPLE_GAP + Size::NORMAL.width(name)
}

/// The name of the entropy line, at the first of its four ends' sides that the curves, which are the shapes from the
/// `first` on, leave free, or else nowhere.
fn draw_label(canvas: &mut Canvas, panel: &Panel, entropy: f64, first: usize) {
    const TEXT: &str = "entropy";
    let (width, height) = (Size::NORMAL.width(TEXT), Size::NORMAL.height());
    let y = panel.pixel((0.0, entropy)).1.round();
    let lefts = [panel.area.right - 10.0 - width, panel.area.left + 10.0];
    // Descenders reach a little under the capitals' height.
    let place = |left, top| Rect::new(left, top, left + width, top + height + 4.0);
    let places = lefts.into_iter().flat_map(|left| [place(left, y + 9.0), place(left, y - 11.0 - height)]);
    let free = |area: &Rect| {
        let around = area.shrunk(-3.0);
        canvas.shapes[first..].iter().all(|shape| match shape {
            Shape::Line(line) => line.color == ENTROPY || covered(line, &around) == 0.0,
            Shape::Discs { centres, radius, .. } => {
                let near = around.shrunk(-radius);
                !centres.iter().any(|(x, y)| (near.left..near.right).contains(x) && (near.top..near.bottom).contains(y))
            }
            _ => true,
        })
    };
    let inside = |area: &Rect| area.top > panel.area.top && area.bottom < panel.area.bottom;
    if let Some(area) = places.filter(inside).find(free) {
        canvas.text(TEXT, area.left, area.top, Align::Left, Size::NORMAL, ENTROPY);
    }
}
