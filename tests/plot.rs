//! The picture of a run: it decodes, its curves are where the numbers say, and no kind of run breaks it.

#[path = "plot/asked.rs"]
mod asked;
#[path = "plot/compared.rs"]
mod compared;
#[path = "common/pixels.rs"]
mod pixels;

use hadal::config::Config;
use hadal::plot::axis::Scale;
use hadal::plot::panel::Panel;
use hadal::plot::raster::raster;
use hadal::plot::style::{BACKGROUND, ENTROPY, HEIGHT, LEFT, RIGHT, STYLES, WIDTH, color, dash};
use hadal::plot::svg::svg;
use hadal::plot::{Facts, Layout, PICTURE, PlotOptions, Run, draw_run, draw_runs, layout};
use hadal::train::journal::Journal;
use hadal::train::place::Place;
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

fn render(runs: &[Run], options: &PlotOptions) -> RgbImage {
    raster(&hadal::plot::render(runs, options))
}

/// The panel with this title, of the smaller ones.
fn small(layout: &Layout, title: &str) -> Panel {
    layout.others.iter().find(|(kind, _)| kind.title == title).unwrap_or_else(|| panic!("no {title}: {layout:?}")).1
}

/// How many of the points of `expected` have the colour of run 0 at their pixel in the loss panel.
fn found(picture: &RgbImage, panel: &Panel, expected: &Run) -> usize {
    expected.train.iter().filter(|(x, y)| at(picture, pixel(panel, *x, *y)) == color(0)).count()
}

#[test]
fn the_training_curve_is_where_its_numbers_are() {
    let run = run(90);
    let picture = render(std::slice::from_ref(&run), &PlotOptions::default());
    let panel = layout(std::slice::from_ref(&run), &PlotOptions::default()).main.1;
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
        let panel = layout(&[wrong], &PlotOptions::default()).main.1;
        assert!(found(&picture, &panel, &run) < 10);
    }
}

#[test]
fn validations_are_rings_and_the_learning_rate_has_its_panel() {
    let run = run(200);
    let picture = render(std::slice::from_ref(&run), &PlotOptions::default());
    let layout = layout(std::slice::from_ref(&run), &PlotOptions::default());
    for (step, loss) in &run.val {
        let (x, y) = pixel(&layout.main.1, *step, *loss);
        assert_eq!(at(&picture, (x, y)), BACKGROUND, "the middle of the ring at update {step}");
        assert_eq!(at(&picture, (x, y - 5)), color(1), "the ring at update {step}");
    }
    for (step, rate) in &run.learning_rate {
        // The line is two pixels thick: its middle may lie on a border of pixels, where it covers most of one.
        let [red, ..] = at(&picture, pixel(&small(&layout, "learning rate"), *step, *rate));
        assert!(red < 100, "update {step}: {red}");
    }
    let norms = small(&layout, "gradient norm before clipping");
    let (step, norm) = run.grad_norm[199];
    assert_ne!(at(&picture, pixel(&norms, step, norm)), BACKGROUND);
}

#[test]
fn the_experts_shares_have_a_panel_with_a_line_at_that_of_balance_where_there_are_experts() {
    let mut run = run(200);
    let titles = |run: &Run| -> Vec<String> {
        let layout = layout(std::slice::from_ref(run), &PlotOptions::default());
        layout.others.iter().map(|(kind, _)| kind.title.to_string()).collect()
    };
    assert_eq!(titles(&run), ["gradient norm before clipping", "learning rate"]);
    run.busiest = run.learning_rate.iter().map(|p| (p.0, 0.4 - p.0 / 1000.0)).collect();
    run.idlest = run.learning_rate.iter().map(|p| (p.0, 0.01)).collect();
    run.facts = Facts { experts: Some(8), ..Facts::default() };
    assert_eq!(titles(&run)[0], "experts' shares of tokens");
    let picture = render(std::slice::from_ref(&run), &PlotOptions::default());
    let layout = layout(std::slice::from_ref(&run), &PlotOptions::default());
    let (panel, norms) = (small(&layout, "experts' shares of tokens"), small(&layout, "gradient norm before clipping"));
    assert!(panel.area.right < norms.area.left && panel.y.low == 0.0 && panel.y.high > 0.4);
    let near = |(x, y): (u32, u32), paint: [u8; 3]| {
        let like = |found: [u8; 3]| found.iter().zip(paint).all(|(a, b)| a.abs_diff(b) < 130);
        (y - 1..=y + 1).any(|y| at(&picture, (x, y)) != BACKGROUND && like(at(&picture, (x, y))))
    };
    for (points, paint) in [(&run.busiest, color(0)), (&run.idlest, color(2))] {
        assert!(points.iter().skip(10).all(|(step, share)| near(pixel(&panel, *step, *share), paint)));
    }
    let balance = (1..200).filter(|step| near(pixel(&panel, f64::from(*step), 1.0 / 8.0), ENTROPY)).count();
    assert!(balance > 80, "{balance}");
}

