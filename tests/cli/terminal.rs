//! What a run says on the terminal: its head, what can be done next, how it goes on.

use super::{SMALL, command, misused, ran, refused, shared, succeeds, train};
use std::fs;
use std::path::Path;

/// The lines of standard error before the first step.
fn head(err: &str) -> Vec<&str> {
    err.lines().take_while(|line| !line.starts_with("step ")).collect()
}

#[test]
fn the_head_has_six_lines_which_fit_80_columns_and_the_tables_are_for_those_who_ask() {
    let at = tempfile::tempdir().unwrap();
    let done = succeeds(at.path(), &train(&["--steps", "3", "--out", "run"]));
    let head = head(&done.err);
    let words = ["training on the CPU", "data: ", "model: ", "memory: ", "steps: 3; lr 0.002", "run folder: run"];
    assert_eq!(head.len(), words.len(), "{head:?}");
    for (line, word) in head.iter().zip(words) {
        assert!(line.starts_with(word) && line.chars().count() <= 80, "{line}");
    }
    assert!(!done.err.contains("embedding and head"), "{}", done.err);
    let log = fs::read_to_string(at.path().join("run/log.txt")).unwrap();
    assert!(log.starts_with(&head.join("\n")) && log.contains("embedding and head"), "{log}");
    let more = ["train", "--model", "run", "--steps", "3", "--out", "more", "-v"];
    let done = succeeds(at.path(), &[&more[..], &SMALL].concat());
    assert!(done.err.contains("embedding and head") && done.err.contains("from the weights in"), "{}", done.err);
    assert!(self::head(&done.err)[5].starts_with("run folder: more"), "{}", done.err);
}

/// The commands in what was said, without the program's name.
fn commands(err: &str) -> Vec<Vec<String>> {
    let lines = err.lines().filter_map(|line| line.strip_prefix("    hadal "));
    lines.map(|line| shlex::split(line).unwrap()).collect()
}

#[test]
fn the_commands_that_a_run_ends_with_can_be_copied() {
    let at = tempfile::tempdir().unwrap();
    let done = succeeds(at.path(), &train(&["--steps", "1", "--out", "my run"]));
    let next = commands(&done.err);
    assert_eq!(next[0], ["sample", "my run", "--prompt", "One morning"], "{}", done.err);
    assert_eq!(next[1], ["sft", "--model", "my run"]);
    let sampled = ran(command(at.path()).args(&next[0]).args(["--backend", "cpu", "--tokens", "2"]));
    assert!(sampled.code == 0 && sampled.out.starts_with("One morning"), "{}{}", sampled.out, sampled.err);
}

#[test]
fn a_run_goes_on_by_its_folder_alone() {
    let at = tempfile::tempdir().unwrap();
    super::files::copy(&shared().join("run"), &at.path().join("run"));
    let done = succeeds(at.path(), &["train", "--resume", "run", "--steps", "3", "--backend", "cpu"]);
    assert!(done.err.contains("going on from") && done.err.contains("step 3 reached"), "{}", done.err);
    refused(at.path(), &["train", "--resume"], 2, &["--resume needs the run folder"]);
    refused(at.path(), &["train", "--resume", "gone"], 2, &["gone: is no run folder"]);
    refused(
        at.path(),
        &["train", "--resume", "run", "--out", "other"],
        2,
        &["--resume run and --out other", "name one"],
    );
    refused(at.path(), &["pipeline", "--resume", "gone"], 2, &["gone"]);
    refused(at.path(), &["study", "clipping", "--resume"], 2, &["--resume needs"]);
    // A finished run says how to train on, in words that do so.
    let done = succeeds(at.path(), &["train", "--resume", "run", "--backend", "cpu"]);
    let (_, hint) = done.err.split_once("raise --steps to train on: hadal ").unwrap();
    let words = shlex::split(hint.lines().next().unwrap()).unwrap();
    assert_eq!(words, ["train", "--resume", "run", "--steps", "6"]);
    let done = ran(command(at.path()).args(&words).args(["--backend", "cpu"]));
    assert!(done.code == 0 && done.err.contains("step 6 reached"), "{}", done.err);
}

/// A run of two steps whose schedule follows them.
fn following(at: &Path) {
    let share = ["--set", "schedule.warmup_steps=0.5", "--set", "schedule.decay_steps=0"];
    succeeds(at, &train(&[&["--steps", "2", "--out", "run"][..], &share].concat()));
}

#[test]
fn other_steps_of_a_schedule_that_follows_them_are_a_change_of_what_is_learnt() {
    let at = tempfile::tempdir().unwrap();
    following(at.path());
    let longer = ["train", "--resume", "run", "--steps", "4", "--backend", "cpu"];
    let moved = "warm-up from 1 to 2 steps, the decay's end from step 2 to 4";
    let keep = "keep the schedule by --set schedule.warmup_steps=1 --set schedule.decay_steps=2";
    refused(at.path(), &longer, 2, &[moved, keep, "--allow-changes"]);
    let config = fs::read_to_string(at.path().join("run/config.toml")).unwrap();
    assert!(config.contains("warmup_steps = 0.5") && config.contains("steps = 2"), "{config}");
    let done = succeeds(at.path(), &[&longer[..], &["--allow-changes"]].concat());
    assert!(done.err.contains(&format!("the schedule follows train.steps: {moved}")), "{}", done.err);
    let done = succeeds(at.path(), &["train", "--resume", "run", "--backend", "cpu"]);
    assert!(done.err.contains("hadal train --resume run --steps 8 --allow-changes"), "{}", done.err);
}

