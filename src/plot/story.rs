//! The stages of a model's training, each in a panel of its own: the loss of what learns from text, how often the
//! better of two answers gets the higher reward, or the reward of answers.

use super::canvas::{Canvas, Size};
use super::draw::{
    UPDATES, cell, draw_loss_curves, draw_title, horizontal_axis, loss_axis, loss_title, raw_opacity, top,
};
use super::legend::{self, Entry};
use super::panel::Panel;
use super::stage::{ACCURACY, Kind, REWARD};
use super::style::{BACKGROUND, UNDER, UPPER, WIDTH};
use super::{PlotOptions, Run};
use image::RgbImage;

/// Distance of panels under each other: room for the labels of one and the title of the other.
const ROOM: f64 = UNDER + 34.0;

/// Where everything lies.
#[derive(Clone, Debug, PartialEq)]
pub struct Layout {
    /// The panel of each stage, and the numbers in it if these are not its losses.
    pub panels: Vec<(Option<&'static Kind>, Panel)>,
    /// Height of the picture.
    pub height: u32,
}

/// The layout that [`render`] uses.
pub fn layout(stages: &[Run]) -> Layout {
    let top = top(legend::rows(&entries(stages)).lines.len());
    let panel = |(i, run): (usize, &Run)| {
        let kind = measure(run);
        let alone = std::slice::from_ref(run);
        let y = kind.map_or_else(|| loss_axis(alone, &PlotOptions::default()), |kind| kind.axis(alone));
        (kind, Panel { area: cell(i, stages.len(), top, UPPER, ROOM), x: horizontal_axis(alone), y })
    };
    let panels: Vec<_> = stages.iter().enumerate().map(panel).collect();
    let bottom = panels.last().map_or(top, |(_, panel)| panel.area.bottom);
    Layout { panels, height: (bottom + UNDER).ceil() as u32 }
}

/// Draws the stages, each of which has its run's name.
pub fn render(stages: &[Run]) -> RgbImage {
    let layout = layout(stages);
    let mut canvas = Canvas::new(WIDTH, layout.height, BACKGROUND);
    let options = PlotOptions { title: Some("stages of training".to_owned()), entropy: None };
    draw_title(&mut canvas, stages, &options);
    legend::draw(&mut canvas, &legend::rows(&entries(stages)));
    for (run, (kind, panel)) in stages.iter().zip(&layout.panels) {
        let alone = std::slice::from_ref(run);
        let what = kind.map_or_else(|| loss_title(panel, alone), |kind| kind.title.to_owned());
        let title = Size::NORMAL.shortened(&format!("{}: {what}", run.name), panel.area.width());
        panel.draw_frame(&mut canvas, &title, Some(UPDATES));
        match kind {
            Some(kind) => kind.draw_curves(&mut canvas, panel, alone),
            None => draw_loss_curves(&mut canvas, panel, alone, &options),
        }
    }
    canvas.image
}

/// What tells how far a stage has come, if it is not the loss.
fn measure(run: &Run) -> Option<&'static Kind> {
    [&ACCURACY, &REWARD].into_iter().find(|kind| kind.has(std::slice::from_ref(run)))
}

fn entries(stages: &[Run]) -> Vec<Entry> {
    legend::of_story(stages, raw_opacity(&stages[..stages.len().min(1)]))
}
