//! Shapes as pixels with soft edges. The pixel (i, j) covers [i, i + 1) x [j, j + 1).

use super::canvas::{Align, Canvas, Color, Line, Rect, Shape, Size};
use super::font;
use super::series::Point;
use image::{Rgb, RgbImage};

/// How much of each pixel of a rectangle is covered, in [0, 1]. Strokes join by the maximum, so that a translucent line
/// has no dark joints.
struct Mask {
    left: usize,
    top: usize,
    width: usize,
    height: usize,
    cover: Vec<f32>,
}

impl Mask {
    /// An empty mask over the pixels of `area`.
    fn new(area: &Rect) -> Mask {
        let (left, top) = (area.left.max(0.0).floor() as usize, area.top.max(0.0).floor() as usize);
        let width = (area.right.ceil().max(0.0) as usize).saturating_sub(left);
        let height = (area.bottom.ceil().max(0.0) as usize).saturating_sub(top);
        Mask { left, top, width, height, cover: vec![0.0; width * height] }
    }

    /// A line of joined points with round ends; one point alone is a dot. `radius` is half the thickness.
    fn polyline(&mut self, points: &[(f64, f64)], radius: f64) {
        if let [point] = points {
            self.segment(*point, *point, radius);
        }
        for pair in points.windows(2) {
            self.segment(pair[0], pair[1], radius);
        }
    }

    /// The pixels within `radius` of the straight line from `a` to `b`.
    fn segment(&mut self, a: (f64, f64), b: (f64, f64), radius: f64) {
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
}

/// Number of pixels and first pixel, relative to `origin` and within `limit`, that [from, to] touches.
fn span(from: f64, to: f64, origin: usize, limit: usize) -> (usize, usize) {
    let clamp = |x: f64| (x - origin as f64).clamp(0.0, limit as f64);
    let (first, end) = (clamp(from.floor()) as usize, clamp(to.ceil()) as usize);
    (end.saturating_sub(first), first)
}

/// The picture's pixels.
pub fn raster(canvas: &Canvas) -> RgbImage {
    let mut image = RgbImage::from_pixel(canvas.width, canvas.height, Rgb(canvas.color));
    for shape in &canvas.shapes {
        match shape {
            Shape::Fill { area, color } => fill(&mut image, area, *color),
            Shape::Line(line) => paint(&mut image, &cover_of_line(line, &line.clip), line.color, line.opacity),
            Shape::Discs { centres, radius, clip, color } => {
                let mut mask = Mask::new(clip);
                centres.iter().for_each(|centre| mask.segment(*centre, *centre, *radius));
                paint(&mut image, &mask, *color, 1.0);
            }
            Shape::Text { text, x, top, align, size, color } => {
                paint(&mut image, &cover_of_text(text, (*x, *top), *align, *size), *color, 1.0);
            }
        }
    }
    image
}

/// How many pixels of `area` a line covers.
pub fn covered(line: &Line, area: &Rect) -> f64 {
    let area = Rect::new(
        area.left.max(line.clip.left),
        area.top.max(line.clip.top),
        area.right.min(line.clip.right),
        area.bottom.min(line.clip.bottom),
    );
    cover_of_line(line, &area).cover.iter().map(|cover| f64::from(*cover)).sum()
}

fn cover_of_line(line: &Line, area: &Rect) -> Mask {
    let mut mask = Mask::new(area);
    for piece in &line.pieces {
        match (&piece[..], line.dash) {
            ([point], _) => mask.segment(*point, *point, line.thickness),
            (points, []) => mask.polyline(points, line.thickness / 2.0),
            (points, dash) => dashes(points, dash, |dash| mask.polyline(dash, line.thickness / 2.0)),
        }
    }
    mask
}

/// Cuts a line of joined points into dashes: their lengths and those of the gaps, in turn and over again.
fn dashes(points: &[Point], lengths: &[f64], mut each: impl FnMut(&[Point])) {
    let (mut i, mut left) = (0usize, lengths[0]);
    let mut dash: Vec<Point> = points.first().copied().into_iter().collect();
    for pair in points.windows(2) {
        let (mut from, to) = (pair[0], pair[1]);
        let mut rest = (to.0 - from.0).hypot(to.1 - from.1);
        while rest >= left && left > 0.0 {
            let share = left / rest;
            from = (from.0 + share * (to.0 - from.0), from.1 + share * (to.1 - from.1));
            rest -= left;
            if i.is_multiple_of(2) {
                dash.push(from);
                each(&dash);
            }
            dash.clear();
            dash.push(from);
            i = (i + 1) % lengths.len();
            left = lengths[i];
        }
        left -= rest;
        dash.push(to);
    }
    if i.is_multiple_of(2) {
        each(&dash);
    }
}

fn cover_of_text(text: &str, (x, top): Point, align: Align, size: Size) -> Mask {
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
            let place = |&(x, y): &Point| (left + (offset + x) * size.unit, top + y * size.unit);
            let points: Vec<_> = stroke.iter().map(place).collect();
            mask.polyline(&points, size.stroke / 2.0);
        }
    }
    mask
}

