//! Studies: their runs, pictures and table, and going on with one.

use super::files::copy;
use super::{SMALL, misused, refused, shared, succeeds};
use hadal::config::Config;
use hadal::train::journal::read_rows;
use hadal::train::rows::Row;
use std::fs;
use std::path::Path;
use std::sync::OnceLock;
use tempfile::TempDir;

/// The arms of both studies, with their micro-batches an update and their clipping.
const ARMS: [(&str, usize, f64); 4] = [
    ("accumulation-1", 1, 0.0),
    ("accumulation-4", 4, 0.0),
    ("accumulation-8", 8, 0.0),
    ("accumulation-8-clip-1", 8, 1.0),
];

/// `study` of small models with more arguments.
fn study<'a>(experiment: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    // Larger weights make gradients with norms over 1, which clipping shortens.
    let own = ["train.sample_interval=0", "train.checkpoint_interval=2", "model.initializer_range=0.1"];
    let small: Vec<&str> = own.iter().flat_map(|set| ["--set", set]).collect();
    [&["study", experiment], &SMALL[..], &small, more].concat()
}

/// A folder with the finished study `whole` and its table as printed; only to be read.
fn whole() -> &'static (TempDir, String) {
    static WHOLE: OnceLock<(TempDir, String)> = OnceLock::new();
    WHOLE.get_or_init(|| {
        let at = tempfile::tempdir().unwrap();
        let done = succeeds(at.path(), &study("accumulation", &["--steps", "4", "--out", "whole"]));
        (at, done.out)
    })
}

