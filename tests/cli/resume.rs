//! Going on with a run.

use super::files::{copy, edit, truncate};
use super::{refused, shared, succeeds, train};
use hadal::train::journal::read_rows;
use hadal::train::rows::Row;
use std::fs;
use std::path::Path;

/// A copy of the shared run, called `run`, in a folder of its own.
fn run() -> tempfile::TempDir {
    let at = tempfile::tempdir().unwrap();
    copy(&shared().join("run"), &at.path().join("run"));
    at
}

/// The rows of the run `name`, the rates set to zero.
pub fn rows(at: &Path, name: &str) -> Vec<Row> {
    let mut rows = read_rows(&at.join(name)).unwrap();
    for row in &mut rows {
        if let Row::Train(row) = row {
            row.tokens_per_second = 0.0;
        }
    }
    rows
}

pub fn train_steps(rows: &[Row]) -> Vec<u64> {
    rows.iter().filter(|row| matches!(row, Row::Train(_))).map(Row::step).collect()
}

/// Weights and moments of the run's latest checkpoint.
pub fn parameters(at: &Path, name: &str) -> [Vec<u8>; 2] {
    let folder = at.join(name).join("checkpoints");
    let latest = fs::read_to_string(folder.join("latest")).unwrap();
    ["model.safetensors", "optimizer.safetensors"].map(|file| fs::read(folder.join(latest.trim()).join(file)).unwrap())
}

#[test]
fn a_resumed_run_goes_on_at_its_step_and_ends_like_one_without_a_stop() {
    let at = run();
    // Nothing but the folder and the new total is needed.
    let done = succeeds(at.path(), &["train", "--out", "run", "--resume", "--steps", "4", "--backend", "cpu"]);
    assert!(done.err.contains("step-00000002 at step 2"), "{}", done.err);
    assert!(!done.err.contains("changes"), "{}", done.err);
    succeeds(at.path(), &train(&["--steps", "4", "--out", "whole"]));
    let (stopped, whole) = (rows(at.path(), "run"), rows(at.path(), "whole"));
    assert_eq!(train_steps(&stopped), [1, 2, 3, 4]);
    let between = |row: &&Row| !matches!(row, Row::Val(row) if row.step == 2); // the end of the first part
    assert_eq!(stopped.iter().filter(between).collect::<Vec<_>>(), whole.iter().collect::<Vec<_>>());
    assert!(parameters(at.path(), "run") == parameters(at.path(), "whole"));
    let done = succeeds(at.path(), &["train", "--out", "run", "--resume", "--backend", "cpu"]);
    assert!(done.err.contains("all 4 steps are done; raise --steps"), "{}", done.err);
    assert_eq!(rows(at.path(), "run"), stopped);
}

#[test]
fn where_no_run_has_begun_nothing_goes_on_and_nothing_is_touched() {
    let at = tempfile::tempdir().unwrap();
    let resume = |out| train(&["--steps", "1", "--out", out, "--resume"]);
    refused(at.path(), &resume("typo"), 2, &["typo", "does not exist", "without --resume"]);
    let other = at.path().join("other");
    fs::create_dir(&other).unwrap();
    refused(at.path(), &resume("other"), 2, &["other", "holds no run"]);
    fs::write(other.join("metrics.jsonl"), "1\n2\n3").unwrap();
    for config in [None, Some("name = \"of another program\"")] {
        config.iter().for_each(|text| fs::write(other.join("config.toml"), text).unwrap());
        refused(at.path(), &resume("other"), 2, &["other"]);
        assert_eq!(fs::read_to_string(other.join("metrics.jsonl")).unwrap(), "1\n2\n3");
        assert_eq!(fs::read_dir(&other).unwrap().count(), 1 + config.iter().count());
    }
    assert_eq!(fs::read_dir(at.path()).unwrap().count(), 1);
}