/// Fills the pixels of a rectangle whose edges lie on pixel borders.
fn fill(image: &mut RgbImage, area: &Rect, color: Color) {
    let clamp = |x: f64, limit: u32| x.round().clamp(0.0, f64::from(limit)) as u32;
    let (width, height) = image.dimensions();
    for y in clamp(area.top, height)..clamp(area.bottom, height) {
        for x in clamp(area.left, width)..clamp(area.right, width) {
            image.put_pixel(x, y, Rgb(color));
        }
    }
}

/// Mixes `color` into the picture, as far as `mask` covers it times `opacity`.
fn paint(image: &mut RgbImage, mask: &Mask, color: Color, opacity: f64) {
    let (width, height) = image.dimensions();
    for (row, line) in mask.cover.chunks(mask.width.max(1)).enumerate() {
        for (column, cover) in line.iter().enumerate() {
            let (x, y) = ((mask.left + column) as u32, (mask.top + row) as u32);
            if *cover > 0.0 && x < width && y < height {
                let share = f64::from(*cover) * opacity;
                for (old, new) in image.get_pixel_mut(x, y).0.iter_mut().zip(color) {
                    *old = (f64::from(*old) * (1.0 - share) + f64::from(new) * share).round() as u8;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLACK: Color = [0, 0, 0];
    const WHITE: Color = [255, 255, 255];

    fn line(points: Vec<Point>, thickness: f64, dash: &'static [f64], opacity: f64) -> Line {
        let clip = Rect::new(0.0, 0.0, 100.0, 100.0);
        Line { pieces: vec![points], thickness, dash, clip, color: BLACK, opacity }
    }

    fn drawn(line: Line, (width, height): (u32, u32)) -> RgbImage {
        let mut canvas = Canvas::new(width, height, WHITE);
        canvas.shapes.push(Shape::Line(line));
        raster(&canvas)
    }

    #[test]
    fn a_level_line_on_a_pixel_border_fills_whole_pixels_only() {
        let image = drawn(line(vec![(5.0, 5.0), (15.0, 5.0)], 2.0, &[], 1.0), (20, 10));
        let column: Vec<u8> = (0..10).map(|y| image.get_pixel(10, y).0[0]).collect();
        assert_eq!(column, [255, 255, 255, 255, 0, 0, 255, 255, 255, 255]);
    }

    #[test]
    fn a_translucent_line_has_no_dark_joints() {
        let image = drawn(line((2..38).map(|x| (f64::from(x), 5.0)).collect(), 2.0, &[], 0.5), (40, 10));
        assert!((3..37).all(|x| image.get_pixel(x, 5).0 == image.get_pixel(3, 5).0));
        assert_eq!(image.get_pixel(3, 5).0[0], 128);
    }

    #[test]
    fn a_slanted_line_covers_its_length_times_its_thickness() {
        let area = Rect::new(0.0, 0.0, 100.0, 100.0);
        let found = covered(&line(vec![(20.0, 30.0), (70.0, 80.0)], 4.0, &[], 1.0), &area);
        let expected = 50.0 * 2f64.sqrt() * 4.0 + std::f64::consts::PI * 4.0;
        assert!((found / expected - 1.0).abs() < 0.02, "{found} {expected}");
    }

    #[test]
    fn what_leaves_the_mask_is_cut_off() {
        let cross = Line {
            pieces: vec![
                vec![(-1e6, 15.0), (1e6, 15.0)],
                vec![(15.0, -1e6), (15.0, 1e6)],
                vec![(-500.0, -500.0), (-400.0, -400.0)],
            ],
            clip: Rect::new(10.0, 10.0, 20.0, 20.0),
            ..line(Vec::new(), 2.0, &[], 1.0)
        };
        assert_eq!(covered(&cross, &Rect::new(0.0, 0.0, 100.0, 100.0)), 36.0);
    }

    #[test]
    fn dashes_go_on_over_corners_and_leave_their_gaps() {
        let corner = [(0.0, 0.0), (6.0, 0.0), (6.0, 20.0)];
        let mut found = Vec::new();
        dashes(&corner, &[8.0, 4.0], |dash| found.push(dash.to_vec()));
        let expected =
            [vec![(0.0, 0.0), (6.0, 0.0), (6.0, 2.0)], vec![(6.0, 6.0), (6.0, 14.0)], vec![(6.0, 18.0), (6.0, 20.0)]];
        assert_eq!(found, expected);
        let image = drawn(line(vec![(10.0, 5.0), (90.0, 5.0)], 2.0, &[8.0, 12.0], 1.0), (100, 10));
        let dark: Vec<u32> = (0..100).filter(|x| image.get_pixel(*x, 5).0[0] == 0).collect();
        assert!(dark.contains(&14) && !dark.contains(&24) && dark.contains(&34), "{dark:?}");
    }
}
