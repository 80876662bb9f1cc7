//! Where a picture has a value, from its panels' edges alone.
#![allow(dead_code, reason = "each test file uses a part of this")]

use hadal::plot::axis::{Axis, Scale};
use hadal::plot::panel::Panel;
use image::RgbImage;

/// The pixel of a point.
pub fn pixel(panel: &Panel, x: f64, y: f64) -> (u32, u32) {
    let share = |axis: &Axis, value: f64| match axis.scale {
        Scale::Linear => (value - axis.low) / (axis.high - axis.low),
        Scale::Log => (value.ln() - axis.low.ln()) / (axis.high.ln() - axis.low.ln()),
    };
    let column = panel.area.left + share(&panel.x, x) * (panel.area.right - panel.area.left);
    let row = panel.area.bottom - share(&panel.y, y) * (panel.area.bottom - panel.area.top);
    (column.floor() as u32, row.floor() as u32)
}

/// The colour of a pixel.
pub fn at(picture: &RgbImage, (x, y): (u32, u32)) -> [u8; 3] {
    picture.get_pixel(x, y).0
}
