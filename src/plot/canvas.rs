//! Drawing with soft edges on a pixel image. Coordinates are in pixels from the top left corner; the pixel (i, j)
//! covers [i, i + 1) x [j, j + 1).

use super::font;
use image::{Rgb, RgbImage};

/// Red, green, blue.
pub type Color = [u8; 3];

/// An axis-parallel rectangle.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rect {
    /// Left edge.
    pub left: f64,
    /// Top edge.
    pub top: f64,
    /// Right edge.
    pub right: f64,
    /// Bottom edge.
    pub bottom: f64,
}

impl Rect {
    /// The rectangle with these edges.
    pub fn new(left: f64, top: f64, right: f64, bottom: f64) -> Rect {
        Rect { left, top, right, bottom }
    }

    /// Distance from left to right.
    pub fn width(&self) -> f64 {
        self.right - self.left
    }

    /// Distance from top to bottom.
    pub fn height(&self) -> f64 {
        self.bottom - self.top
    }

    /// The rectangle moved inwards by `by` on all sides.
    pub fn shrunk(&self, by: f64) -> Rect {
        Rect::new(self.left + by, self.top + by, self.right - by, self.bottom - by)
    }
}

/// How much of each pixel of a rectangle is covered, in [0, 1]. Strokes join by the maximum, so that a translucent line
/// has no dark joints.
#[derive(Clone, Debug)]
pub struct Mask {
    left: usize,
    top: usize,
    width: usize,
    height: usize,
    cover: Vec<f32>,
}

impl Mask {
    /// An empty mask over the pixels of `area`.
    pub fn new(area: &Rect) -> Mask {
        let (left, top) = (area.left.max(0.0).floor() as usize, area.top.max(0.0).floor() as usize);
        let width = (area.right.ceil().max(0.0) as usize).saturating_sub(left);
        let height = (area.bottom.ceil().max(0.0) as usize).saturating_sub(top);
        Mask { left, top, width, height, cover: vec![0.0; width * height] }
    }

    /// A line of joined points with round ends; one point alone is a dot. `radius` is half the thickness.
    pub fn polyline(&mut self, points: &[(f64, f64)], radius: f64) {
        if let [point] = points {
            self.segment(*point, *point, radius);
        }
        for pair in points.windows(2) {
            self.segment(pair[0], pair[1], radius);
        }
    }

    /// A level dashed line from `from` to `to`; dashes have a length and a distance.
    pub fn dashes(&mut self, from: f64, to: f64, y: f64, (length, distance): (f64, f64)) {
        let mut start = from + 1.0;
        while start + 1.0 < to {
            self.segment((start, y), ((start + length - 2.0).min(to - 1.0), y), 1.0);
            start += distance;
        }
    }

    /// The pixels within `radius` of the straight line from `a` to `b`.
    pub fn segment(&mut self, a: (f64, f64), b: (f64, f64), radius: f64) {
        let (dx, dy) = (b.0 - a.0, b.1 - a.1);
        let length = dx.hypot(dy);
        let reach = radius + 0.5;
        let (rows, first_row) = span(a.1.min(b.1) - reach, a.1.max(b.1) + reach, self.top, self.height);
        for row in first_row..first_row + rows {
            let y = (self.top + row) as f64 + 0.5;
            // Columns: of the whole line, and of the strip around the infinite line through it.
            let (mut from, mut to) = (a.0.min(b.0) - reach, a.0.max(b.0) + reach);
            if dy.abs() > 1e-9 {
                let middle = a.0 + (y - a.1) * dx / dy;
                let half = reach * length / dy.abs();
                from = from.max(middle - half);
                to = to.min(middle + half);
            }
            let (columns, first_column) = span(from, to, self.left, self.width);
            for column in first_column..first_column + columns {
                let x = (self.left + column) as f64 + 0.5;
                let along = if length > 0.0 { ((x - a.0) * dx + (y - a.1) * dy) / (length * length) } else { 0.0 };
                let along = along.clamp(0.0, 1.0);
                let distance = (x - a.0 - along * dx).hypot(y - a.1 - along * dy);
                let cover = (reach - distance).clamp(0.0, 1.0) as f32;
                let cell = &mut self.cover[row * self.width + column];
                *cell = cell.max(cover);
            }
        }
    }

