//! One coordinate system of a picture: its place, its axes, its grid and its labels.

use super::axis::{Axis, Tick};
use super::canvas::{Align, Canvas, Color, Line, Rect, Size};
use super::series::{Point, pieces};
use super::style::{FRAME, GRID, TEXT};

/// Room between the labels of two ticks of the horizontal axis.
const LABEL_GAP: f64 = 24.0;

/// A rectangle of the picture and the values at its edges.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Panel {
    /// Place of the axes, on whole pixels.
    pub area: Rect,
    /// Values from left to right.
    pub x: Axis,
    /// Values from bottom to top.
    pub y: Axis,
}

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pen {
    /// Thickness in pixels.
    pub thickness: f64,
    /// Lengths of dashes and gaps in turn; empty for a line without gaps.
    pub dash: &'static [f64],
    /// Its colour.
    pub color: Color,
    /// How much it hides of what is under it.
    pub opacity: f64,
}

impl Panel {
    /// The position of a point in pixels. Values far outside end up just far enough outside to be cut off.
    pub fn pixel(&self, (x, y): Point) -> Point {
        let (x, y) = (self.x.share(x).clamp(-9.0, 9.0), self.y.share(y).clamp(-9.0, 9.0));
        (self.area.left + x * self.area.width(), self.area.bottom - y * self.area.height())
    }

    /// Grid lines, axes and labels; `title` stands above. The horizontal axis has a `name` if one is given.
    pub fn draw_frame(&self, canvas: &mut Canvas, title: &str, name: Option<&str>) {
        let area = self.area;
        let across = self.ticks_across();
        for tick in &across {
            let x = self.pixel((tick.value, self.y.low)).0.round();
            canvas.fill(Rect::new(x, area.top, x + 1.0, area.bottom), GRID);
        }
        for tick in self.y.ticks((area.height() / 45.0).max(4.0) as usize) {
            let y = self.pixel((self.x.low, tick.value)).1.round();
            canvas.fill(Rect::new(area.left, y, area.right, y + 1.0), GRID);
            let top = y - (Size::NORMAL.height() / 2.0).round();
            canvas.text(&tick.label, area.left - 12.0, top, Align::Right, Size::NORMAL, TEXT);
        }
        canvas.fill(Rect::new(area.left, area.bottom, area.right, area.bottom + 1.0), FRAME);
        canvas.text(title, area.left, area.top - 28.0, Align::Left, Size::NORMAL, TEXT);
        for tick in &across {
            let x = self.pixel((tick.value, self.y.low)).0.round();
            canvas.fill(Rect::new(x, area.bottom, x + 1.0, area.bottom + 6.0), FRAME);
            canvas.text(&tick.label, x, area.bottom + 12.0, Align::Center, Size::NORMAL, TEXT);
        }
        if let Some(name) = name {
            let middle = (area.left + area.right) / 2.0;
            canvas.text(name, middle, area.bottom + 40.0, Align::Center, Size::NORMAL, TEXT);
        }
    }

    /// Ticks of the horizontal axis, the last of them at its end.
    fn ticks_across(&self) -> Vec<Tick> {
        let count = (self.area.width() / 140.0).max(2.0) as usize;
        let whole = self.x.high >= 10.0 && self.x.high.fract() == 0.0;
        let ticks = |count| if whole { self.x.whole_ticks(count) } else { self.x.ticks(count) };
        let ends = |ticks: &[Tick]| ticks.last().is_some_and(|tick| tick.value == self.x.high);
        // Steps that reach the end are the best, even if they are a few more or less.
        let counts = [count, count + 1, count + 2, count - 1];
        if let Some(even) = counts.into_iter().map(ticks).find(|ticks| ends(ticks)) {
            return even;
        }
        let mut ticks = ticks(count);
        let end = self.x.end_tick();
        let room = |tick: &Tick| (Size::NORMAL.width(&tick.label) + Size::NORMAL.width(&end.label)) / 2.0 + LABEL_GAP;
        let at = |tick: &Tick| self.pixel((tick.value, self.y.low)).0;
        ticks.retain(|tick| at(&end) - at(tick) >= room(tick));
        ticks.push(end);
        ticks
    }

    /// The line through the points. A point between gaps becomes a dot.
    pub fn line(&self, points: &[Point], pen: Pen) -> Line {
        let Pen { thickness, dash, color, opacity } = pen;
        // A little over the edges, where a lone point may lie.
        let clip = self.area.shrunk(-thickness.ceil());
        Line { pieces: pieces(points, |p| self.pixel(p)), thickness, dash, clip, color, opacity }
    }

    /// Rings around those of the points that are at least four radii apart, and around the last one always. Rings on
    /// the panel's edge are whole.
    pub fn draw_rings(&self, canvas: &mut Canvas, points: &[Point], radius: f64, hole: f64, color: Color) {
        let inside = |place: &Point| place.1 >= self.area.top - 1.0 && place.1 <= self.area.bottom + 1.0;
        let places = points.iter().map(|p| self.pixel(*p)).filter(inside);
        let centres = spread(places, 4.0 * radius);
        canvas.rings(centres, radius, hole, self.area.shrunk(-radius.ceil() - 1.0), color);
    }
}

/// The points that are `distance` apart horizontally, from the last one backwards, and the finite ones only.
fn spread(points: impl DoubleEndedIterator<Item = Point>, distance: f64) -> Vec<Point> {
    let mut kept: Vec<Point> = Vec::new();
    for point in points.rev().filter(|(x, y)| x.is_finite() && y.is_finite()) {
        if kept.last().is_none_or(|next| next.0 - point.0 >= distance) {
            kept.push(point);
        }
    }
    kept
}
