//! One loss of several runs, by steps and, beside that, by tokens: arms of a study that make the same number of steps
//! with batches of different sizes are equally long in the left panel only.

use super::PlotOptions;
use super::canvas::{Canvas, Rect};
use super::draw::{Look, draw_curves, draw_frame, draw_title, heading, horizontal_axis, top};
use super::kind;
use super::legend;
use super::panel::Panel;
use super::run::{By, Run, about, placed};
use super::style::{BACKGROUND, COMPARISON_HEIGHT, GUTTER, LEFT, RIGHT, UNDER, WIDTH};

/// Which loss is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Curve {
    /// Of the steps, faint, and smoothed.
    Train,
    /// Of the validations.
    Validation,
}

/// The panels that [`render`] uses for these runs: by steps, and by tokens.
pub fn panels(runs: &[Run], curve: Curve, options: &PlotOptions) -> [Panel; 2] {
    arrange(&only(runs, curve), options)
}

/// Draws one loss of the runs over each other, twice.
pub fn render(runs: &[Run], curve: Curve, options: &PlotOptions) -> Canvas {
    let mut canvas = Canvas::new(WIDTH, COMPARISON_HEIGHT, BACKGROUND);
    let runs = only(runs, curve);
    let kind = kind::main(&runs, options);
    let panels = arrange(&runs, options);
    draw_title(&mut canvas, &heading(&runs, options), &about(&runs));
    legend::draw(&mut canvas, &legend::rows(&legend::entries(&runs, &kind, panels[0].y.scale, options)));
    for (panel, by) in panels.iter().zip([By::Steps, By::Tokens]) {
        let (runs, name) = placed(&runs, by);
        draw_frame(&mut canvas, &kind, panel, Some(name), &runs);
        draw_curves(&mut canvas, &kind, panel, Look::LARGE, &runs, options);
    }
    canvas
}

fn arrange(runs: &[Run], options: &PlotOptions) -> [Panel; 2] {
    let kind = kind::main(runs, options);
    let (y, width) = (kind.axis(runs, options), (RIGHT - LEFT - GUTTER) / 2.0);
    let top = top(legend::rows(&legend::entries(runs, &kind, y.scale, options)).lines.len());
    let bottom = f64::from(COMPARISON_HEIGHT) - UNDER;
    let area = |left| Rect::new(left, top, left + width, bottom);
    let by_tokens = placed(runs, By::Tokens).0;
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
        let Run { name, facts, tokens, .. } = run.clone();
        Run { name, facts, train, val, tokens, ..Run::default() }
    };
    runs.iter().map(part).collect()
}
