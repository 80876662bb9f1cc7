//! A little stroke font, so that pictures need no font of the system's and look the same everywhere.
//!
//! A glyph is a list of strokes on a grid: capitals and digits are 4 units wide and 6 high, most small letters 3 by 4.
//! A stroke is a run of points, two characters each: x, then y downwards from the capitals' top; the baseline is 6,
//! descenders reach 8. Letters stand for halves: a = 0.5, b = 1.5, c = 2.5, d = 3.5, e = 4.5.

use std::sync::OnceLock;

/// The printable ASCII characters from the exclamation mark on, in order.
const GLYPHS: [&str; 94] = [
    "00 04,06",                                           // !
    "00 02,20 22",                                        // "
    "10 16,30 36,02 42,04 44",                            // #
    "41 11 02 13 33 44 35 05,20 26",                      // $
    "06 40,00 10 11 01 00,35 45 46 36 35",                // %
    "46 12 11 20 31 32 04 05 16 26 44",                   // &
    "00 02",                                              // '
    "10 01 05 16",                                        // (
    "00 11 15 06",                                        // )
    "20 24,01 43,03 41",                                  // *
    "21 25,03 43",                                        // +
    "15 16 07",                                           // ,
    "03 33",                                              // -
    "06",                                                 // .
    "06 30",                                              // /
    "10 30 41 45 36 16 05 01 10",                         // 0
    "01 10 16,06 26",                                     // 1
    "01 10 30 41 42 06 46",                               // 2
    "01 10 30 41 42 33 44 45 36 16 05,23 33",             // 3
    "36 30 04 44",                                        // 4
    "40 00 02 32 43 45 36 16 05",                         // 5
    "41 30 10 01 05 16 36 45 43 32 12 03",                // 6
    "00 40 16",                                           // 7
    "13 02 01 10 30 41 42 33 13 04 05 16 36 45 44 33",    // 8
    "43 34 14 03 01 10 30 41 45 36 16 05",                // 9
    "03,06",                                              // :
    "13,15 16 07",                                        // ;
    "31 03 35",                                           // <
    "02 32,04 34",                                        // =
    "01 33 05",                                           // >
    "01 10 20 31 32 b3 b4,b6",                            // ?
    "32 22 13 14 24 33 32,33 34 44 41 30 10 01 05 16 36", // @
    "06 20 46,a4 d4",                                     // A
    "03 33 44 45 36 06 00 30 41 42 33",                   // B
    "41 30 10 01 05 16 36 45",                            // C
    "00 06 26 44 42 20 00",                               // D
    "30 00 06 36,03 c3",                                  // E
    "30 00 06,03 c3",                                     // F
    "41 30 10 01 05 16 36 45 43 23",                      // G
    "00 06,40 46,03 43",                                  // H
    "00 06",                                              // I
    "30 35 26 16 05",                                     // J
    "00 06,40 03 46",                                     // K
    "00 06 36",                                           // L
    "06 00 24 40 46",                                     // M
    "06 00 46 40",                                        // N
    "10 30 41 45 36 16 05 01 10",                         // O
    "06 00 30 41 42 33 03",                               // P
    "10 30 41 45 36 16 05 01 10,24 46",                   // Q
    "06 00 30 41 42 33 03,23 46",                         // R
    "41 30 10 01 02 13 33 44 45 36 16 05",                // S
    "00 40,20 26",                                        // T
    "00 05 16 36 45 40",                                  // U
    "00 26 40",                                           // V
    "00 16 22 36 40",                                     // W
    "00 46,40 06",                                        // X
    "00 23 40,23 26",                                     // Y
    "00 40 06 46",                                        // Z
    "10 00 06 16",                                        // [
    "00 36",                                              // \
    "00 10 16 06",                                        // ]
    "02 20 42",                                           // ^
    "07 37",                                              // _
    "00 11",                                              // `
    "33 22 12 03 05 16 26 35,32 36",                      // a
    "00 06,03 12 22 33 35 26 16 05",                      // b
    "33 22 12 03 05 16 26 35",                            // c
    "30 36,33 22 12 03 05 16 26 35",                      // d
    "04 34 33 22 12 03 05 16 26 35",                      // e
    "20 11 16,02 22",                                     // f
    "32 37 28 18 07,33 22 12 03 05 16 26 35",             // g
    "00 06,03 12 22 33 36",                               // h
    "02 06,00",                                           // i
    "12 17 08,10",                                        // j
    "00 06,32 04,13 36",                                  // k
    "00 05 16",                                           // l
    "02 06,03 12 23 26,23 32 43 46",                      // m
    "02 06,03 12 22 33 36",                               // n
    "12 22 33 35 26 16 05 03 12",                         // o
    "02 08,03 12 22 33 35 26 16 05",                      // p
    "32 38,33 22 12 03 05 16 26 35",                      // q
    "02 06,03 12 22",                                     // r
    "33 22 12 03 14 24 35 26 16 05",                      // s
    "10 15 26,02 22",                                     // t
    "02 05 16 26 35,32 36",                               // u
    "02 b6 32",                                           // v
    "02 16 23 36 42",                                     // w
    "02 36,32 06",                                        // x
    "02 b6,32 a8",                                        // y
    "02 32 06 36",                                        // z
    "20 11 12 03 14 15 26",                               // {
    "00 07",                                              // |
    "00 11 12 23 14 15 06",                               // }
    "04 13 24 33",                                        // ~
];

