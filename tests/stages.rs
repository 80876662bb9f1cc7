//! Pictures of preference training: panels for what a run has and for nothing else, curves where the numbers are, and
//! the stages of a training one after the other.

#[path = "common/pixels.rs"]
mod pixels;

use hadal::config::Config;
use hadal::plot::canvas::Rect;
use hadal::plot::panel::Panel;
use hadal::plot::raster::raster;
use hadal::plot::style::{BACKGROUND, HEIGHT, WIDTH, color};
use hadal::plot::svg::svg;
use hadal::plot::{Facts, Layout, PICTURE, PlotOptions, Run, draw_run, draw_story, layout, render, story};
use hadal::train::journal::Journal;
use hadal::train::place::Place;
use hadal::train::rows::{ExpertLoad, Row, SftNumbers, Stamped, TrainRow, ValRow};
use image::RgbImage;
use pixels::{at, pixel};
use std::path::{Path, PathBuf};

/// What each stage records, with the value at the beginning, at the end, and how far it jumps about.
type Numbers = &'static [(&'static str, f64, f64, f64)];

const DPO: Numbers = &[("rewards/accuracies", 0.5, 0.93, 0.08), ("rewards/margins", 0.0, 2.5, 0.4)];
const GRPO: Numbers = &[
    ("reward", 0.15, 0.9, 0.1),
    ("kl", 0.0, 0.08, 0.01),
    ("entropy", 1.1, 0.4, 0.05),
    ("clip_ratio/low_mean", 0.002, 0.01, 0.002),
    ("clip_ratio/high_mean", 0.004, 0.02, 0.003),
    ("completions/mean_length", 30.0, 18.0, 2.0),
    ("completions/max_length", 64.0, 40.0, 6.0),
];
const PPO: Numbers =
    &[("reward", 0.2, 0.8, 0.1), ("policy/clipfrac_avg", 0.01, 0.05, 0.01), ("val/clipfrac_avg", 0.1, 0.02, 0.02)];

/// A number from -1 to 1 that depends on the update alone.
fn jump(step: u64) -> f64 {
    (step.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as f64 / f64::from(1 << 23) - 1.0
}

/// Rows of `count` updates, with a validation every tenth of them; of pretraining if there are no `numbers`.
fn rows(count: u64, numbers: Numbers) -> Vec<Row> {
    let mut rows = Vec::new();
    let text = numbers.is_empty();
    for step in 0..=count {
        let share = step as f64 / count as f64;
        let at = |jump: f64| {
            numbers.iter().map(move |(name, a, b, j)| ((*name).to_owned(), a + (b - a) * share.sqrt() + j * jump))
        };
        let loss = if text { 1.5 + 4.0 / (1.0 + 20.0 * share) } else { 0.69 - 0.4 * share };
        if step > 0 {
            let lr = 1e-4 * (1.0 - share);
            let expert_load = vec![ExpertLoad { layer: 1, max: 0.3, min: 0.1, entropy: 0.9 }];
            let loss = loss + 0.1 * jump(step);
            let numbers = at(jump(step + 7)).collect();
            rows.push(Row::Train(TrainRow {
                step,
                loss,
                lr,
                grad_norm: 1.0 + 0.2 * jump(step + 3),
                numbers,
                expert_load,
                ..TrainRow::default()
            }));
        }
        if step.is_multiple_of((count / 10).max(1)) {
            let held = numbers.iter().any(|(name, ..)| *name == "reward");
            let numbers = at(0.0).filter(|(name, _)| name == "reward" || name.starts_with("rewards/")).collect();
            let loss = if held { f64::NAN } else { loss + 0.05 };
            rows.push(Row::Val(ValRow { step, loss, numbers, ..ValRow::default() }));
        }
    }
    rows
}

fn run(count: u64, numbers: Numbers) -> Run {
    named("example", &rows(count, numbers))
}

fn named(name: &str, rows: &[Row]) -> Run {
    let lines: Vec<Stamped> = rows.iter().cloned().map(Stamped::from).collect();
    Run::from_rows(name, &lines)
}

fn of(run: &Run) -> Layout {
    layout(std::slice::from_ref(run), &PlotOptions::default())
}

fn drawn(run: &Run) -> RgbImage {
    raster(&render(std::slice::from_ref(run), &PlotOptions::default()))
}

fn titles(layout: &Layout) -> Vec<&str> {
    std::iter::once(&layout.main).chain(&layout.others).map(|(kind, _)| &*kind.title).collect()
}

fn panel(layout: &Layout, title: &str) -> Panel {
    let mut all = std::iter::once(&layout.main).chain(&layout.others);
    all.find(|(kind, _)| kind.title == title).unwrap_or_else(|| panic!("no {title}")).1
}

/// Points whose pixel, or one beside it, has this colour.
fn found(picture: &RgbImage, panel: &Panel, points: &[(f64, f64)], paint: [u8; 3]) -> usize {
    let near = |(x, y): (u32, u32)| (y - 1..=y + 1).any(|y| at(picture, (x, y)) == paint);
    points.iter().filter(|(x, y)| near(pixel(panel, *x, *y))).count()
}

/// How many of the points have a ring of a validation around them.
fn rings<'p>(picture: &RgbImage, panel: &Panel, points: impl Iterator<Item = &'p (f64, f64)>) -> usize {
    // The ring's edges are mixed with what is beside it.
    let like = |paint: [u8; 3]| paint.iter().zip(color(1)).all(|(a, b)| a.abs_diff(b) < 64);
    let ring = |(step, value): &&(f64, f64)| {
        let (x, y) = pixel(panel, *step, *value);
        at(picture, (x, y)) == BACKGROUND && (y - 6..y - 2).any(|y| like(at(picture, (x, y))))
    };
    points.filter(ring).count()
}