/// The cells of the table's rows, by arm.
fn cells(table: &str) -> Vec<Vec<&str>> {
    let rows = table.lines().filter(|line| line.starts_with("| accumulation"));
    rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

fn weights(study: &Path, arm: &str) -> Vec<u8> {
    let checkpoints = study.join(arm).join("checkpoints");
    let latest = fs::read_to_string(checkpoints.join("latest")).unwrap();
    fs::read(checkpoints.join(latest.trim()).join("model.safetensors")).unwrap()
}

#[test]
fn a_study_leaves_a_run_for_each_arm_two_pictures_and_the_table_that_it_prints() {
    let (at, table) = whole();
    let out = at.path().join("whole");
    assert_eq!(fs::read_to_string(out.join("study.md")).unwrap(), *table);
    for picture in ["train.png", "validation.png"] {
        assert!(image::open(out.join(picture)).unwrap().width() > 100);
    }
    let rows = cells(table);
    assert_eq!(rows.len(), ARMS.len());
    for ((name, accumulation, clip_norm), row) in ARMS.iter().zip(rows) {
        let run = out.join(name);
        let config = Config::resolve(run.join("config.toml").to_str(), &[]).unwrap();
        assert_eq!((config.train.accumulation, config.optimizer.clip_norm), (*accumulation, *clip_norm));
        assert_eq!((config.train.micro_batch, config.train.steps), (2, 4));
        let rows = read_rows(&run).unwrap();
        let losses: Vec<_> =
            rows.iter().filter_map(|r| if let Row::Val(r) = r { Some(r.loss) } else { None }).collect();
        // Two rows of 32 targets a micro-batch, four updates; so few of them only ever improve.
        let tokens = (2 * 32 * 4 * accumulation).to_string();
        let tokens = if tokens.len() > 3 { format!("{},{}", &tokens[..1], &tokens[1..]) } else { tokens };
        assert!(losses[1] < losses[0]);
        let loss = format!("{:.4}", losses[1]);
        assert_eq!(row[..7], [*name, "4", &tokens, &loss, "4", &tokens, &loss]);
        let Some(Row::Train(last)) = rows.iter().rfind(|row| matches!(row, Row::Train(_))) else {
            panic!("no updates")
        };
        assert_eq!(row[7], format!("{:.4}", last.loss), "four losses are not smoothed");
    }
    let first = |arm: &str| read_rows(&out.join(arm)).unwrap()[0].clone();
    assert_eq!(first(ARMS[0].0), first(ARMS[3].0), "the arms begin with the same weights");
    assert!(weights(&out, ARMS[2].0) != weights(&out, ARMS[3].0), "clipping changes something");
}

#[test]
fn an_arm_is_the_run_that_train_makes_of_its_configuration() {
    let (study, _) = whole();
    let at = tempfile::tempdir().unwrap();
    let config = study.path().join("whole/accumulation-4/config.toml").to_string_lossy().into_owned();
    succeeds(at.path(), &["train", &config, "--out", "alone", "--backend", "cpu"]);
    assert!(weights(at.path(), "alone") == weights(&study.path().join("whole"), "accumulation-4"));
}

#[test]
fn a_stopped_study_goes_on_and_ends_like_one_without_a_stop() {
    let (finished, table) = whole();
    let at = tempfile::tempdir().unwrap();
    let [out, whole] = [at.path().join("stopped"), finished.path().join("whole")];
    // As a stop in the second arm, after its checkpoint at update 2, leaves it.
    for arm in &ARMS[..2] {
        copy(&whole.join(arm.0), &out.join(arm.0));
    }
    let checkpoints = out.join("accumulation-4/checkpoints");
    fs::remove_dir_all(checkpoints.join("step-00000004")).unwrap();
    fs::write(checkpoints.join("latest"), "step-00000002\n").unwrap();
    let done = succeeds(at.path(), &["study", "accumulation", "--out", "stopped", "--resume", "--backend", "cpu"]);
    assert!(done.err.contains("accumulation-4/checkpoints/step-00000002 at step 2"), "{}", done.err);
    assert!(!done.err.contains("changes"), "{}", done.err);
    assert_eq!(done.out, *table);
    for (arm, ..) in ARMS {
        assert!(weights(&out, arm) == weights(&whole, arm), "{arm}");
        let config = |study: &Path| fs::read_to_string(study.join(arm).join("config.toml")).unwrap();
        assert_eq!(config(&out), config(&whole));
    }
    for picture in ["train.png", "validation.png"] {
        assert!(fs::read(out.join(picture)).unwrap() == fs::read(whole.join(picture)).unwrap(), "{picture}");
    }
}

#[test]
fn an_arm_that_breaks_down_is_a_row_of_the_table_like_the_others() {
    let at = tempfile::tempdir().unwrap();
    let more = ["--set", "optimizer.learning_rate=1e30", "--set", "optimizer.weight_decay=0", "--steps", "9"];
    let done = succeeds(at.path(), &study("clipping", &more));
    assert!(done.err.contains("accumulation-8: step") && done.err.contains("not finite"), "{}", done.err);
    let rows = cells(&done.out);
    assert_eq!(rows.len(), 2);
    assert!(rows[0][1].parse::<u64>().unwrap() < 9, "{}", done.out);
    assert!(at.path().join("runs/tiny-clipping-1/validation.png").is_file());
}

#[test]
fn bad_studies_are_refused() {
    let at = tempfile::tempdir().unwrap();
    misused(at.path(), &["study"], "EXPERIMENT");
    misused(at.path(), &["study", "depth"], "accumulation, clipping");
    misused(at.path(), &["study", "clipping", "--resume"], "--out");
    let bad = |more: &[&str], words: &[&str]| {
        refused(at.path(), &study("clipping", &[&["--steps", "1", "--out", "out"], more].concat()), 2, words);
        assert!(!at.path().join("out").exists(), "{more:?}");
    };
    bad(&["--set", "train.accumulation=2"], &["train.accumulation", "leave it out"]);
    bad(&["--set", " optimizer.clip_norm =0.5"], &["optimizer.clip_norm", "leave it out"]);
    bad(&["--set", "train.stpes=2"], &["train.stpes", "train.steps"]);
    bad(&["--data", "missing.txt"], &["missing.txt"]);
    bad(&["missing.toml"], &["missing.toml", "tiny, small"]);
    let run = shared().join("run").to_string_lossy().into_owned();
    refused(at.path(), &["study", "clipping", "--out", &run], 2, &["not empty", "--resume"]);
    let typo = ["study", "clipping", "--out", "typo", "--resume"];
    refused(at.path(), &typo, 2, &["typo", "holds no study", "without --resume"]);
    let other = [&["study", "clipping", "--resume", "--backend", "cpu", "--out"], &["out"][..]].concat();
    copy(&whole().0.path().join("whole/accumulation-8"), &at.path().join("out/accumulation-8"));
    refused(at.path(), &[&other[..], &["--set", "model.hidden_size=64"]].concat(), 2, &["model.hidden_size", "32"]);
}
