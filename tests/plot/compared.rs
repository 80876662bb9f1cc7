//! One loss of several runs, by steps and by tokens.

use super::pixels::{at, pixel};
use super::run;
use hadal::plot::compare::{self, Curve};
use hadal::plot::panel::Panel;
use hadal::plot::raster::raster;
use hadal::plot::style::{BACKGROUND, WIDTH, color};
use hadal::plot::{PlotOptions, Run};
use image::RgbImage;

fn compared(runs: &[Run], curve: Curve, options: &PlotOptions) -> RgbImage {
    raster(&compare::render(runs, curve, options))
}

/// Three runs of 60 updates, of 1,000 tokens an update in the first, 2,000 and 3,000 in the others.
fn arms() -> Vec<Run> {
    let arm = |i: u32| {
        let mut arm = run(60);
        arm.train.iter_mut().chain(&mut arm.val).for_each(|p| p.1 += f64::from(i));
        arm.tokens = arm.train.iter().map(|p| (p.0, p.0 * 1000.0 * f64::from(i + 1))).collect();
        arm
    };
    (0..3).map(arm).collect()
}

#[test]
fn a_comparison_shows_each_run_by_updates_and_by_its_tokens() {
    let arms = arms();
    let options = PlotOptions::default();
    let picture = compared(&arms, Curve::Train, &options);
    let [updates, tokens] = compare::panels(&arms, Curve::Train, &options);
    assert!(updates.area.right < tokens.area.left);
    assert_eq!((updates.x.high, tokens.x.high, updates.y), (60.0, 180_000.0, tokens.y));
    for (i, arm) in arms.iter().enumerate() {
        let seen = |panel: &Panel, points: &mut dyn Iterator<Item = (f64, f64)>| {
            points.filter(|(x, y)| at(&picture, pixel(panel, *x, *y)) == color(i)).count()
        };
        let by_tokens = arm.tokens.iter().zip(&arm.train).map(|((_, seen), (_, loss))| (*seen, *loss));
        let found = [seen(&updates, &mut arm.train.iter().copied()), seen(&tokens, &mut by_tokens.into_iter())];
        // Those of the first have no gaps, those of the others have some.
        assert!(found.iter().all(|found| *found > if i == 0 { 57 } else { 20 }), "run {i}: {found:?}");
    }
}

#[test]
fn a_comparison_of_validations_has_their_rings_and_no_training_loss() {
    let arms = arms();
    let options = PlotOptions::default();
    let picture = compared(&arms, Curve::Validation, &options);
    let [updates, tokens] = compare::panels(&arms, Curve::Validation, &options);
    for (i, arm) in arms.iter().enumerate() {
        for (panel, scale) in [(&updates, 1.0), (&tokens, 1000.0 * (i + 1) as f64)] {
            let (step, loss) = arm.val[10];
            let (x, y) = pixel(panel, step * scale, loss);
            assert_eq!((at(&picture, (x, y)), at(&picture, (x, y - 5))), (BACKGROUND, color(i)));
        }
    }
    let mut without = arms.clone();
    without.iter_mut().for_each(|arm| arm.train.clear());
    assert_eq!(picture, compared(&without, Curve::Validation, &options));
}

#[test]
fn what_cannot_be_placed_by_tokens_is_left_out_and_nothing_breaks() {
    let mut arms = arms();
    arms[2].tokens.truncate(30);
    let [updates, tokens] = compare::panels(&arms, Curve::Train, &PlotOptions::default());
    assert_eq!((updates.x.high, tokens.x.high), (60.0, 120_000.0));
    for odd in [vec![], vec![Run::default()], vec![Run::default(); 30], vec![run(1)], arms] {
        for curve in [Curve::Train, Curve::Validation] {
            let options = PlotOptions { entropy: Some(1.0), ..PlotOptions::default() };
            assert_eq!(compared(&odd, curve, &options).width(), WIDTH);
        }
    }
}