    /// Total cover inside of `area`, in pixels.
    pub fn sum(&self, area: &Rect) -> f64 {
        let (rows, first_row) = span(area.top, area.bottom, self.top, self.height);
        let (columns, first_column) = span(area.left, area.right, self.left, self.width);
        let row = |row: usize| &self.cover[row * self.width + first_column..][..columns];
        (first_row..first_row + rows).flat_map(row).map(|c| f64::from(*c)).sum()
    }
}

/// Number of pixels and first pixel, relative to `origin` and within `limit`, that [from, to] touches.
fn span(from: f64, to: f64, origin: usize, limit: usize) -> (usize, usize) {
    let clamp = |x: f64| (x - origin as f64).clamp(0.0, limit as f64);
    let (first, end) = (clamp(from.floor()) as usize, clamp(to.ceil()) as usize);
    (end.saturating_sub(first), first)
}

/// Where a text stands relative to the x that it is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// It begins there.
    Left,
    /// Its middle is there.
    Center,
    /// It ends there.
    Right,
}

/// Size of a text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Size {
    /// Pixels a unit of the font.
    pub unit: f64,
    /// Thickness of a stroke in pixels.
    pub stroke: f64,
}

impl Size {
    /// Labels: capitals 14 pixels high.
    pub const NORMAL: Size = Size { unit: 2.0, stroke: 2.0 };
    /// Titles: capitals 21 pixels high.
    pub const TITLE: Size = Size { unit: 3.0, stroke: 3.0 };

    /// Width of a text in pixels.
    pub fn width(&self, text: &str) -> f64 {
        if text.is_empty() { 0.0 } else { font::lay_out(text).1 * self.unit + self.stroke }
    }

    /// Height of a capital in pixels.
    pub fn height(&self) -> f64 {
        font::CAP_HEIGHT * self.unit + self.stroke
    }

    /// The text, or its beginning with an ellipsis, whichever fits into `width` pixels.
    pub fn shortened(&self, text: &str, width: f64) -> String {
        if self.width(text) <= width {
            return text.to_owned();
        }
        let characters: Vec<char> = text.chars().collect();
        let beginning = |n: usize| format!("{}...", characters[..n].iter().collect::<String>().trim_end());
        let fitting = (0..characters.len()).rev().map(beginning).find(|text| self.width(text) <= width);
        fitting.unwrap_or_default()
    }
}

/// The picture.
#[derive(Clone, Debug)]
pub struct Canvas {
    /// What has been drawn so far.
    pub image: RgbImage,
}

impl Canvas {
    /// A picture of one colour.
    pub fn new(width: u32, height: u32, color: Color) -> Canvas {
        Canvas { image: RgbImage::from_pixel(width, height, Rgb(color)) }
    }

    /// Fills the pixels of a rectangle whose edges lie on pixel borders.
    pub fn fill(&mut self, area: &Rect, color: Color) {
        let clamp = |x: f64, limit: u32| x.round().clamp(0.0, f64::from(limit)) as u32;
        let (width, height) = self.image.dimensions();
        for y in clamp(area.top, height)..clamp(area.bottom, height) {
            for x in clamp(area.left, width)..clamp(area.right, width) {
                self.image.put_pixel(x, y, Rgb(color));
            }
        }
    }

    /// Mixes `color` into the picture, as far as `mask` covers it times `opacity`.
    pub fn paint(&mut self, mask: &Mask, color: Color, opacity: f64) {
        let (width, height) = self.image.dimensions();
        for (row, line) in mask.cover.chunks(mask.width.max(1)).enumerate() {
            for (column, cover) in line.iter().enumerate() {
                let (x, y) = ((mask.left + column) as u32, (mask.top + row) as u32);
                if *cover > 0.0 && x < width && y < height {
                    let share = f64::from(*cover) * opacity;
                    for (old, new) in self.image.get_pixel_mut(x, y).0.iter_mut().zip(color) {
                        *old = (f64::from(*old) * (1.0 - share) + f64::from(new) * share).round() as u8;
                    }
                }
            }
        }
    }

