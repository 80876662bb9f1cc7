//! The stages of a model's training, each in a panel of its own: the loss of what learns from text, how often the
//! better of two answers gets the higher reward, or the reward of answers.

use super::PlotOptions;
use super::axis::short;
use super::canvas::{Align, Canvas, Size};
use super::draw::{Look, cell, draw_curves, draw_title, horizontal_axis, top};
use super::kind::{self, Kind};
use super::legend;
use super::panel::Panel;
use super::run::{Run, about};
use super::series::end;
use super::style::{BACKGROUND, UNDER, UPPER, WIDTH, color};

/// Distance of panels under each other: room for the labels of one and the title of the other.
const ROOM: f64 = UNDER + 34.0;

/// Where everything lies.
#[derive(Clone, Debug, PartialEq)]
pub struct Layout {
    /// The panel of each stage, and what it shows.
    pub panels: Vec<(Kind, Panel)>,
    /// Height of the picture.
    pub height: u32,
}

/// The layout that [`render`] uses.
pub fn layout(stages: &[Run]) -> Layout {
    let top = top(legend::rows(&legend::of_story(stages)).lines.len());
    let options = PlotOptions::default();
    let panel = |(i, run): (usize, &Run)| {
        let alone = std::slice::from_ref(run);
        let kind = kind::main(alone, &options);
        let y = kind.axis(alone, &options);
        (kind, Panel { area: cell(i, stages.len(), top, UPPER, ROOM), x: horizontal_axis(alone), y })
    };
    let panels: Vec<_> = stages.iter().enumerate().map(panel).collect();
    let bottom = panels.last().map_or(top, |(_, panel)| panel.area.bottom);
    Layout { panels, height: (bottom + UNDER).ceil() as u32 }
}

/// Draws the stages, each of which has its run's name.
pub fn render(stages: &[Run]) -> Canvas {
    let layout = layout(stages);
    let options = PlotOptions::default();
    let mut canvas = Canvas::new(WIDTH, layout.height, BACKGROUND);
    draw_title(&mut canvas, "stages of training", &about(stages));
    legend::draw(&mut canvas, &legend::rows(&legend::of_story(stages)));
    for (run, (kind, panel)) in stages.iter().zip(&layout.panels) {
        let alone = std::slice::from_ref(run);
        let title = format!("{}: {}", run.name, kind.heading(&panel.y, alone));
        // What was held out ends at, in its colour.
        let ends = kind.shown(run).next().and_then(|(_, _, _, val)| end(val)).map_or(String::new(), short);
        let room = panel.area.width() - Size::NORMAL.width(&ends) - 20.0;
        panel.draw_frame(&mut canvas, &Size::NORMAL.shortened(&title, room), Some("steps"));
        canvas.text(&ends, panel.area.right, panel.area.top - 28.0, Align::Right, Size::NORMAL, color(1));
        draw_curves(&mut canvas, kind, panel, Look::LARGE, alone, &options);
    }
    canvas
}
