//! From runs to pixels: where the panels lie and what is drawn in them.

use super::axis::{Axis, Scale, extent, short};
use super::canvas::{Align, Canvas, Color, Mask, Rect, Size};
use super::legend;
use super::panel::Panel;
use super::series::{Point, smooth, smoothing_reach};
use super::stage::{self, Kind};
use super::style::{
    BACKGROUND, BOTTOM, DASHES, ENTROPY, GUTTER, HEADING, HEIGHT, LEFT, LOWER, MARKER, RAW, RIGHT, SMOOTHED, SPACING,
    TEXT, UNDER, UPPER, VALIDATION, WIDTH, color,
};
use super::{PlotOptions, Run};
use image::RgbImage;

/// Name of an axis that counts updates.
pub(super) const UPDATES: &str = "updates";

/// Where the panels of a picture lie, and the values at their edges.
#[derive(Clone, Debug, PartialEq)]
pub struct Layout {
    /// Training and validation loss.
    pub loss: Panel,
    /// Gradient norm, if any run has one.
    pub grad_norm: Option<Panel>,
    /// Largest and smallest share of an expert, if any run has experts.
    pub expert_load: Option<Panel>,
    /// Learning rate.
    pub learning_rate: Panel,
    /// Numbers of preference training, if any run has such.
    pub numbers: Vec<(&'static Kind, Panel)>,
    /// Height of the picture.
    pub height: u32,
}

/// The layout that [`render`] uses for these runs.
pub fn layout(runs: &[Run], options: &PlotOptions) -> Layout {
    let y = loss_axis(runs, options);
    let entries = legend::entries(runs, options, y.scale, 1.0);
    arrange(runs, y, legend::rows(&entries).lines.len())
}

/// Draws the runs over each other.
pub fn render(runs: &[Run], options: &PlotOptions) -> RgbImage {
    let faint = raw_opacity(runs);
    let y = loss_axis(runs, options);
    let entries = legend::entries(runs, options, y.scale, faint);
    let rows = legend::rows(&entries);
    let layout = arrange(runs, y, rows.lines.len());
    // What is beside the learning rate, in the last row, has labels as that.
    let name = |panel: &Panel| (panel.area.bottom == layout.learning_rate.area.bottom).then_some(UPDATES);

    let mut canvas = Canvas::new(WIDTH, layout.height, BACKGROUND);
    draw_title(&mut canvas, runs, options);
    legend::draw(&mut canvas, &rows);
    draw_losses(&mut canvas, &layout.loss, None, runs, options);
    for (kind, panel) in &layout.numbers {
        kind.draw_frame(&mut canvas, panel, name(panel), runs);
        kind.draw_curves(&mut canvas, panel, runs);
    }
    if let Some(panel) = &layout.expert_load {
        let title = "shares of the busiest and the idlest expert of all layers";
        draw_lower(&mut canvas, panel, (title, name(panel)), runs, |run| vec![&run.busiest, &run.idlest]);
    }
    if let Some(panel) = &layout.grad_norm {
        let title = "gradient norm before clipping";
        draw_lower(&mut canvas, panel, (title, name(panel)), runs, |run| vec![&run.grad_norm]);
    }
    let peak = extent(runs.iter().flat_map(|run| run.learning_rate.iter().map(|p| p.1)));
    let peak = peak.map_or(String::new(), |(_, peak)| format!(", peak {}", short(peak)));
    layout.learning_rate.draw_frame(&mut canvas, &format!("learning rate{peak}"), Some(UPDATES));
    for (i, run) in runs.iter().enumerate() {
        canvas.paint(&layout.learning_rate.curve(&run.learning_rate, VALIDATION), color(i), 1.0);
    }
    canvas.image
}

/// A lower panel with its title and the name of its horizontal axis: curves of each run.
fn draw_lower(
    canvas: &mut Canvas,
    panel: &Panel,
    (title, name): (&str, Option<&str>),
    runs: &[Run],
    curves: impl Fn(&Run) -> Vec<&[Point]>,
) {
    let faint = raw_opacity(runs);
    let note = if panel.y.scale == Scale::Log { ", logarithmic" } else { "" };
    panel.draw_frame(canvas, &format!("{title}{note}"), name);
    for (i, run) in runs.iter().enumerate() {
        for curve in curves(run) {
            draw_curve(canvas, panel, curve, color(i), faint);
        }
    }
}

/// A curve of a lower panel: with a point for each update, `faint`, and smoothed.
pub(super) fn draw_curve(canvas: &mut Canvas, panel: &Panel, points: &[Point], paint: Color, faint: f64) {
    canvas.paint(&panel.curve(points, RAW), paint, faint);
    canvas.paint(&panel.curve(&smoothed(points, panel.y.scale), VALIDATION), paint, 1.0);
}

pub(super) fn draw_title(canvas: &mut Canvas, runs: &[Run], options: &PlotOptions) {
    let title = options.title.clone().unwrap_or_else(|| match runs {
        [run] => run.name.clone(),
        _ => format!("{} runs", runs.len()),
    });
    let title = Size::TITLE.shortened(&title, RIGHT - LEFT);
    canvas.text(&title, LEFT, 30.0, Align::Left, Size::TITLE, HEADING);
}

fn smoothed(points: &[Point], scale: Scale) -> Vec<Point> {
    smooth(points, smoothing_reach(points.len()), scale)
}

/// How much a raw curve hides of what is under it: the less, the denser its points and the more runs there are.
pub(super) fn raw_opacity(runs: &[Run]) -> f64 {
    let longest = runs.iter().map(|run| run.train.len()).max().unwrap_or(0);
    let alone = if longest > 2000 { 0.28 } else { 0.45 };
    if runs.len() > 1 { alone * 0.6 } else { alone }
}

/// From 0 to the end of the longest curve.
pub(super) fn horizontal_axis(runs: &[Run]) -> Axis {
    let curves = |run: &Run| {
        let ends = |points: &[Point]| extent(points.iter().map(|p| p.0));
        [&run.train, &run.val, &run.learning_rate, &run.grad_norm].into_iter().filter_map(|c| ends(c)).collect()
    };
    let ends: Vec<(f64, f64)> = runs.iter().flat_map::<Vec<_>, _>(curves).collect();
    let last = ends.iter().fold(1.0f64, |last, (_, high)| last.max(*high));
    Axis { low: 0.0, high: last, scale: Scale::Linear }
}

/// Top of the highest panel, under the legend.
pub(super) fn top(legend_lines: usize) -> f64 {
    legend::TOP + legend::LINE * legend_lines as f64 + 44.0
}

fn arrange(runs: &[Run], loss: Axis, legend_lines: usize) -> Layout {
    let x = horizontal_axis(runs);
    let numbers: Vec<&Kind> = stage::kinds(runs).collect();
    let values = |curve: fn(&Run) -> &[Point]| runs.iter().flat_map(move |run| curve(run).iter().map(|p| p.1));
    let norms = || values(|run| &run.grad_norm);
    let has_norms = norms().any(f64::is_finite);

    let loads = || values(|run| &run.busiest).chain(values(|run| &run.idlest));
    let has_loads = loads().any(f64::is_finite);

    let area = |left, top, bottom| Rect::new(left, top, RIGHT, bottom);
    let rate_area = area(LEFT, BOTTOM - LOWER, BOTTOM);
    let middle = area(LEFT, rate_area.top - SPACING - LOWER, rate_area.top - SPACING);
    let above = if has_norms || has_loads { middle.top } else { rate_area.top };
    // Norms and loads share a row, so that the loss keeps its height.
    let half = (RIGHT - LEFT - GUTTER) / 2.0;
    let norm_area = Rect { right: if has_loads { LEFT + half } else { RIGHT }, ..middle };
    let load_area = Rect { left: if has_norms { RIGHT - half } else { LEFT }, ..middle };
    let layout = Layout {
        loss: Panel { area: area(LEFT, top(legend_lines), above - SPACING), x, y: loss },
        grad_norm: has_norms.then(|| Panel { area: norm_area, x, y: norm_axis(norms()) }),
        expert_load: has_loads.then(|| Panel { area: load_area, x, y: Axis::from_zero(loads()) }),
        learning_rate: Panel { area: rate_area, x, y: Axis::from_zero(values(|run| &run.learning_rate)) },
        numbers: numbers.iter().map(|kind| (*kind, Panel { area: rate_area, x, y: kind.axis(runs) })).collect(),
        height: HEIGHT,
    };
    if numbers.is_empty() { layout } else { in_grid(layout) }
}

/// The same panels where those of preference training want room: under the losses, in two columns, the learning rate
/// last and, where it is alone in its row, in both. The picture is as high as they are.
fn in_grid(mut layout: Layout) -> Layout {
    layout.loss.area.bottom = layout.loss.area.top + UPPER;
    let first = layout.loss.area.bottom + SPACING;
    let numbers = layout.numbers.iter_mut().map(|(_, panel)| panel);
    let others = layout.grad_norm.iter_mut().chain(&mut layout.expert_load).chain([&mut layout.learning_rate]);
    let panels: Vec<&mut Panel> = numbers.chain(others).collect();
    let count = panels.len();
    for (i, panel) in panels.into_iter().enumerate() {
        panel.area = cell(i, count, first, LOWER, SPACING);
    }
    layout.height = (layout.learning_rate.area.bottom + UNDER).ceil() as u32;
    layout
}

/// Place number `i` of `count` in two columns under `top`, in rows of a `height` that are `room` apart; the last one,
/// where it is alone in its row, has both columns.
pub(super) fn cell(i: usize, count: usize, top: f64, height: f64, room: f64) -> Rect {
    let half = (RIGHT - LEFT - GUTTER) / 2.0;
    let (top, left) = (top + (i / 2) as f64 * (height + room), if i.is_multiple_of(2) { LEFT } else { RIGHT - half });
    let right = if i + 1 == count { RIGHT } else { left + half };
    Rect::new(left, top, right, top + height)
}

/// Linear from 0, or logarithmic where a few large norms would flatten the others.
fn norm_axis(norms: impl Iterator<Item = f64>) -> Axis {
    let mut norms: Vec<f64> = norms.filter(|v| v.is_finite()).collect();
    let count = norms.len();
    let high = norms.iter().fold(0.0f64, |high, v| high.max(*v));
    let middle = if count > 0 { *norms.select_nth_unstable_by(count / 2, f64::total_cmp).1 } else { 0.0 };
    if middle > 0.0 && high > 20.0 * middle {
        Axis::log(norms.into_iter(), 0.05)
    } else {
        Axis::from_zero(norms.into_iter())
    }
}

/// Holds the smoothed curves, the validations, and the raw values but for the extreme hundredth: these leave the panel
/// rather than flatten the rest. Logarithmic where the losses span more than two powers of ten.
pub(super) fn loss_axis(runs: &[Run], options: &PlotOptions) -> Axis {
    let mut values: Vec<f64> = options.entropy.into_iter().collect();
    for run in runs {
        values.extend(usual(&run.train));
        values.extend(run.val.iter().map(|p| p.1));
    }
    match extent(values.iter().copied()) {
        Some((low, high)) if low > 0.0 && high / low > 100.0 => Axis::log(values.into_iter(), 0.04),
        _ => Axis::linear(values.into_iter(), 0.07),
    }
}

/// Values of a curve that its panel has to show: the smoothed ones, and the raw ones but for the extreme hundredth.
pub(super) fn usual(points: &[Point]) -> Vec<f64> {
    let mut raw: Vec<f64> = points.iter().map(|p| p.1).filter(|v| v.is_finite()).collect();
    let mut values = Vec::new();
    if let Some(last) = raw.len().checked_sub(1) {
        for place in [last / 200, last - last / 200] {
            values.push(*raw.select_nth_unstable_by(place, f64::total_cmp).1);
        }
    }
    values.extend(smoothed(points, Scale::Linear).iter().map(|p| p.1));
    values
}

/// Training and validation losses in their panel, whose horizontal axis is labelled if it has a `name`.
pub(super) fn draw_losses(canvas: &mut Canvas, panel: &Panel, name: Option<&str>, runs: &[Run], options: &PlotOptions) {
    panel.draw_frame(canvas, &loss_title(panel, runs), name);
    draw_loss_curves(canvas, panel, runs, options);
}

/// What stands above it. Losses of preference training have no unit that all of them share.
pub(super) fn loss_title(panel: &Panel, runs: &[Run]) -> String {
    let unit = if runs.iter().any(Run::prefers) { "" } else { " in nats a token" };
    let note = if panel.y.scale == Scale::Log { ", logarithmic" } else { "" };
    format!("loss{unit}{note}")
}

/// What is in it.
pub(super) fn draw_loss_curves(canvas: &mut Canvas, panel: &Panel, runs: &[Run], options: &PlotOptions) {
    let faint = raw_opacity(runs);
    let entropy = options.entropy.filter(|e| e.is_finite());
    let mut label = entropy.map(|entropy| Label::new(panel, entropy));
    let mut paint = |canvas: &mut Canvas, mask: Mask, i: usize, opacity: f64| {
        if let Some(label) = &mut label {
            label.avoid(&mask);
        }
        canvas.paint(&mask, color(i), opacity);
    };
    for (i, run) in runs.iter().enumerate() {
        paint(canvas, panel.curve(&run.train, RAW), i, faint);
    }
    if let Some(entropy) = entropy {
        let mut mask = Mask::new(&panel.area);
        mask.dashes(panel.area.left, panel.area.right, panel.pixel((0.0, entropy)).1.round(), DASHES);
        canvas.paint(&mask, ENTROPY, 1.0);
    }
    for (i, run) in runs.iter().enumerate() {
        paint(canvas, panel.curve(&smoothed(&run.train, panel.y.scale), SMOOTHED), i, 1.0);
    }
    for (i, run) in runs.iter().enumerate() {
        // Among several runs a validation has its run's colour, and its line steps back behind the markers.
        let (i, opacity) = if runs.len() == 1 { (1, 1.0) } else { (i, 0.35) };
        paint(canvas, panel.curve(&run.val, VALIDATION), i, opacity);
        paint(canvas, panel.discs(&run.val, MARKER, 4.0 * MARKER), i, 1.0);
        canvas.paint(&panel.discs(&run.val, MARKER - 2.0, 4.0 * MARKER), BACKGROUND, 1.0);
    }
    if let Some(label) = label {
        label.draw(canvas);
    }
    if runs.iter().all(|run| run.train.is_empty() && run.val.is_empty()) {
        let (x, y) = ((panel.area.left + panel.area.right) / 2.0, panel.area.top + panel.area.height() / 4.0);
        canvas.text("nothing recorded yet", x, y, Align::Center, Size::NORMAL, TEXT);
    }
}

/// The name of the entropy line, at the first of its four ends' sides that curves leave free, or else nowhere.
struct Label {
    places: Vec<(Rect, f64)>,
}

impl Label {
    const TEXT: &str = "entropy";

    fn new(panel: &Panel, entropy: f64) -> Label {
        let (width, height) = (Size::NORMAL.width(Self::TEXT), Size::NORMAL.height());
        let y = panel.pixel((0.0, entropy)).1.round();
        let mut places = Vec::new();
        for left in [panel.area.right - 10.0 - width, panel.area.left + 10.0] {
            // Descenders reach a little under the capitals' height.
            for top in [y + 9.0, y - 11.0 - height] {
                places.push((Rect::new(left, top, left + width, top + height + 4.0), 0.0));
            }
        }
        places.retain(|(area, _)| area.top > panel.area.top && area.bottom < panel.area.bottom);
        Label { places }
    }

    fn avoid(&mut self, mask: &Mask) {
        for (area, hidden) in &mut self.places {
            *hidden += mask.sum(&area.shrunk(-3.0));
        }
    }

    fn draw(&self, canvas: &mut Canvas) {
        if let Some((area, _)) = self.places.iter().find(|(_, hidden)| *hidden == 0.0) {
            canvas.text(Self::TEXT, area.left, area.top, Align::Left, Size::NORMAL, ENTROPY);
        }
    }
}