    /// Draws a text whose capitals' tops are at `top`.
    pub fn text(&mut self, text: &str, x: f64, top: f64, align: Align, size: Size, color: Color) {
        let (glyphs, _) = font::lay_out(text);
        let width = size.width(text);
        let left = match align {
            Align::Left => x,
            Align::Center => x - width / 2.0,
            Align::Right => x - width,
        };
        // Half a stroke in from whole pixels, so that upright and level strokes fill whole pixels.
        let (left, top) = (left.round() + size.stroke / 2.0, top.round() + size.stroke / 2.0);
        let descent = 2.0 * size.unit;
        let area = Rect::new(left - 2.0, top - 2.0, left + width + 2.0, top + size.height() + descent + 2.0);
        let mut mask = Mask::new(&area);
        for (offset, glyph) in glyphs {
            for stroke in &glyph.strokes {
                let place = |&(x, y): &(f64, f64)| (left + (offset + x) * size.unit, top + y * size.unit);
                let points: Vec<_> = stroke.iter().map(place).collect();
                mask.polyline(&points, size.stroke / 2.0);
            }
        }
        self.paint(&mask, color, 1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLACK: Color = [0, 0, 0];
    const WHITE: Color = [255, 255, 255];

    #[test]
    fn a_level_line_on_a_pixel_border_fills_whole_pixels_only() {
        let mut canvas = Canvas::new(20, 10, WHITE);
        let mut mask = Mask::new(&Rect::new(0.0, 0.0, 20.0, 10.0));
        mask.polyline(&[(5.0, 5.0), (15.0, 5.0)], 1.0);
        canvas.paint(&mask, BLACK, 1.0);
        let column: Vec<u8> = (0..10).map(|y| canvas.image.get_pixel(10, y).0[0]).collect();
        assert_eq!(column, [255, 255, 255, 255, 0, 0, 255, 255, 255, 255]);
    }

    #[test]
    fn a_translucent_line_has_no_dark_joints() {
        let mut mask = Mask::new(&Rect::new(0.0, 0.0, 40.0, 10.0));
        let points: Vec<_> = (2..38).map(|x| (f64::from(x), 5.0)).collect();
        mask.polyline(&points, 1.0);
        let mut canvas = Canvas::new(40, 10, WHITE);
        canvas.paint(&mask, BLACK, 0.5);
        assert!((3..37).all(|x| canvas.image.get_pixel(x, 5).0 == canvas.image.get_pixel(3, 5).0));
        assert_eq!(canvas.image.get_pixel(3, 5).0[0], 128);
    }

    #[test]
    fn a_slanted_line_covers_its_length_times_its_thickness() {
        let area = Rect::new(0.0, 0.0, 100.0, 100.0);
        let mut mask = Mask::new(&area);
        mask.segment((20.0, 30.0), (70.0, 80.0), 2.0);
        let expected = 50.0 * 2f64.sqrt() * 4.0 + std::f64::consts::PI * 4.0;
        assert!((mask.sum(&area) / expected - 1.0).abs() < 0.02, "{} {expected}", mask.sum(&area));
    }

    #[test]
    fn what_leaves_the_mask_is_cut_off() {
        let mut mask = Mask::new(&Rect::new(10.0, 10.0, 20.0, 20.0));
        mask.segment((-1e6, 15.0), (1e6, 15.0), 1.0);
        mask.segment((15.0, -1e6), (15.0, 1e6), 1.0);
        mask.segment((-500.0, -500.0), (-400.0, -400.0), 1.0);
        assert_eq!(mask.sum(&Rect::new(0.0, 0.0, 100.0, 100.0)), 36.0);
    }

    #[test]
    fn a_long_text_is_shortened_until_it_fits() {
        let size = Size::NORMAL;
        assert_eq!(size.shortened("short", 500.0), "short");
        let text = size.shortened("a text that goes on and on", 150.0);
        assert!(text.ends_with("...") && size.width(&text) <= 150.0, "{text}");
        assert_eq!(size.shortened("word", 1.0), "");
    }
}
