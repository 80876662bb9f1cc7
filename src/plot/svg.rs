//! Shapes as an SVG file: curves that stay sharp at every size, and texts that are texts.

use super::canvas::{Align, Canvas, Color, Line, Rect, Shape, Size};
use super::series::Point;
use std::fmt::Write;

/// Height of a capital over the size of the font: a little more than fonts have, as some of them are wide.
const CAPITAL: f64 = 0.78;

/// The picture as the text of an SVG file, whose title is `title`.
pub fn svg(canvas: &Canvas, title: &str) -> String {
    let (width, height, paper) = (canvas.width, canvas.height, hex(canvas.color));
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" xml:space=\"preserve\" \
         font-family=\"Helvetica, Arial, 'Liberation Sans', sans-serif\">\n\
         <title>{}</title>\n<rect width=\"100%\" height=\"100%\" fill=\"{paper}\"/>\n",
        escaped(title)
    );
    let mut clips: Vec<Rect> = Vec::new();
    for shape in &canvas.shapes {
        if let Shape::Line(Line { clip, .. }) | Shape::Discs { clip, .. } = shape
            && !clips.contains(clip)
        {
            // Writing into a string cannot fail.
            let _ = writeln!(
                text,
                "<clipPath id=\"clip{}\"><rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"/></clipPath>",
                clips.len(),
                number(clip.left),
                number(clip.top),
                number(clip.width()),
                number(clip.height())
            );
            clips.push(*clip);
        }
        let clip = |clip: &Rect| clips.iter().position(|known| known == clip).unwrap_or_default();
        text += &match shape {
            Shape::Fill { area, color } => filled(area, *color),
            Shape::Line(line) => lines(line, clip(&line.clip)),
            Shape::Discs { centres, radius, clip: area, color } => discs(centres, *radius, clip(area), *color),
            Shape::Text { text, x, top, align, size, color } => words(text, (*x, *top), *align, *size, *color),
        };
    }
    text + "</svg>\n"
}

fn filled(area: &Rect, color: Color) -> String {
    format!(
        "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"{}\"/>\n",
        number(area.left),
        number(area.top),
        number(area.width()),
        number(area.height()),
        hex(color)
    )
}

/// The lines as one path: where they are translucent, they do not darken each other.
fn lines(line: &Line, clip: usize) -> String {
    let (mut path, mut dots) = (String::new(), Vec::new());
    for piece in &line.pieces {
        match &piece[..] {
            [point] => dots.push(*point),
            points => points.iter().enumerate().for_each(|(i, (x, y))| {
                let _ = write!(path, "{}{} {}", if i == 0 { "M" } else { "L" }, number(*x), number(*y));
            }),
        }
    }
    let mut text = discs(&dots, line.thickness, clip, line.color);
    if !path.is_empty() {
        let (color, thickness) = (hex(line.color), number(line.thickness));
        let _ = write!(
            text,
            "<path d=\"{path}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"{thickness}\" stroke-linecap=\"round\" \
             stroke-linejoin=\"round\" clip-path=\"url(#clip{clip})\""
        );
        if line.opacity < 1.0 {
            let _ = write!(text, " stroke-opacity=\"{}\"", number(line.opacity));
        }
        if !line.dash.is_empty() {
            let dash: Vec<String> = line.dash.iter().map(|length| number(*length)).collect();
            let _ = write!(text, " stroke-dasharray=\"{}\"", dash.join(" "));
        }
        text += "/>\n";
    }
    text
}

fn discs(centres: &[Point], radius: f64, clip: usize, color: Color) -> String {
    let disc = |(x, y): &Point| {
        let (x, y, radius, color) = (number(*x), number(*y), number(radius), hex(color));
        format!("<circle cx=\"{x}\" cy=\"{y}\" r=\"{radius}\" fill=\"{color}\" clip-path=\"url(#clip{clip})\"/>\n")
    };
    centres.iter().map(disc).collect()
}

fn words(text: &str, (x, top): Point, align: Align, size: Size, color: Color) -> String {
    let anchor = match align {
        Align::Left => "start",
        Align::Center => "middle",
        Align::Right => "end",
    };
    format!(
        "<text x=\"{}\" y=\"{}\" font-size=\"{}\" text-anchor=\"{anchor}\" fill=\"{}\">{}</text>\n",
        number(x),
        number(top + size.height()),
        number(size.height() / CAPITAL),
        hex(color),
        escaped(text)
    )
}

fn hex([red, green, blue]: Color) -> String {
    format!("#{red:02x}{green:02x}{blue:02x}")
}

/// To a hundredth of a pixel.
fn number(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The text as XML may hold it: without markup of its own, and without characters that XML forbids.
fn escaped(text: &str) -> String {
    let mut safe = String::new();
    for character in text.chars() {
        match character {
            '<' => safe += "&lt;",
            '>' => safe += "&gt;",
            '&' => safe += "&amp;",
            '\u{fffe}' | '\u{ffff}' => safe.push(char::REPLACEMENT_CHARACTER),
            control if control.is_control() => safe.push(char::REPLACEMENT_CHARACTER),
            other => safe.push(other),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_become_elements_and_texts_stay_texts() {
        let mut canvas = Canvas::new(200, 100, [255, 255, 255]);
        let clip = Rect::new(10.0, 20.0, 110.0, 70.0);
        canvas.fill(Rect::new(1.0, 2.0, 4.0, 3.0), [1, 2, 255]);
        let pieces = vec![vec![(10.0, 20.0), (30.126, 40.0)], vec![(50.0, 60.0)]];
        let (color, dash) = ([0, 0, 0], &[4.0, 7.0][..]);
        canvas.shapes.push(Shape::Line(Line { pieces, thickness: 3.0, dash, clip, color, opacity: 0.5 }));
        canvas.rings(vec![(70.0, 30.0)], 6.0, 4.0, clip, [9, 9, 9]);
        canvas.text("a < b & \u{1}", 5.0, 14.0, Align::Right, Size::NORMAL, [3, 3, 3]);
        let text = svg(&canvas, "<title>");
        for part in [
            "width=\"200\" height=\"100\"",
            "<title>&lt;title&gt;</title>",
            "<rect x=\"1\" y=\"2\" width=\"3\" height=\"1\" fill=\"#0102ff\"/>",
            "d=\"M10 20L30.13 40\"",
            "stroke-dasharray=\"4 7\"",
            "stroke-opacity=\"0.5\"",
            "<circle cx=\"50\" cy=\"60\" r=\"3\"",
            "<circle cx=\"70\" cy=\"30\" r=\"4\" fill=\"#ffffff\"",
            "text-anchor=\"end\" fill=\"#030303\">a &lt; b &amp; \u{fffd}</text>",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert_eq!(text.matches("<clipPath").count(), 1);
        assert!(text.starts_with("<svg ") && text.ends_with("</svg>\n"));
    }
}