#[test]
fn a_run_that_was_killed_before_its_first_checkpoint_begins_anew_and_keeps_its_rows() {
    let at = run();
    let before = fs::read(at.path().join("run/metrics.jsonl")).unwrap();
    let resume = ["train", "--out", "run", "--resume", "--steps", "3", "--backend", "cpu"];
    fs::remove_dir_all(at.path().join("run/checkpoints")).unwrap();
    // A run has that folder from its start: somebody removed it.
    refused(at.path(), &resume, 2, &["its rows reach step 2", "checkpoints are gone", "another --out"]);
    assert_eq!(fs::read(at.path().join("run/metrics.jsonl")).unwrap(), before);
    fs::create_dir_all(at.path().join("run/checkpoints/step-00000001.tmp")).unwrap();
    let done = succeeds(at.path(), &resume);
    assert!(done.err.contains("no finished checkpoint: starting at step 0"), "{}", done.err);
    assert!(done.err.contains("the rows so far are kept as run/metrics-1.jsonl"), "{}", done.err);
    assert_eq!(fs::read(at.path().join("run/metrics-1.jsonl")).unwrap(), before);
    assert_eq!(train_steps(&rows(at.path(), "run")), [1, 2, 3]);
}

#[test]
fn a_damaged_line_of_the_metrics_does_not_keep_a_sound_run_from_going_on() {
    let at = run();
    let file = at.path().join("run/metrics.jsonl");
    let text = fs::read_to_string(&file).unwrap();
    let second = text.lines().nth(1).unwrap();
    let damaged = text.replace(second, &"\0".repeat(second.len()));
    fs::write(&file, &damaged).unwrap();
    let done = succeeds(at.path(), &["train", "--out", "run", "--resume", "--steps", "3", "--backend", "cpu"]);
    let said = "metrics.jsonl: line 2: not a row of metrics";
    assert!(done.err.contains(said) && done.err.contains("kept as run/metrics-1.jsonl"), "{}", done.err);
    assert_eq!(fs::read_to_string(at.path().join("run/metrics-1.jsonl")).unwrap(), damaged);
    assert_eq!(train_steps(&rows(at.path(), "run")), [2, 3]);
}

#[test]
fn a_broken_checkpoint_is_passed_over_for_an_older_one_and_without_one_nothing_is_lost() {
    let at = run();
    let resume = ["train", "--out", "run", "--resume", "--steps", "3", "--backend", "cpu"];
    let newest = at.path().join("run/checkpoints/step-00000002");
    for file in ["model.safetensors", "optimizer.safetensors", "trainer_state.json"] {
        let (before, whole) =
            (fs::read(at.path().join("run/metrics.jsonl")).unwrap(), fs::read(newest.join(file)).unwrap());
        truncate(&newest.join(file), 1, 2);
        refused(at.path(), &resume, 2, &["checkpoints", file, "choose another --out"]);
        assert_eq!(fs::read(at.path().join("run/metrics.jsonl")).unwrap(), before);
        fs::write(newest.join(file), whole).unwrap();
    }
    succeeds(at.path(), &resume);
    truncate(&at.path().join("run/checkpoints/step-00000003/optimizer.safetensors"), 1, 2);
    let done = succeeds(at.path(), &[&resume[..], &["--set", "train.keep=3"]].concat());
    assert!(done.err.contains("passed over") && done.err.contains("going on from run/checkpoints/step-00000002"));
    assert_eq!(train_steps(&rows(at.path(), "run")), [1, 2, 3]);
}

#[test]
fn another_network_is_refused_and_other_changes_are_mentioned_and_have_to_be_allowed() {
    let at = run();
    let resume = ["train", "--out", "run", "--resume", "--steps", "3", "--backend", "cpu"];
    let config = fs::read(at.path().join("run/config.toml")).unwrap();
    let wider = [&resume[..], &["--set", "model.hidden_size=64"]].concat();
    refused(at.path(), &wider, 2, &["model.hidden_size", "64", "32"]);
    refused(at.path(), &[&["train", "tiny"], &resume[1..]].concat(), 2, &["model."]);
    assert_eq!(fs::read(at.path().join("run/config.toml")).unwrap(), config);
    let coded = [&resume[..], &["--set", "optimizer.kind=adamw8bit"]].concat();
    refused(at.path(), &coded, 2, &["optimizer.kind", "adamw8bit"]);
    let slower = [&resume[..], &["--set", "optimizer.learning_rate=1e-3", "--set", "data.val_fraction=0.2"]].concat();
    let each = ["optimizer.learning_rate from 0.002 to 0.001", "data.val_fraction from 0.1 to 0.2", "--allow-changes"];
    refused(at.path(), &slower, 2, &each);
    assert_eq!(fs::read(at.path().join("run/config.toml")).unwrap(), config);
    let done = succeeds(at.path(), &[&slower[..], &["--allow-changes"]].concat());
    assert!(done.err.contains("optimizer.learning_rate changes from 0.002 to 0.001"), "{}", done.err);
    edit(&at.path().join("run/config.toml"), |text| text.replace("learning_rate = 0.001", "learning_rate = \"fast\""));
    refused(at.path(), &resume, 2, &["run/config.toml", "line", "optimizer.learning_rate"]);
}

