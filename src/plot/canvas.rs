//! A picture as a list of shapes, from which [`super::raster`] makes pixels and [`super::svg`] an SVG file.
//! Coordinates are in pixels from the top left corner.

use super::font;
use super::series::Point;

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

    /// The text, or its beginning and end with an ellipsis between them, whichever fits into `width` pixels: names of
    /// runs often differ in their ends.
    pub fn shortened_within(&self, text: &str, width: f64) -> String {
        if self.width(text) <= width {
            return text.to_owned();
        }
        let characters: Vec<char> = text.chars().collect();
        let ends = |n: usize| {
            let (first, last) = (&characters[..n.div_ceil(2)], &characters[characters.len() - n / 2..]);
            format!("{}...{}", first.iter().collect::<String>(), last.iter().collect::<String>())
        };
        (0..characters.len()).rev().map(ends).find(|text| self.width(text) <= width).unwrap_or_default()
    }
}

/// Lines of joined points with round ends, of which what is outside of `clip` is cut off.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// The points of each; one point alone is a dot with the thickness as its radius.
    pub pieces: Vec<Vec<Point>>,
    /// Thickness in pixels.
    pub thickness: f64,
    /// Lengths of dashes and gaps in turn, in pixels, to which the round ends add; empty for a line without gaps.
    pub dash: &'static [f64],
    /// What can be seen of them.
    pub clip: Rect,
    /// Their colour.
    pub color: Color,
    /// How much they hide of what is under them, in [0, 1].
    pub opacity: f64,
}

/// What a picture is made of.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    /// A filled rectangle whose edges lie on pixel borders.
    Fill {
        /// The rectangle.
        area: Rect,
        /// Its colour.
        color: Color,
    },
    /// Lines.
    Line(Line),
    /// Filled discs.
    Discs {
        /// Their centres.
        centres: Vec<Point>,
        /// Their radius in pixels.
        radius: f64,
        /// What can be seen of them.
        clip: Rect,
        /// Their colour.
        color: Color,
    },
    /// A text whose capitals' tops are at `top`.
    Text {
        /// The text.
        text: String,
        /// Where it stands from left to right.
        x: f64,
        /// Top of its capitals.
        top: f64,
        /// What of it is at `x`.
        align: Align,
        /// Its size.
        size: Size,
        /// Its colour.
        color: Color,
    },
}

/// A picture, later shapes over earlier ones.
#[derive(Clone, Debug, PartialEq)]
pub struct Canvas {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Colour of the paper.
    pub color: Color,
    /// What has been drawn so far.
    pub shapes: Vec<Shape>,
}

impl Canvas {
    /// A picture of one colour.
    pub fn new(width: u32, height: u32, color: Color) -> Canvas {
        Canvas { width, height, color, shapes: Vec::new() }
    }

    /// Fills a rectangle whose edges lie on pixel borders.
    pub fn fill(&mut self, area: Rect, color: Color) {
        self.shapes.push(Shape::Fill { area, color });
    }

    /// Draws a text whose capitals' tops are at `top`.
    pub fn text(&mut self, text: &str, x: f64, top: f64, align: Align, size: Size, color: Color) {
        self.shapes.push(Shape::Text { text: text.to_owned(), x, top, align, size, color });
    }

    /// Discs of one colour with a hole of the paper's, as markers of validations.
    pub fn rings(&mut self, centres: Vec<Point>, radius: f64, hole: f64, clip: Rect, color: Color) {
        let paper = self.color;
        self.shapes.push(Shape::Discs { centres: centres.clone(), radius, clip, color });
        self.shapes.push(Shape::Discs { centres, radius: hole, clip, color: paper });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_shortened_until_it_fits() {
        let size = Size::NORMAL;
        assert_eq!(size.shortened("short", 500.0), "short");
        let text = size.shortened("a text that goes on and on", 150.0);
        assert!(text.ends_with("...") && size.width(&text) <= 150.0, "{text}");
        assert_eq!(size.shortened("word", 1.0), "");
        let text = size.shortened_within("seed-tinyshakespeare-f32", 160.0);
        assert!(text.starts_with("seed-") && text.ends_with("-f32") && size.width(&text) <= 160.0, "{text}");
        assert_eq!(
            (size.shortened_within("short", 500.0).as_str(), size.shortened_within("word", 1.0).as_str()),
            ("short", "")
        );
    }
}
