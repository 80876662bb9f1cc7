//! One coordinate system of a picture: its place, its axes, its grid and its labels.

use super::axis::{Axis, Tick};
use super::canvas::{Align, Canvas, Mask, Rect, Size};
use super::series::{Point, pieces};
use super::style::{FRAME, GRID, TEXT};

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

impl Panel {
    /// The position of a point in pixels. Values far outside end up just far enough outside to be cut off.
    pub fn pixel(&self, (x, y): Point) -> Point {
        let (x, y) = (self.x.share(x).clamp(-9.0, 9.0), self.y.share(y).clamp(-9.0, 9.0));
        (self.area.left + x * self.area.width(), self.area.bottom - y * self.area.height())
    }

    /// Grid lines, axis and labels; `title` stands above. The horizontal axis is labelled only if it has a `name`.
    pub fn draw_frame(&self, canvas: &mut Canvas, title: &str, name: Option<&str>) {
        let area = self.area;
        let vertical = self.x.whole_ticks((area.width() / 140.0) as usize);
        for tick in &vertical {
            let x = self.pixel((tick.value, self.y.low)).0.round();
            canvas.fill(&Rect::new(x, area.top, x + 1.0, area.bottom), GRID);
        }
        for tick in self.y.ticks((area.height() / 45.0).max(4.0) as usize) {
            let y = self.pixel((self.x.low, tick.value)).1.round();
            canvas.fill(&Rect::new(area.left, y, area.right, y + 1.0), GRID);
            let top = y - (Size::NORMAL.height() / 2.0).round();
            canvas.text(&tick.label, area.left - 12.0, top, Align::Right, Size::NORMAL, TEXT);
        }
        canvas.fill(&Rect::new(area.left, area.bottom, area.right, area.bottom + 1.0), FRAME);
        canvas.text(title, area.left, area.top - 28.0, Align::Left, Size::NORMAL, TEXT);
        if let Some(name) = name {
            self.draw_labels(canvas, &vertical, name);
        }
    }

    fn draw_labels(&self, canvas: &mut Canvas, ticks: &[Tick], name: &str) {
        let area = self.area;
        for tick in ticks {
            let x = self.pixel((tick.value, self.y.low)).0.round();
            canvas.fill(&Rect::new(x, area.bottom, x + 1.0, area.bottom + 6.0), FRAME);
            canvas.text(&tick.label, x, area.bottom + 14.0, Align::Center, Size::NORMAL, TEXT);
        }
        let middle = (area.left + area.right) / 2.0;
        canvas.text(name, middle, area.bottom + 42.0, Align::Center, Size::NORMAL, TEXT);
    }

    /// What a line of `thickness` through the points covers. A point between gaps becomes a dot.
    pub fn curve(&self, points: &[Point], thickness: f64) -> Mask {
        // A little over the edges, where a lone point may lie.
        let mut mask = Mask::new(&self.area.shrunk(-thickness.ceil()));
        for piece in pieces(points, |p| self.pixel(p)) {
            mask.polyline(&piece, if piece.len() == 1 { thickness } else { thickness / 2.0 });
        }
        mask
    }

    /// What the discs on the points cover, of those that are at least `distance` pixels apart; the last one always.
    /// Discs on the panel's edge are whole.
    pub fn discs(&self, points: &[Point], radius: f64, distance: f64) -> Mask {
        let mut mask = Mask::new(&self.area.shrunk(-radius.ceil() - 1.0));
        for (x, y) in spread(points.iter().map(|p| self.pixel(*p)), distance) {
            mask.segment((x, y), (x, y), radius);
        }
        mask
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