#[test]
fn a_configuration_that_was_edited_by_hand_is_compared_with_that_of_the_checkpoint() {
    let at = run();
    let (file, checkpoint) = (at.path().join("run/config.toml"), at.path().join("run/checkpoints/step-00000002"));
    let own = fs::read_to_string(&file).unwrap();
    assert_eq!(fs::read_to_string(checkpoint.join("config.toml")).unwrap(), own);
    let resume = ["train", "--out", "run", "--resume", "--steps", "3", "--backend", "cpu"];
    let change = |from: &str, to: &str| {
        assert_eq!(own.matches(from).count(), 1, "{from}");
        fs::write(&file, own.replace(from, to)).unwrap();
    };
    for (from, to, key) in [
        ("rope_theta = 10000.0", "rope_theta = 500.0", "model.rope_theta"),
        ("num_experts_per_tok = 2", "num_experts_per_tok = 3", "model.num_experts_per_tok"),
        ("routed_scaling_factor = 1.0", "routed_scaling_factor = 2.5", "model.routed_scaling_factor"),
    ] {
        change(from, to);
        refused(at.path(), &resume, 2, &[key, "begun with", "set it back"]);
        refused(at.path(), &[&resume[..], &["--allow-changes"]].concat(), 2, &[key]);
    }
    for (from, to) in [("world_seed = 1", "world_seed = 2"), ("learning_rate = 0.002", "learning_rate = 0.001")] {
        change(from, to);
        let words = [from, to].map(|pair| pair.split(" = ").nth(1).unwrap());
        refused(at.path(), &resume, 2, &["--allow-changes", &format!("from {} to {}", words[0], words[1])]);
        assert_eq!(train_steps(&rows(at.path(), "run")), [1, 2]);
    }
    // Of a checkpoint of an older version the network is known, and the rest is taken at its word.
    for name in ["manifest.json", "config.toml"] {
        fs::remove_file(checkpoint.join(name)).unwrap();
    }
    change("rope_theta = 10000.0", "rope_theta = 500.0");
    refused(at.path(), &resume, 2, &["model.rope_theta", "set it back"]);
    change("learning_rate = 0.002", "learning_rate = 0.001");
    let done = succeeds(at.path(), &resume);
    assert!(done.err.contains("could not be verified"), "{}", done.err);
}

#[test]
fn a_run_whose_configuration_is_gone_goes_on_with_that_of_its_checkpoint() {
    let at = run();
    let file = at.path().join("run/config.toml");
    let own = fs::read_to_string(&file).unwrap();
    fs::remove_file(&file).unwrap();
    let done = succeeds(at.path(), &["train", "--out", "run", "--resume", "--backend", "cpu", "--steps", "3"]);
    assert!(done.err.contains("config.toml is missing in run: run/checkpoints/step-00000002/config.toml takes its"));
    assert_eq!(fs::read_to_string(&file).unwrap(), own.replace("\nsteps = 2", "\nsteps = 3"));
    fs::remove_file(&file).unwrap();
    for step in [2, 3] {
        for name in ["manifest.json", "config.toml"] {
            fs::remove_file(at.path().join(format!("run/checkpoints/step-0000000{step}/{name}"))).unwrap();
        }
    }
    let resume = ["train", "--out", "run", "--resume", "--backend", "cpu", "--steps", "3"];
    refused(at.path(), &resume, 2, &["run/config.toml", "is missing", "name the run's as CONFIG"]);
    refused(at.path(), &[&["train", "tiny"], &resume[1..]].concat(), 2, &["model."]);
    assert!(!file.exists());
}

#[test]
fn the_configuration_of_a_run_repeats_it_to_the_byte() {
    let at = run();
    succeeds(at.path(), &["train", "run/config.toml", "--out", "again", "--backend", "cpu"]);
    assert_eq!(rows(at.path(), "run"), rows(at.path(), "again"));
    assert!(parameters(at.path(), "run") == parameters(at.path(), "again"));
    let file = |name: &str| fs::read(at.path().join(name)).unwrap();
    assert_eq!(file("run/config.toml"), file("again/config.toml"));
    assert_eq!(file("run/samples/step-2.txt"), file("again/samples/step-2.txt"));
}
