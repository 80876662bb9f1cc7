//! From runs to pixels: where the panels lie and what is drawn in them.

use super::axis::{Axis, Scale, extent, short};
use super::canvas::{Align, Canvas, Mask, Rect, Size};
use super::legend;
use super::panel::Panel;
use super::series::{Point, smooth, smoothing_reach};
use super::style::{
    BACKGROUND, BOTTOM, DASHES, ENTROPY, GUTTER, HEADING, HEIGHT, LEFT, LOWER, MARKER, RAW, RIGHT, SMOOTHED, SPACING,
    TEXT, VALIDATION, WIDTH, color,
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
}

/// The layout that [`render`] uses for these runs.
pub fn layout(runs: &[Run], options: &PlotOptions) -> Layout {
    let y = loss_axis(runs, options);
    let entries = legend::entries(runs, options, y.scale, 1.0);
    arrange(runs, y, legend::rows(&entries).lines.len())
}

/// Draws the runs over each other.
pub fn render(runs: &[Run], options: &PlotOptions) -> RgbImage {
    let mut canvas = Canvas::new(WIDTH, HEIGHT, BACKGROUND);
    let faint = raw_opacity(runs);
    let y = loss_axis(runs, options);
    let entries = legend::entries(runs, options, y.scale, faint);
    let rows = legend::rows(&entries);
    let layout = arrange(runs, y, rows.lines.len());

    draw_title(&mut canvas, runs, options);
    legend::draw(&mut canvas, &rows);
    draw_losses(&mut canvas, &layout.loss, None, runs, options);
    if let Some(panel) = &layout.expert_load {
        let title = "shares of the busiest and the idlest expert of all layers";
        draw_lower(&mut canvas, panel, title, runs, |run| vec![&run.busiest, &run.idlest]);
    }
    if let Some(panel) = &layout.grad_norm {
        draw_lower(&mut canvas, panel, "gradient norm before clipping", runs, |run| vec![&run.grad_norm]);
    }
    let peak = extent(runs.iter().flat_map(|run| run.learning_rate.iter().map(|p| p.1)));
    let peak = peak.map_or(String::new(), |(_, peak)| format!(", peak {}", short(peak)));
    layout.learning_rate.draw_frame(&mut canvas, &format!("learning rate{peak}"), Some(UPDATES));
    for (i, run) in runs.iter().enumerate() {
        canvas.paint(&layout.learning_rate.curve(&run.learning_rate, VALIDATION), color(i), 1.0);
    }
    canvas.image
}

/// A lower panel: curves of each run with a point for each update, faint, and smoothed.
fn draw_lower(canvas: &mut Canvas, panel: &Panel, title: &str, runs: &[Run], curves: impl Fn(&Run) -> Vec<&[Point]>) {
    let (faint, scale) = (raw_opacity(runs), panel.y.scale);
    let note = if scale == Scale::Log { ", logarithmic" } else { "" };
    panel.draw_frame(canvas, &format!("{title}{note}"), None);
    for (i, run) in runs.iter().enumerate() {
        for curve in curves(run) {
            canvas.paint(&panel.curve(curve, RAW), color(i), faint);
            canvas.paint(&panel.curve(&smoothed(curve, scale), VALIDATION), color(i), 1.0);
        }
    }
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
    Layout {
        loss: Panel { area: area(LEFT, top(legend_lines), above - SPACING), x, y: loss },
        grad_norm: has_norms.then(|| Panel { area: norm_area, x, y: norm_axis(norms()) }),
        expert_load: has_loads.then(|| Panel { area: load_area, x, y: Axis::from_zero(loads()) }),
        learning_rate: Panel { area: rate_area, x, y: Axis::from_zero(values(|run| &run.learning_rate)) },
    }
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
        let mut raw: Vec<f64> = run.train.iter().map(|p| p.1).filter(|v| v.is_finite()).collect();
        if let Some(last) = raw.len().checked_sub(1) {
            for place in [last / 200, last - last / 200] {
                values.push(*raw.select_nth_unstable_by(place, f64::total_cmp).1);
            }
        }
        values.extend(smoothed(&run.train, Scale::Linear).iter().map(|p| p.1));
        values.extend(run.val.iter().map(|p| p.1));
    }
    match extent(values.iter().copied()) {
        Some((low, high)) if low > 0.0 && high / low > 100.0 => Axis::log(values.into_iter(), 0.04),
        _ => Axis::linear(values.into_iter(), 0.07),
    }
}

/// Training and validation losses in their panel, whose horizontal axis is labelled if it has a `name`.
pub(super) fn draw_losses(canvas: &mut Canvas, panel: &Panel, name: Option<&str>, runs: &[Run], options: &PlotOptions) {
    let (faint, logarithmic) = (raw_opacity(runs), panel.y.scale == Scale::Log);
    let note = if logarithmic { ", logarithmic" } else { "" };
    panel.draw_frame(canvas, &format!("loss in nats a token{note}"), name);
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
