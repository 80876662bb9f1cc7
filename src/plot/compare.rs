//! One loss of several runs, by updates and, beside that, by tokens: arms of a study that make the same number of
//! updates with batches of different sizes are equally long in the left panel only.

use super::canvas::{Canvas, Rect};
use super::draw::{UPDATES, draw_losses, draw_title, horizontal_axis, loss_axis, raw_opacity, top};
use super::legend;
use super::panel::Panel;
use super::series::Point;
use super::style::{BACKGROUND, BOTTOM, COMPARISON_HEIGHT, GUTTER, HEIGHT, LEFT, RIGHT, WIDTH};
use super::{PlotOptions, Run};
use image::RgbImage;

/// Which loss is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Curve {
    /// Of the updates, faint, and smoothed.
    Train,
    /// Of the validations.
    Validation,
}

/// The panels that [`render`] uses for these runs: by updates, and by tokens.
pub fn panels(runs: &[Run], curve: Curve, options: &PlotOptions) -> [Panel; 2] {
    let runs = only(runs, curve);
    let entries = legend::entries(&runs, options, loss_axis(&runs, options).scale, 1.0);
    arrange(&runs, options, legend::rows(&entries).lines.len())
}

/// Draws one loss of the runs over each other, twice.
pub fn render(runs: &[Run], curve: Curve, options: &PlotOptions) -> RgbImage {
    let mut canvas = Canvas::new(WIDTH, COMPARISON_HEIGHT, BACKGROUND);
    let runs = only(runs, curve);
    let entries = legend::entries(&runs, options, loss_axis(&runs, options).scale, raw_opacity(&runs));
    let rows = legend::rows(&entries);
    let [left, right] = arrange(&runs, options, rows.lines.len());
    draw_title(&mut canvas, &runs, options);
    legend::draw(&mut canvas, &rows);
    draw_losses(&mut canvas, &left, Some(UPDATES), &runs, options);
    let by_tokens: Vec<Run> = runs.iter().map(over_tokens).collect();
    draw_losses(&mut canvas, &right, Some("tokens"), &by_tokens, options);
    canvas.image
}

fn arrange(runs: &[Run], options: &PlotOptions, legend_lines: usize) -> [Panel; 2] {
    let (y, width) = (loss_axis(runs, options), (RIGHT - LEFT - GUTTER) / 2.0);
    let bottom = BOTTOM - f64::from(HEIGHT - COMPARISON_HEIGHT);
    let area = |left| Rect::new(left, top(legend_lines), left + width, bottom);
    let by_tokens: Vec<Run> = runs.iter().map(over_tokens).collect();
    [
        Panel { area: area(LEFT), x: horizontal_axis(runs), y },
        Panel { area: area(LEFT + width + GUTTER), x: horizontal_axis(&by_tokens), y },
    ]
}

/// The runs with this curve alone, and what places it by tokens.
fn only(runs: &[Run], curve: Curve) -> Vec<Run> {
    let part = |run: &Run| {
        let (train, val) = match curve {
            Curve::Train => (run.train.clone(), Vec::new()),
            Curve::Validation => (Vec::new(), run.val.clone()),
        };
        Run { name: run.name.clone(), train, val, tokens: run.tokens.clone(), ..Run::default() }
    };
    runs.iter().map(part).collect()
}

/// The losses of a run by the tokens it had trained on. A point of which that is not known is left out.
fn over_tokens(run: &Run) -> Run {
    let place = |(step, loss): &Point| {
        let found = run.tokens.binary_search_by(|(known, _)| known.total_cmp(step)).ok();
        let tokens = if *step == 0.0 { Some(0.0) } else { found.map(|i| run.tokens[i].1) };
        tokens.map(|tokens| (tokens, *loss))
    };
    let places = |points: &[Point]| points.iter().filter_map(place).collect();
    Run { name: run.name.clone(), train: places(&run.train), val: places(&run.val), ..Run::default() }
}
