//! The stages of a model's training one after the other on one axis of updates: losses above, and below how often the
//! better of two answers gets the higher reward, and the rewards of answers.

use super::canvas::{Align, Canvas, Rect, Size};
use super::draw::{draw_loss_curves, draw_loss_frame, draw_title, horizontal_axis, loss_axis, raw_opacity};
use super::legend;
use super::panel::Panel;
use super::series::Point;
use super::stage::{ACCURACY, Kind, REWARD};
use super::style::{BACKGROUND, FRAME, HEADING, LEFT, RIGHT, SPACING, UNDER, WIDTH};
use super::{PlotOptions, Run};
use image::RgbImage;

/// Heights of the panels.
const LOSS: f64 = 360.0;
const LOWER: f64 = 190.0;
/// Height of a line of stages' names, and the room between a name and where its stage begins.
const LINE: f64 = 28.0;
const GAP: f64 = 8.0;
/// Longest name of a stage.
const NAME: f64 = 240.0;

/// Where everything lies.
#[derive(Clone, Debug, PartialEq)]
pub struct Layout {
    /// Losses of the stages that learn from text.
    pub loss: Panel,
    /// Shares of pairs ranked right, and rewards: those of both that a stage has.
    pub lower: Vec<(&'static Kind, Panel)>,
    /// The update at which each stage begins.
    pub begins: Vec<f64>,
    /// Place of each stage's name.
    pub names: Vec<Rect>,
    /// Height of the picture.
    pub height: u32,
}

/// The layout that [`render`] uses.
pub fn layout(stages: &[Run]) -> Layout {
    let begins = begins(stages);
    let stages = laid_end_to_end(stages, &begins);
    let x = horizontal_axis(&stages);
    let entries = legend::of_story(&stages, 1.0);
    let top = legend::TOP + legend::LINE * legend::rows(&entries).lines.len() as f64 + 14.0;
    let across = Panel { area: Rect::new(LEFT, 0.0, RIGHT, 1.0), x, y: x };
    let places: Vec<f64> = begins.iter().map(|begin| across.pixel((*begin, 0.0)).0.round()).collect();
    let names = name_places(&stages, &places, top);
    let mut bottom = names.iter().fold(top, |bottom, name| bottom.max(name.bottom + LINE - Size::NORMAL.height()));
    let mut place = |room: f64, height: f64| {
        let area = Rect::new(LEFT, bottom + room, RIGHT, bottom + room + height);
        bottom = area.bottom;
        area
    };
    let texts: Vec<Run> = stages.iter().filter(|run| !run.prefers()).cloned().collect();
    let loss = Panel { area: place(34.0, LOSS), x, y: loss_axis(&texts, &PlotOptions::default()) };
    let kinds = [&ACCURACY, &REWARD].into_iter().filter(|kind| kind.has(&stages));
    let lower = kinds.map(|kind| (kind, Panel { area: place(SPACING, LOWER), x, y: kind.axis(&stages) })).collect();
    Layout { loss, lower, begins, names, height: (bottom + UNDER).ceil() as u32 }
}

/// Draws the stages, each of which has its run's name.
pub fn render(stages: &[Run]) -> RgbImage {
    let layout = layout(stages);
    let mut canvas = Canvas::new(WIDTH, layout.height, BACKGROUND);
    let stages = laid_end_to_end(stages, &layout.begins);
    let options = PlotOptions { title: Some("stages of training".to_owned()), entropy: None };
    draw_title(&mut canvas, &stages, &options);
    legend::draw(&mut canvas, &legend::rows(&legend::of_story(&stages, raw_opacity(&stages[..stages.len().min(1)]))));
    let panels: Vec<&Panel> = [&layout.loss].into_iter().chain(layout.lower.iter().map(|(_, panel)| panel)).collect();
    let name = |at: usize| (at + 1 == panels.len()).then_some("updates of all stages");
    let texts: Vec<Run> = stages.iter().filter(|run| !run.prefers()).cloned().collect();
    draw_loss_frame(&mut canvas, &layout.loss, name(0), &texts);
    for (i, (kind, panel)) in layout.lower.iter().enumerate() {
        kind.draw_frame(&mut canvas, panel, name(i + 1), &stages);
    }
    draw_begins(&mut canvas, &layout, &panels);
    for (run, place) in stages.iter().zip(&layout.names) {
        canvas.text(&shown_name(run), place.left, place.top, Align::Left, Size::NORMAL, HEADING);
    }
    for run in &texts {
        draw_loss_curves(&mut canvas, &layout.loss, std::slice::from_ref(run), &options);
    }
    for (kind, panel) in &layout.lower {
        stages.iter().for_each(|run| kind.draw_curves(&mut canvas, panel, std::slice::from_ref(run)));
    }
    canvas.image
}

/// The update at which each stage begins: those of the stages before it.
fn begins(stages: &[Run]) -> Vec<f64> {
    let mut done = 0.0;
    let begin = |run: &Run| {
        let begin = done;
        done += horizontal_axis(std::slice::from_ref(run)).high;
        begin
    };
    stages.iter().map(begin).collect()
}

/// Each stage's curves moved to where it begins.
fn laid_end_to_end(stages: &[Run], begins: &[f64]) -> Vec<Run> {
    let moved = |(run, begin): (&Run, &f64)| {
        let mut run = run.clone();
        let curves = [&mut run.train, &mut run.val, &mut run.learning_rate, &mut run.grad_norm].into_iter();
        let curves = curves.chain(run.numbers.values_mut()).chain(run.val_numbers.values_mut());
        curves.flatten().for_each(|point: &mut Point| point.0 += begin);
        run
    };
    stages.iter().zip(begins).map(moved).collect()
}

fn shown_name(run: &Run) -> String {
    Size::NORMAL.shortened(&run.name, NAME)
}

/// Where the stages' names stand: beside where each begins, under names that leave no room there.
fn name_places(stages: &[Run], begins: &[f64], top: f64) -> Vec<Rect> {
    let mut ends: Vec<f64> = Vec::new();
    let place = |(run, begin): (&Run, &f64)| {
        let width = Size::NORMAL.width(&shown_name(run));
        // At the right edge a name stands before its stage.
        let left = if begin + GAP + width > RIGHT { begin - GAP - width } else { begin + GAP };
        let line = ends.iter().position(|end| end + 2.0 * GAP <= left.min(*begin)).unwrap_or(ends.len());
        ends.resize(ends.len().max(line + 1), 0.0);
        ends[line] = (left + width).max(*begin);
        let top = top + LINE * line as f64;
        Rect::new(left, top, left + width, top + Size::NORMAL.height())
    };
    stages.iter().zip(begins).map(place).collect()
}

/// A line where each stage begins, beside its name and across the panels.
fn draw_begins(canvas: &mut Canvas, layout: &Layout, panels: &[&Panel]) {
    let mut line = |x: f64, top: f64, bottom: f64| canvas.fill(&Rect::new(x, top, x + 1.0, bottom), FRAME);
    for (begin, name) in layout.begins.iter().zip(&layout.names) {
        let x = layout.loss.pixel((*begin, layout.loss.y.low)).0.round();
        line(x, name.top - 4.0, name.bottom + 4.0);
        panels.iter().for_each(|panel| line(x, panel.area.top, panel.area.bottom));
    }
}
