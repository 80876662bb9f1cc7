//! The picture of a run: it decodes, its curves are where the numbers say, and no kind of run breaks it.

#[path = "common/pixels.rs"]
mod pixels;

use hadal::config::Config;
use hadal::plot::compare::{self, Curve};
use hadal::plot::panel::Panel;
use hadal::plot::style::{BACKGROUND, ENTROPY, HEIGHT, LEFT, RIGHT, WIDTH, color};
use hadal::plot::{PICTURE, PlotOptions, Run, draw_run, draw_runs, layout, render};
use hadal::train::journal::Journal;
use hadal::train::rows::{Row, TrainRow, ValRow};
use image::RgbImage;
use pixels::{at, pixel};
use std::time::{Duration, Instant};

/// A run of `count` updates whose loss falls on a hyperbola, with a validation every tenth of it.
fn run(count: u32) -> Run {
    let mut run = Run { name: "example".to_owned(), ..Run::default() };
    let loss = |step: f64| 1.5 + 4.0 / (1.0 + 8.0 * step / f64::from(count));
    for step in (1..=count).map(f64::from) {
        run.train.push((step, loss(step)));
        run.learning_rate.push((step, 1e-3 * (1.0 - 0.5 * step / f64::from(count))));
        run.grad_norm.push((step, 0.5 + 1.0 / step));
    }
    run.val = (0..=10).map(|i| f64::from(i * count / 10)).map(|step| (step, loss(step) + 0.8)).collect();
    run
}

/// How many of the points of `expected` have the colour of run 0 at their pixel in the loss panel.
fn found(picture: &RgbImage, panel: &Panel, expected: &Run) -> usize {
    expected.train.iter().filter(|(x, y)| at(picture, pixel(panel, *x, *y)) == color(0)).count()
}

#[test]
fn the_training_curve_is_where_its_numbers_are() {
    let run = run(90);
    let picture = render(std::slice::from_ref(&run), &PlotOptions::default());
    let panel = layout(std::slice::from_ref(&run), &PlotOptions::default()).loss;
    assert_eq!(found(&picture, &panel, &run), 90);
}

#[test]
fn a_curve_in_the_wrong_place_is_noticed() {
    let run = run(90);
    let (mut higher, mut mirrored) = (run.clone(), run.clone());
    higher.train.iter_mut().for_each(|p| p.1 += 0.1);
    mirrored.train.iter_mut().zip(run.train.iter().rev()).for_each(|(p, q)| p.1 = q.1);
    for wrong in [higher, mirrored] {
        let picture = render(std::slice::from_ref(&wrong), &PlotOptions::default());
        let panel = layout(&[wrong], &PlotOptions::default()).loss;
        assert!(found(&picture, &panel, &run) < 10);
    }
}

#[test]
fn validations_are_rings_and_the_learning_rate_has_its_panel() {
    let run = run(200);
    let picture = render(std::slice::from_ref(&run), &PlotOptions::default());
    let layout = layout(std::slice::from_ref(&run), &PlotOptions::default());
    for (step, loss) in &run.val {
        let (x, y) = pixel(&layout.loss, *step, *loss);
        assert_eq!(at(&picture, (x, y)), BACKGROUND, "the middle of the ring at update {step}");
        assert_eq!(at(&picture, (x, y - 5)), color(1), "the ring at update {step}");
    }
    for (step, rate) in &run.learning_rate {
        // The line is two pixels thick: its middle may lie on a border of pixels, where it covers most of one.
        let [red, ..] = at(&picture, pixel(&layout.learning_rate, *step, *rate));
        assert!(red < 100, "update {step}: {red}");
    }
    let norms = layout.grad_norm.expect("the run has gradient norms");
    let (step, norm) = run.grad_norm[199];
    assert_ne!(at(&picture, pixel(&norms, step, norm)), BACKGROUND);
}

