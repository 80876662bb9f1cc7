//! What a picture shows on request: another axis, one number, and what rows hold that nobody trained.

use hadal::config::Config;
use hadal::plot::raster::raster;
use hadal::plot::style::WIDTH;
use hadal::plot::svg::svg;
use hadal::plot::{By, PlotOptions, Run, draw_runs, layout};
use hadal::train::journal::{Journal, read_stamped};
use hadal::train::place::Place;
use hadal::train::rows::{ExpertLoad, Row, Stamped, TrainRow, ValRow};

/// Rows of a run of 40 steps, half a minute each, which stopped for a while after the 20th.
fn timed() -> Vec<Stamped> {
    let load = |layer| ExpertLoad { layer, max: 0.3, min: 0.1, entropy: 0.9 };
    let row = |step: u64| {
        let numbers = [("reward".to_owned(), step as f64 / 40.0)].into();
        let expert_load = vec![load(1), load(2)];
        let row = TrainRow {
            step,
            loss: 5.0 / step as f64,
            lr: 1e-3,
            tokens: 64 * step,
            expert_load,
            numbers,
            ..TrainRow::default()
        };
        Stamped { row: Row::Train(row), elapsed: 30.0 * step as f64, wall_time: 1.75e9 + 30.0 * step as f64 }
    };
    let val = Row::Val(ValRow { step: 0, loss: 6.0, bits_per_byte: 2.0, ..ValRow::default() });
    std::iter::once(Stamped { row: val, elapsed: 12.0, wall_time: 1.75e9 }).chain((1..=40).map(row)).collect()
}

#[test]
fn a_run_can_be_drawn_by_its_tokens_and_by_its_time() {
    let run = [Run::from_rows("timed", &timed())];
    let axis = |by| layout(&run, &PlotOptions { by, ..PlotOptions::default() }).main.1.x;
    assert_eq!([By::Steps, By::Tokens, By::Time].map(|by| axis(by).high), [40.0, 64.0 * 40.0, 20.0]);
    let named = |by| svg(&hadal::plot::render(&run, &PlotOptions { by, ..PlotOptions::default() }), "");
    let names = [(By::Steps, ">steps<"), (By::Tokens, ">tokens<"), (By::Time, ">minutes<")];
    assert!(names.into_iter().all(|(by, name)| named(by).contains(name)));
}

#[test]
fn a_metric_is_drawn_alone_under_the_names_of_rows_and_of_tensorboard() {
    let rows = timed();
    let of = |metric| Run::of_metric("timed", &rows, metric);
    for (metric, last, held_out) in [
        ("reward", 1.0, 0),
        ("lr", 1e-3, 0),
        ("train/learning_rate", 1e-3, 0),
        ("expert_load/layer_2/min", 0.1, 0),
        ("loss", 0.125, 1),
    ] {
        let run = of(metric).unwrap();
        assert_eq!((run.train.len(), run.train[39], run.val.len()), (40, (40.0, last), held_out), "{metric}");
        let options = PlotOptions { metric: Some(metric.to_owned()), ..PlotOptions::default() };
        let layout = layout(&[run], &options);
        assert!(layout.others.is_empty() && layout.main.0.title == metric);
    }
    let only_held_out = of("val/bits_per_byte").unwrap();
    assert_eq!((only_held_out.train.len(), &only_held_out.val[..]), (0, &[(0.0, 2.0)][..]));
    let unknown = of("rewards").unwrap_err();
    assert!(unknown.exit_code() == 2 && unknown.to_string().contains("reward, "), "{unknown}");
}

#[test]
fn what_is_known_of_a_run_stands_behind_its_name() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("tiny-1");
    let mut journal = Journal::create(Place::of(&folder, false).unwrap(), &Config::default()).unwrap();
    let row = TrainRow { step: 1, loss: 4.0, tokens: 1_228_800, ..TrainRow::default() };
    journal.record(&Row::Train(row)).unwrap();
    let picture = parent.path().join("picture.svg");
    draw_runs(&[("a <run>".to_owned(), &folder)], &PlotOptions::default(), &picture).unwrap();
    let text = std::fs::read_to_string(&picture).unwrap();
    assert!(text.starts_with("<svg ") && text.contains(">a &lt;run&gt;</text>"), "{text}");
    assert!(text.contains(">764k parameters, the embedded world, 1.23M tokens</text>"), "{text}");
    assert!(read_stamped(&folder).unwrap()[0].elapsed >= 0.0);
    // Without a configuration there is a picture all the same.
    std::fs::write(folder.join("config.toml"), "nonsense").unwrap();
    draw_runs(&[("run".to_owned(), &folder)], &PlotOptions::default(), &picture).unwrap();
}

#[test]
fn hostile_rows_are_drawn_by_steps_tokens_and_time() {
    let mut rows = timed();
    for (i, line) in rows.iter_mut().enumerate() {
        line.elapsed = [f64::NAN, 1e308, -1e308, 5e-324, f64::INFINITY][i % 5];
        if let Row::Train(row) = &mut line.row {
            (row.step, row.tokens) = ([u64::MAX, 7, u64::MAX - 1][i % 3], [u64::MAX, 0][i % 2]);
            row.loss = [1e308, f64::NAN, -1e308, 5e-324][i % 4];
        }
    }
    let run = Run::from_rows("hostile", &rows);
    for by in [By::Steps, By::Tokens, By::Time] {
        for log in [false, true] {
            let options = PlotOptions { by, log, smooth: Some(usize::MAX), ..PlotOptions::default() };
            let canvas = hadal::plot::render(&[run.clone(), run.clone()], &options);
            let text = svg(&canvas, "hostile");
            assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
            assert!(log || raster(&canvas).width() == WIDTH);
        }
    }
}