/// What stands for a character that the font lacks.
const MISSING: &str = "00 40 46 06 00";

/// Units between the right edge of a glyph and the left edge of the next.
const GAP: f64 = 2.0;
/// Units of a space.
const SPACE: f64 = 3.0;

/// One character: its strokes and its width, in units.
#[derive(Debug)]
pub struct Glyph {
    /// Runs of joined points (x, y); a run of one point is a dot.
    pub strokes: Vec<Vec<(f64, f64)>>,
    /// Largest x.
    pub width: f64,
}

/// Units from the capitals' top to the baseline.
pub const CAP_HEIGHT: f64 = 6.0;

/// The glyph of a character; `None` for a space.
pub fn glyph(character: char) -> Option<&'static Glyph> {
    static FONT: OnceLock<Vec<Glyph>> = OnceLock::new();
    let font = FONT.get_or_init(|| GLYPHS.iter().chain([&MISSING]).map(|text| parse(text)).collect());
    if character == ' ' {
        return None;
    }
    let index = (character as usize).checked_sub('!' as usize).filter(|i| *i < GLYPHS.len());
    font.get(index.unwrap_or(GLYPHS.len()))
}

/// Each glyph of a text with its left edge, and the width of the whole; both in units.
pub fn lay_out(text: &str) -> (Vec<(f64, &'static Glyph)>, f64) {
    let (mut x, mut width) = (0.0, 0.0);
    let mut placed = Vec::new();
    for character in text.chars() {
        match glyph(character) {
            None => x += SPACE,
            Some(glyph) => {
                placed.push((x, glyph));
                width = x + glyph.width;
                x = width + GAP;
            }
        }
    }
    (placed, width)
}

fn parse(text: &str) -> Glyph {
    let unit = |b: u8| if b.is_ascii_digit() { f64::from(b - b'0') } else { f64::from(b - b'a') + 0.5 };
    let point = |p: &str| (unit(p.as_bytes()[0]), unit(p.as_bytes()[1]));
    let strokes: Vec<Vec<_>> = text.split(',').map(|stroke| stroke.split(' ').map(point).collect()).collect();
    let width = strokes.iter().flatten().fold(0.0f64, |width, (x, _)| width.max(*x));
    Glyph { strokes, width }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_printable_character_has_a_glyph_inside_of_its_cell() {
        for character in '!'..='~' {
            let glyph = glyph(character).unwrap();
            assert!(glyph.width <= 4.0, "{character}");
            assert!(glyph.strokes.iter().flatten().all(|&(x, y)| (0.0..=4.0).contains(&x) && (0.0..=8.0).contains(&y)));
        }
        assert!(glyph(' ').is_none());
    }

    #[test]
    fn characters_differ_except_for_the_letter_o_and_zero() {
        let shapes: HashSet<_> = GLYPHS.iter().collect();
        assert_eq!(shapes.len(), GLYPHS.len() - 1);
        assert_eq!(glyph('O').unwrap().strokes, glyph('0').unwrap().strokes);
    }

    #[test]
    fn a_character_that_the_font_lacks_is_a_box() {
        assert_eq!(glyph('é').unwrap().strokes, parse(MISSING).strokes);
        assert_eq!(glyph('\n').unwrap().strokes, parse(MISSING).strokes);
    }

    #[test]
    fn a_text_is_as_wide_as_its_glyphs_and_gaps() {
        assert_eq!(lay_out("").1, 0.0);
        assert_eq!(lay_out("A").1, 4.0);
        assert_eq!(lay_out("AA").1, 4.0 + GAP + 4.0);
        assert_eq!(lay_out("A A").1, 4.0 + GAP + SPACE + 4.0);
    }
}