/// The panels that every run here has last.
const COMMON: [&str; 3] = ["experts' shares of tokens", "gradient norm before clipping", "learning rate"];

#[test]
fn what_a_stage_is_judged_by_has_the_large_panel_and_all_else_that_it_recorded_two_columns_below() {
    let (plain, dpo, grpo, ppo) = (run(60, &[]), run(60, DPO), run(60, GRPO), run(60, PPO));
    let [plain, dpo, grpo, ppo] = [plain, dpo, grpo, ppo].map(|run| of(&run));
    let with = |first: &[&'static str]| [first, &COMMON].concat();
    assert_eq!(titles(&plain), with(&["loss"]));
    let pairs = ["pairs ranked right", "loss", "margin between the rewards of a pair"];
    assert_eq!(titles(&dpo), with(&pairs));
    let kinds = ["KL divergence from the reference", "entropy", "share that is clipped", "tokens of an answer"];
    assert_eq!(titles(&grpo), with(&[&["reward", "loss"][..], &kinds].concat()));
    assert_eq!(titles(&ppo), with(&["reward", "loss", "share that is clipped"]));
    assert!(plain.height == HEIGHT && plain.main.1.area.height() > 370.0);
    for layout in [plain, dpo, grpo, ppo] {
        let grid: Vec<Rect> = layout.others.iter().map(|(_, panel)| panel.area).collect();
        let main = layout.main.1.area;
        for (i, area) in grid.iter().enumerate() {
            assert!(area.height() < main.height() / 2.0 && area.top >= main.bottom + 70.0, "room for labels and title");
            for other in &grid[..i] {
                let beside = other.right + 100.0 <= area.left;
                assert!(beside || other.bottom + 70.0 <= area.top, "{other:?} {area:?}");
            }
        }
        let last = grid.last().unwrap();
        assert!(grid.iter().all(|area| area.bottom <= last.bottom) && last.right == main.right);
        assert!(f64::from(layout.height) >= last.bottom + 80.0, "room for the labels");
    }
}

#[test]
fn fine_tuning_also_shows_how_many_tokens_are_predicted() {
    let mut rows = rows(60, &[]);
    for row in &mut rows {
        match row {
            Row::Train(row) => row.sft = Some(SftNumbers { mean_token_accuracy: 0.5, ..SftNumbers::default() }),
            Row::Val(row) => row.token_accuracy = 0.75,
        }
    }
    let run = named("sft", &rows);
    assert_eq!(titles(&of(&run))[..2], ["loss", "share of tokens predicted"]);
    assert!(!run.prefers(), "its loss has a unit");
    let panel = panel(&of(&run), "share of tokens predicted");
    let points: Vec<(f64, f64)> = (1..10).map(|i| (f64::from(6 * i), 0.75)).collect();
    assert_eq!(rings(&drawn(&run), &panel, points.iter()), 9);
}

#[test]
fn the_legend_has_the_ends_of_what_a_stage_is_judged_by() {
    let text = |runs: &[Run]| svg(&render(runs, &PlotOptions::default()), "");
    let grpo = text(&[run(60, GRPO)]);
    assert!(grpo.contains(">validation  0.900</text>"), "{grpo}");
    let two = text(&[named("first", &rows(60, DPO)), named("second", &rows(60, DPO))]);
    let of = |name: &str| two.lines().find(|line| line.contains(&format!(">{name}  train  "))).map(str::to_owned);
    assert!(of("first").is_some_and(|line| line.contains("  val  0.930")) && of("second").is_some(), "{two}");
}

#[test]
fn no_entry_of_the_legend_is_alone_in_its_line() {
    for count in 2..12 {
        for name in ["accumulation-8-clip-1", "tiny", "a name that says very much about its run"] {
            let runs: Vec<Run> = (0..count).map(|i| named(&format!("{name}-{i}"), &rows(30, &[]))).collect();
            let text = svg(&render(&runs, &PlotOptions::default()), "");
            // Lines of the legend by the place of their texts, above the first panel.
            let top = layout(&runs, &PlotOptions::default()).main.1.area.top - 40.0;
            let places = text.lines().filter(|line| line.starts_with("<text") && line.contains("\"start\""));
            let y = |line: &str| line.split_once(" y=\"").unwrap().1.split_once('"').unwrap().0.parse::<f64>().unwrap();
            let mut lines = std::collections::BTreeMap::<u64, usize>::new();
            for y in places.map(y).filter(|y| *y > 70.0 && *y < top) {
                *lines.entry(y as u64).or_default() += 1;
            }
            let several = lines.len() == 1 || lines.values().all(|entries| *entries > 1);
            assert!(several, "{count} of {name}: {lines:?}");
        }
    }
}

#[test]
fn the_curves_are_where_the_numbers_are_and_held_out_ones_are_rings() {
    let run = run(60, GRPO);
    let (picture, layout) = (drawn(&run), of(&run));
    for (title, name, i) in [
        ("reward", "reward", 0),
        ("KL divergence from the reference", "kl", 0),
        ("share that is clipped", "clip_ratio/low_mean", 0),
        ("share that is clipped", "clip_ratio/high_mean", 2),
        ("tokens of an answer", "completions/max_length", 2),
    ] {
        let points = &run.numbers[name][..59];
        let found = found(&picture, &panel(&layout, title), points, color(i));
        assert!(found > 45, "{name}: {found} of {}", points.len());
    }
    let rewards = panel(&layout, "reward");
    let val = &run.val_numbers["reward"];
    assert_eq!(val.len(), 11);
    assert_eq!(rings(&picture, &rewards, val[1..10].iter()), 9);
    // Others in their place would be seen.
    let mut wrong = run.clone();
    wrong.val_numbers.get_mut("reward").unwrap().iter_mut().for_each(|p| p.1 = 0.5);
    assert!(rings(&drawn(&wrong), &panel(&of(&wrong), "reward"), val[1..10].iter()) < 2);
}

#[test]
fn only_losses_of_text_are_in_nats() {
    let title = |run: &Run| {
        let text = svg(&render(std::slice::from_ref(run), &PlotOptions::default()), "");
        text.lines().find_map(|line| Some(line.split_once(">loss")?.1.split_once('<')?.0.to_owned())).unwrap()
    };
    let (text, mut other) = (run(60, &[]), run(60, &[]));
    other.numbers.insert("unknown".to_owned(), Vec::new());
    assert!(title(&text).starts_with(" in nats per token") && !title(&other).contains("nats"));
}

#[test]
fn odd_numbers_are_drawn() {
    let mut odd = run(50, GRPO);
    odd.numbers.get_mut("reward").unwrap().iter_mut().for_each(|p| p.1 = f64::NAN);
    odd.numbers.get_mut("kl").unwrap().iter_mut().for_each(|p| p.1 = f64::MAX);
    odd.numbers.get_mut("entropy").unwrap().clear();
    odd.val_numbers.clear();
    assert!(!titles(&of(&odd)).contains(&"reward") && !titles(&of(&odd)).contains(&"entropy"));
    for runs in
        [vec![odd.clone()], vec![odd.clone(), run(1, DPO)], vec![run(2, PPO); 40], vec![run(30, &[]), run(20, GRPO)]]
    {
        let picture = raster(&render(&runs, &PlotOptions::default()));
        assert_eq!(picture.height(), layout(&runs, &PlotOptions::default()).height);
    }
    for stages in [vec![], vec![Run::default()], vec![odd.clone(), odd], vec![run(1, &[]); 30], vec![run(1, GRPO)]] {
        assert_eq!(raster(&story::render(&stages)).dimensions(), (WIDTH, story::layout(&stages).height));
    }
}

/// Pretraining, fine-tuning, DPO and GRPO.
fn stages() -> Vec<(&'static str, Vec<Row>)> {
    vec![("pretrain", rows(300, &[])), ("SFT", rows(120, &[])), ("DPO", rows(80, DPO)), ("GRPO", rows(90, GRPO))]
}

fn runs() -> Vec<Run> {
    stages().iter().map(|(name, rows)| named(name, rows)).collect()
}

#[test]
fn a_story_has_a_panel_for_each_stage_with_what_it_is_judged_by() {
    let stages = runs();
    let (picture, layout) = (raster(&story::render(&stages)), story::layout(&stages));
    let titles: Vec<&str> = layout.panels.iter().map(|(kind, _)| &*kind.title).collect();
    assert_eq!(titles, ["loss", "loss", "pairs ranked right", "reward"]);
    let panels: Vec<&Panel> = layout.panels.iter().map(|(_, panel)| panel).collect();
    for (panel, updates) in panels.iter().zip([300.0, 120.0, 80.0, 90.0]) {
        assert_eq!((panel.x.low, panel.x.high), (0.0, updates));
    }
    let [a, b, c, d] = panels[..] else { panic!("{panels:?}") };
    assert!(a.area.top == b.area.top && a.area.right + 100.0 <= b.area.left && b.area.right == d.area.right);
    assert!(c.area.top >= a.area.bottom + 100.0 && c.area.left == a.area.left && c.area.top == d.area.top);
    let shown = |panel: &Panel, points: &[(f64, f64)]| rings(&picture, panel, points[1..10].iter());
    // Those of the steep beginning are left out.
    assert_eq!(shown(a, &stages[0].val), 8);
    assert_eq!(shown(b, &stages[1].val), 8);
    assert_eq!(shown(c, &stages[2].val_numbers["rewards/accuracies"]), 9);
    assert_eq!(shown(d, &stages[3].val_numbers["reward"]), 9);
    assert!(shown(c, &stages[3].val_numbers["reward"]) < 2, "elsewhere there are none");
}

#[test]
fn a_last_stage_alone_in_its_row_has_both_columns() {
    let mut stages = runs();
    stages.pop();
    stages[2].name = "a long name of a stage, ".repeat(20);
    let layout = story::layout(&stages);
    let [(_, first), (_, second), (_, last)] = &layout.panels[..] else { panic!("{layout:?}") };
    assert_eq!((last.area.left, last.area.right), (first.area.left, second.area.right));
    // Nothing of the title is beyond it.
    let picture = raster(&story::render(&stages));
    let (right, top) = (last.area.right as u32 + 4, last.area.top as u32 - 40);
    assert!((right..WIDTH).all(|x| (top..top + 40).all(|y| at(&picture, (x, y)) == BACKGROUND)));
}

fn record(folder: &Path, rows: &[Row]) -> PathBuf {
    let mut journal = Journal::create(Place::of(folder, false).unwrap(), &Config::default()).unwrap();
    rows.iter().for_each(|row| journal.record(row).unwrap());
    folder.to_owned()
}

#[test]
fn run_folders_become_pictures() {
    let parent = tempfile::tempdir().unwrap();
    let folders: Vec<_> =
        stages().iter().map(|(name, rows)| (*name, record(&parent.path().join(name), rows))).collect();
    draw_run(&folders[3].1, None).unwrap();
    let decoded = image::open(folders[3].1.join(PICTURE)).unwrap().to_rgb8();
    assert_eq!(decoded, drawn(&Run::read(&folders[3].1).unwrap()));
    let path = parent.path().join("story.png");
    let facts = Facts::of(&Config::default());
    let known: Vec<Run> = runs().into_iter().map(|run| Run { facts: facts.clone(), ..run }).collect();
    draw_story(&folders, &path).unwrap();
    assert_eq!(image::open(&path).unwrap().to_rgb8(), raster(&story::render(&known)));
    let missing = draw_story(&[("none", parent.path().join("none"))], &path).unwrap_err();
    assert!(missing.exit_code() == 2 && missing.to_string().contains("none"), "{missing}");
}