#[test]
fn every_panel_has_numbers_under_it_and_the_last_one_is_its_end() {
    let mut run = run(248);
    run.busiest = run.grad_norm.clone();
    let runs = [run];
    let text = svg(&hadal::plot::render(&runs, &PlotOptions::default()), "numbers");
    let layout = layout(&runs, &PlotOptions::default());
    assert_eq!(layout.others.len(), 3);
    // The numbers that are centred, line by line.
    let number = |line: &str| {
        let part = |from: &str, to: &str| Some(line.split_once(from)?.1.split_once(to)?.0.to_owned());
        let (x, y): (f64, f64) = (part("x=\"", "\"")?.parse().ok()?, part("y=\"", "\"")?.parse().ok()?);
        line.contains("\"middle\"").then_some((x, y, part(">", "<")?))
    };
    let numbers: Vec<(f64, f64, String)> = text.lines().filter_map(number).collect();
    for (kind, panel) in std::iter::once(&layout.main).chain(&layout.others) {
        let under = |(x, y, _): &&(f64, f64, String)| {
            (panel.area.bottom..panel.area.bottom + 30.0).contains(y)
                && (panel.area.left..=panel.area.right).contains(x)
        };
        let under: Vec<&str> = numbers.iter().filter(under).map(|(_, _, text)| text.as_str()).collect();
        assert!(under.len() > 3 && under[0] == "0" && *under.last().unwrap() == "248", "{}: {under:?}", kind.title);
    }
}

/// A loss that falls fast and then has far to go, as that of the embedded default.
fn default_run() -> Run {
    let mut run = run(600);
    let loss = |step: f64| 0.5 + 0.6 * (-step / 300.0).exp() + 6.0 * (-step / 25.0).exp();
    run.train.iter_mut().for_each(|p| p.1 = loss(p.0));
    run.val.iter_mut().for_each(|p| p.1 = loss(p.0) + 0.01);
    run
}

#[test]
fn what_follows_the_first_fall_fills_the_panel() {
    let filled = |run: &Run, options: &PlotOptions| {
        let panel = layout(std::slice::from_ref(run), options).main.1;
        let row = |point: &(f64, f64)| f64::from(pixel(&panel, point.0, point.1).1);
        let late = &run.train[run.train.len() / 4..];
        (row(late.last().unwrap()) - row(&late[0])) / panel.area.height()
    };
    let options = PlotOptions { entropy: Some(0.47), ..PlotOptions::default() };
    let default = default_run();
    let share = filled(&default, &options);
    assert!(share > 0.4, "{share}");
    let panel = layout(std::slice::from_ref(&default), &options).main.1;
    assert!(panel.y.scale == Scale::Linear && panel.y.high < 2.0 && panel.y.low < 0.47, "{panel:?}");
    // The heading says what is not shown.
    let text = svg(&hadal::plot::render(std::slice::from_ref(&default), &options), "");
    assert!(text.contains(">loss in nats per token, the start at 7.11 left out</text>"), "{text}");
    // A slow fall is shown as a whole; a long one by its logarithm; and so is any other on request.
    let slow = Run { train: (1..=300).map(|i| (f64::from(i), 11.0 - f64::from(i) / 50.0)).collect(), ..Run::default() };
    let axis = layout(std::slice::from_ref(&slow), &PlotOptions::default()).main.1.y;
    assert!(axis.scale == Scale::Linear && axis.high > 10.98 && axis.low < 5.0, "{axis:?}");
    let axis = layout(&[slow], &PlotOptions { log: true, ..PlotOptions::default() }).main.1.y;
    assert_eq!(axis.scale, Scale::Log);
    let long = Run { train: (1..=300).map(|i| (f64::from(i), 10.0 / f64::from(i))).collect(), ..Run::default() };
    assert_eq!(layout(&[long], &PlotOptions::default()).main.1.y.scale, Scale::Log);
}

