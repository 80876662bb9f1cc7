//! The look of every picture: measures in pixels, and colours.

use super::canvas::Color;

/// Width of every picture in pixels.
pub const WIDTH: u32 = 1600;
/// Height of a picture in pixels, where no rows of smaller panels make it higher.
pub const HEIGHT: u32 = 1000;
/// Height of a picture with two panels beside each other.
pub const COMPARISON_HEIGHT: u32 = 720;

/// Left edge of the panels: room for labels such as "12,345.25".
pub const LEFT: f64 = 130.0;
/// Right edge of the panels: room for half of the last label.
pub const RIGHT: f64 = WIDTH as f64 - 60.0;
/// Room under the lowest panel, for step labels and the axis' name.
pub const UNDER: f64 = 84.0;
/// Distance of panels beside each other: room for the right one's labels.
pub const GUTTER: f64 = 120.0;
/// Least height of the main panel, and height of a stage's in a picture of several.
pub const UPPER: f64 = 320.0;
/// Height of a lower panel.
pub const LOWER: f64 = 120.0;
/// Distance of panels: room for the upper one's labels and the lower one's title.
pub const SPACING: f64 = 72.0;

/// Thickness of a curve with a point for each update.
pub const RAW: f64 = 1.5;
/// Thickness of a smoothed curve.
pub const SMOOTHED: f64 = 3.0;
/// Thickness of validation curves, and of everything in the lower panels.
pub const VALIDATION: f64 = 2.0;
/// Radius of a validation's marker.
pub const MARKER: f64 = 6.0;
/// The same in lower panels.
pub const RING: f64 = 4.5;
/// Dashes and gaps of level lines.
pub const DASHES: &[f64] = &[8.0, 10.0];

/// The paper.
pub const BACKGROUND: Color = [255, 255, 255];
/// The title.
pub const HEADING: Color = [32, 33, 36];
/// Labels.
pub const TEXT: Color = [60, 64, 67];
/// Grid lines.
pub const GRID: Color = [230, 232, 235];
/// The horizontal axis.
pub const FRAME: Color = [154, 160, 166];
/// The entropy line: dark enough to read, different from every run.
pub const ENTROPY: Color = [95, 99, 104];

/// Colours of the runs: those of Okabe and Ito that stand out on white, which colour-blind readers can tell apart, and
/// three more for large comparisons.
const COLORS: [Color; 10] = [
    [0, 114, 178],
    [213, 94, 0],
    [0, 158, 115],
    [204, 121, 167],
    [230, 159, 0],
    [86, 180, 233],
    [0, 0, 0],
    [136, 34, 85],
    [153, 153, 51],
    [128, 128, 128],
];

/// Dashes and gaps of runs, so that of two that coincide the lower one shows in the gaps of the upper.
const PATTERNS: [&[f64]; 4] = [&[], &[16.0, 12.0], &[2.0, 8.0], &[16.0, 9.0, 2.0, 9.0]];

/// Runs that can be told apart by colour and dashes.
pub const STYLES: usize = COLORS.len() * PATTERNS.len();

/// Colour of run `i`. A single run uses the first for training and the second for validation.
pub fn color(i: usize) -> Color {
    COLORS[i % COLORS.len()]
}

/// Dashes of run `i` among several: others for neighbours, and for runs of the same colour.
pub fn dash(i: usize) -> &'static [f64] {
    PATTERNS[(i + i / COLORS.len()) % PATTERNS.len()]
}