#[test]
fn the_experts_shares_have_a_panel_where_there_are_experts() {
    let mut run = run(200);
    assert!(layout(std::slice::from_ref(&run), &PlotOptions::default()).expert_load.is_none());
    run.busiest = run.learning_rate.iter().map(|p| (p.0, 0.4 - p.0 / 1000.0)).collect();
    run.idlest = run.learning_rate.iter().map(|p| (p.0, 0.01)).collect();
    let picture = render(std::slice::from_ref(&run), &PlotOptions::default());
    let layout = layout(std::slice::from_ref(&run), &PlotOptions::default());
    let (panel, norms) = (layout.expert_load.unwrap(), layout.grad_norm.unwrap());
    assert!(panel.area.left > norms.area.right && panel.y.low == 0.0 && panel.y.high > 0.4);
    for (step, share) in run.busiest.iter().chain(&run.idlest).skip(10) {
        let [red, ..] = at(&picture, pixel(&panel, *step, *share));
        assert!(red < 130, "update {step}, share {share}: {red}");
    }
}

#[test]
fn the_entropy_line_lies_at_the_entropy() {
    let run = run(100);
    let options = PlotOptions { entropy: Some(1.0), ..PlotOptions::default() };
    let panel = layout(std::slice::from_ref(&run), &options).loss;
    let row = pixel(&panel, 0.0, 1.0).1;
    let dark = |picture: &RgbImage| {
        let columns = panel.area.left as u32..panel.area.right as u32;
        columns.filter(|x| (row - 1..=row + 1).any(|y| at(picture, (*x, y)) == ENTROPY)).count()
    };
    assert!(dark(&render(std::slice::from_ref(&run), &options)) > 400);
    assert_eq!(dark(&render(&[run], &PlotOptions::default())), 0);
}

#[test]
fn each_of_several_runs_has_its_own_colour() {
    let runs: Vec<Run> = (0..3)
        .map(|i| {
            let mut run = run(90);
            run.train.iter_mut().for_each(|p| p.1 += f64::from(i));
            run.val.clear();
            run
        })
        .collect();
    let picture = render(&runs, &PlotOptions::default());
    let panel = layout(&runs, &PlotOptions::default()).loss;
    for (i, run) in runs.iter().enumerate() {
        let (x, y) = run.train[60];
        assert_eq!(at(&picture, pixel(&panel, x, y)), color(i));
    }
}

#[test]
fn nothing_is_drawn_at_the_edges_of_the_picture() {
    let mut long = run(60);
    long.name = "a name without end ".repeat(30);
    long.busiest = long.train.clone();
    let runs: Vec<Run> = (0..40).map(|_| long.clone()).collect();
    for runs in [&runs[..1], &runs[..2], &runs] {
        let options = PlotOptions { title: None, entropy: Some(1.0) };
        let picture = render(runs, &options);
        let inner = |x: u32, y: u32| (8..WIDTH - 8).contains(&x) && (8..HEIGHT - 8).contains(&y);
        let outside = picture.enumerate_pixels().filter(|(x, y, _)| !inner(*x, *y));
        assert!(outside.into_iter().all(|(_, _, p)| p.0 == BACKGROUND));
        let panels = layout(runs, &options);
        assert!(panels.loss.area.height() >= 250.0, "the legend leaves room for the curves");
    }
}

/// Runs that have broken plots before: every one must give a picture.
#[test]
fn odd_runs_are_drawn() {
    let nothing = Run::default();
    let mut gaps = run(50);
    gaps.train.iter_mut().step_by(2).for_each(|p| p.1 = f64::NAN);
    gaps.grad_norm.iter_mut().for_each(|p| p.1 = f64::INFINITY);
    gaps.val.iter_mut().for_each(|p| p.1 = f64::NEG_INFINITY);
    let mut flat = run(50);
    for curve in [&mut flat.train, &mut flat.val, &mut flat.learning_rate, &mut flat.grad_norm] {
        curve.iter_mut().for_each(|p| p.1 = 0.0);
    }
    let mut wild = run(50);
    wild.train.iter_mut().enumerate().for_each(|(i, p)| p.1 = 10f64.powi(i as i32 * 6));
    wild.grad_norm.iter_mut().for_each(|p| p.1 = f64::MAX);
    wild.learning_rate.iter_mut().for_each(|p| p.1 = f64::MIN_POSITIVE);
    let mut negative = run(50);
    negative.train.iter_mut().for_each(|p| p.1 -= 1e4);
    for odd in [nothing, run(1), run(2), gaps, flat, wild, negative] {
        for entropy in [None, Some(1.0), Some(f64::NAN)] {
            let picture = render(std::slice::from_ref(&odd), &PlotOptions { title: None, entropy });
            assert_eq!(picture.dimensions(), (WIDTH, HEIGHT));
        }
    }
    assert_eq!(render(&[], &PlotOptions::default()).dimensions(), (WIDTH, HEIGHT));
}