#[test]
fn the_entropy_line_lies_at_the_entropy() {
    let run = run(100);
    let options = PlotOptions { entropy: Some(1.0), ..PlotOptions::default() };
    let panel = layout(std::slice::from_ref(&run), &options).main.1;
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
    let panel = layout(&runs, &PlotOptions::default()).main.1;
    for (i, run) in runs.iter().enumerate() {
        let found = run.train.iter().filter(|(x, y)| at(&picture, pixel(&panel, *x, *y)) == color(i)).count();
        assert!(found > 30, "run {i}: {found}");
    }
}

#[test]
fn of_runs_that_coincide_all_can_be_seen() {
    let runs = vec![run(90); 4];
    let picture = render(&runs, &PlotOptions::default());
    let panel = layout(&runs, &PlotOptions::default()).main.1;
    let inside = |x: u32, y: u32| {
        let (x, y) = (f64::from(x), f64::from(y));
        (panel.area.left..panel.area.right).contains(&x) && (panel.area.top..panel.area.bottom).contains(&y)
    };
    for i in 0..runs.len() {
        let found = picture.enumerate_pixels().filter(|(x, y, p)| inside(*x, *y) && p.0 == color(i)).count();
        assert!(found > 100, "run {i}: {found}");
    }
    let styles: std::collections::HashSet<String> =
        (0..STYLES).map(|i| format!("{:?}{:?}", color(i), dash(i))).collect();
    assert_eq!(styles.len(), STYLES);
}

#[test]
fn nothing_is_drawn_at_the_edges_of_the_picture() {
    let mut long = run(60);
    long.name = "a name without end ".repeat(30);
    long.busiest = long.train.clone();
    let runs: Vec<Run> = (0..40).map(|_| long.clone()).collect();
    for runs in [&runs[..1], &runs[..2], &runs] {
        let options = PlotOptions { entropy: Some(1.0), ..PlotOptions::default() };
        let picture = render(runs, &options);
        let inner = |x: u32, y: u32| (8..WIDTH - 8).contains(&x) && (8..picture.height() - 8).contains(&y);
        let outside = picture.enumerate_pixels().filter(|(x, y, _)| !inner(*x, *y));
        assert!(outside.into_iter().all(|(_, _, p)| p.0 == BACKGROUND));
        let panels = layout(runs, &options);
        assert!(panels.main.1.area.height() >= 250.0, "the legend leaves room for the curves");
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
            let picture = render(std::slice::from_ref(&odd), &PlotOptions { entropy, ..PlotOptions::default() });
            assert_eq!(picture.dimensions(), (WIDTH, HEIGHT));
        }
    }
    assert_eq!(render(&[], &PlotOptions::default()).dimensions(), (WIDTH, HEIGHT));
}

#[test]
fn a_single_update_is_visible() {
    let run = run(1);
    let picture = render(std::slice::from_ref(&run), &PlotOptions::default());
    let panel = layout(std::slice::from_ref(&run), &PlotOptions::default()).main.1;
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
    let mut journal = Journal::create(Place::of(&folder, false).unwrap(), &Config::default()).unwrap();
    draw_run(&folder, None).unwrap();
    journal.record(&Row::Val(ValRow { step: 0, loss: 5.0, ..ValRow::default() })).unwrap();
    let train = |step: u64| TrainRow { step, loss: 4.0 - 0.1 * step as f64, lr: 1e-3, ..TrainRow::default() };
    (1..=20).for_each(|step| journal.record(&Row::Train(train(step))).unwrap());
    draw_run(&folder, Some(1.0)).unwrap();
    let decoded = image::open(folder.join(PICTURE)).unwrap().to_rgb8();
    let run = Run::read(&folder).unwrap();
    assert_eq!((run.name.as_str(), run.train.len(), run.val.len()), ("first", 20, 1));
    assert_eq!(decoded, render(&[run], &PlotOptions { entropy: Some(1.0), ..PlotOptions::default() }));
    let names: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names.len(), 7, "no temporary file is left: {names:?}");

    let both = parent.path().join("both.png");
    let named = ["one", "two"].map(|name| (name.to_owned(), &folder));
    draw_runs(&named, &PlotOptions::default(), &both).unwrap();
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
    let area = layout(std::slice::from_ref(&spike), &PlotOptions::default()).main.1.area;
    // Between the panel's title and its top edge, and beside the panel, there is paper only.
    let columns = (LEFT as u32 + 400..RIGHT as u32).chain(RIGHT as u32 + 8..WIDTH);
    let above = columns.flat_map(|x| (area.top as u32 - 28..area.top as u32 - 3).map(move |y| (x, y)));
    assert!(above.into_iter().all(|place| at(&picture, place) == BACKGROUND));
}