#[test]
fn a_schedule_that_does_not_suit_the_steps_is_warned_of_on_the_terminal_and_in_the_log() {
    let at = tempfile::tempdir().unwrap();
    let done = succeeds(at.path(), &train(&["--steps", "1", "--out", "run"]));
    let warning = "warning: warm-up takes 2 steps and the run has 1";
    assert!(done.err.contains(warning), "{}", done.err);
    assert!(fs::read_to_string(at.path().join("run/log.txt")).unwrap().contains(warning));
}

#[test]
fn the_rate_and_the_batch_have_options_and_the_lowest_rate_follows_the_highest() {
    let at = tempfile::tempdir().unwrap();
    succeeds(at.path(), &train(&["--steps", "1", "--lr", "1e-4", "--batch-size", "3", "--out", "run"]));
    let config = fs::read_to_string(at.path().join("run/config.toml")).unwrap();
    for line in ["learning_rate = 0.0001", "min_learning_rate = 0.00001", "micro_batch = 3"] {
        assert!(config.lines().any(|found| found == line), "{line}: {config}");
    }
    let lowest = ["--steps", "1", "--lr", "1e-4", "--set", "schedule.min_learning_rate=1e-3", "--out", "none"];
    refused(at.path(), &train(&lowest), 2, &["schedule.min_learning_rate"]);
    refused(at.path(), &train(&["--lr", "-1", "--out", "none"]), 2, &["optimizer.learning_rate"]);
    refused(at.path(), &train(&["--batch-size", "0", "--out", "none"]), 2, &["train.micro_batch"]);
    misused(at.path(), &["train", "--steps", "-5"], "expected a whole number of at least 0");
    misused(at.path(), &["train", "--max-steps", "5"], "--set train.steps=VALUE");
}

#[test]
fn each_stage_is_explained_in_its_own_words() {
    let at = tempfile::tempdir().unwrap();
    for (stage, data) in
        [("sft", "conversations"), ("reward", "pairs of answers"), ("dpo", "pairs"), ("grpo", "questions")]
    {
        let help = succeeds(at.path(), &[stage, "--help"]).out;
        assert!(help.contains(&format!("hadal {stage} --model <DIR> [OPTIONS]")), "{help}");
        assert!(help.contains(&format!("the preset {stage} by default")), "{help}");
        assert!(help.contains(data) && !help.contains("tiny by default") && !help.contains("UTF-8 text"), "{help}");
    }
    let help = succeeds(at.path(), &["--help"]).out;
    let commands = help.split_once("Train:\n").unwrap().1;
    assert!(commands.lines().all(|line| line.chars().count() <= 80), "{help}");
}

#[test]
fn sizes_are_read_in_every_common_spelling() {
    let at = tempfile::tempdir().unwrap();
    for size in ["24G", "24g", "24GiB", "24gb", "24GB", "8e9"] {
        succeeds(at.path(), &["plan", "--vram", size]);
    }
    misused(at.path(), &["plan", "--vram", "24 apples"], "24GiB");
}

#[test]
fn a_plan_is_made_of_a_run_folder_or_for_a_model_and_names_what_would_fit() {
    let at = tempfile::tempdir().unwrap();
    let run = shared().join("run");
    let run = run.to_str().unwrap();
    let parameters = |out: &str| out.lines().find(|line| line.starts_with("  total ")).unwrap().to_owned();
    let of_run = parameters(&succeeds(at.path(), &["plan", run]).out);
    assert_eq!(
        parameters(&succeeds(at.path(), &["plan", "sft", "--model", run, "--set", "train.sequence_length=64"]).out),
        of_run
    );
    assert_ne!(parameters(&succeeds(at.path(), &["plan"]).out), of_run);
    fs::write(at.path().join("text.txt"), "words").unwrap();
    let bytes = succeeds(at.path(), &["plan", "--data", "text.txt"]).out;
    assert!(bytes.contains("698,592"), "{bytes}");
    let done = super::hadal(at.path(), &["plan", "seed", "--vram", "14GiB", "--set", "train.recompute=none"]);
    let advice = "not even train.micro_batch=1 fits; train.micro_batch=";
    assert!(done.code == 3 && done.err.contains(advice) && done.err.contains("adamw8bit"), "{}", done.err);
    let done = super::hadal(at.path(), &["plan", "--vram", "1MiB"]);
    assert!(done.code == 3 && done.err.contains("nor does a shorter sequence: of 64 tokens it needs"), "{}", done.err);
}