#[test]
fn a_single_update_is_visible() {
    let run = run(1);
    let picture = render(std::slice::from_ref(&run), &PlotOptions::default());
    let panel = layout(std::slice::from_ref(&run), &PlotOptions::default()).loss;
    assert_eq!(found(&picture, &panel, &run), 1);
}

#[test]
fn the_same_runs_give_the_same_picture() {
    let runs = [run(500), run(300)];
    assert_eq!(render(&runs, &PlotOptions::default()), render(&runs, &PlotOptions::default()));
}

/// A second is the aim in a release build; the bound only catches work that grows faster than the points.
#[test]
fn a_million_updates_are_drawn_in_seconds() {
    let run = run(1_000_000);
    let start = Instant::now();
    render(&[run], &PlotOptions::default());
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

#[test]
fn the_picture_in_a_run_folder_decodes_and_replaces_the_old_one() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("first");
    let mut journal = Journal::create(&folder, &Config::default(), false).unwrap();
    draw_run(&folder, None).unwrap();
    journal.record(&Row::Val(ValRow { step: 0, loss: 5.0, ..ValRow::default() })).unwrap();
    let train = |step: u64| TrainRow { step, loss: 4.0 - 0.1 * step as f64, lr: 1e-3, ..TrainRow::default() };
    (1..=20).for_each(|step| journal.record(&Row::Train(train(step))).unwrap());
    draw_run(&folder, Some(1.0)).unwrap();
    let decoded = image::open(folder.join(PICTURE)).unwrap().to_rgb8();
    let run = Run::read(&folder).unwrap();
    assert_eq!((run.name.as_str(), run.train.len(), run.val.len()), ("first", 20, 1));
    assert_eq!(decoded, render(&[run], &PlotOptions { title: None, entropy: Some(1.0) }));
    let names: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names.len(), 6, "no temporary file is left: {names:?}");

    let both = parent.path().join("both.png");
    draw_runs(&[&folder, &folder], &PlotOptions::default(), &both).unwrap();
    assert_eq!(image::open(both).unwrap().to_rgb8().dimensions(), (WIDTH, HEIGHT));
    let missing = draw_run(&parent.path().join("missing"), None).unwrap_err();
    assert!(missing.exit_code() == 2 && missing.to_string().contains("missing"), "{missing}");
}

#[test]
fn curves_stay_between_the_edges_of_the_panels() {
    let mut spike = run(100);
    spike.train[50].1 = 1e6;
    spike.val.truncate(1);
    let picture = render(std::slice::from_ref(&spike), &PlotOptions::default());
    let area = layout(std::slice::from_ref(&spike), &PlotOptions::default()).loss.area;
    // Between the panel's title and its top edge, and beside the panel, there is paper only.
    let columns = (LEFT as u32 + 400..RIGHT as u32).chain(RIGHT as u32 + 8..WIDTH);
    let above = columns.flat_map(|x| (area.top as u32 - 28..area.top as u32 - 3).map(move |y| (x, y)));
    assert!(above.into_iter().all(|place| at(&picture, place) == BACKGROUND));
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
    let picture = compare::render(&arms, Curve::Train, &options);
    let [updates, tokens] = compare::panels(&arms, Curve::Train, &options);
    assert!(updates.area.right < tokens.area.left);
    assert_eq!((updates.x.high, tokens.x.high, updates.y), (60.0, 180_000.0, tokens.y));
    for (i, arm) in arms.iter().enumerate() {
        for ((step, loss), (_, seen)) in arm.train.iter().zip(&arm.tokens) {
            assert_eq!(at(&picture, pixel(&updates, *step, *loss)), color(i), "update {step}");
            assert_eq!(at(&picture, pixel(&tokens, *seen, *loss)), color(i), "{seen} tokens");
        }
    }
}

#[test]
fn a_comparison_of_validations_has_their_rings_and_no_training_loss() {
    let arms = arms();
    let options = PlotOptions::default();
    let picture = compare::render(&arms, Curve::Validation, &options);
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
    assert_eq!(picture, compare::render(&without, Curve::Validation, &options));
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
            assert_eq!(compare::render(&odd, curve, &options).width(), WIDTH);
        }
    }
}
