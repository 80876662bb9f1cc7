//! Where a picture has a value, from its panels' edges alone.
#![allow(dead_code, reason = "each test file uses a part of this")]

use hadal::plot::axis::Scale;
use hadal::plot::panel::Panel;
use image::RgbImage;

/// The pixel of a point.
pub fn pixel(panel: &Panel, x: f64, y: f64) -> (u32, u32) {
    assert_eq!((panel.x.scale, panel.y.scale), (Scale::Linear, Scale::Linear));
    let across = (x - panel.x.low) / (panel.x.high - panel.x.low);
    let up = (y - panel.y.low) / (panel.y.high - panel.y.low);
    let column = panel.area.left + across * (panel.area.right - panel.area.left);
    let row = panel.area.bottom - up * (panel.area.bottom - panel.area.top);
    (column.floor() as u32, row.floor() as u32)
}

/// The colour of a pixel.
pub fn at(picture: &RgbImage, (x, y): (u32, u32)) -> [u8; 3] {
    picture.get_pixel(x, y).0
}
