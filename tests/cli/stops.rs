//! Runs that signals stop.

use super::resume::{parameters, rows, train_steps};
use super::{SMALL, succeeds, train};
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const STEPS: &str = "120";

/// Starts a run of windows of three micro-batches in `at`, or goes on with it.
fn start(at: &Path, more: &[&str]) -> Child {
    start_for(at, STEPS, more)
}

/// The same with another number of updates.
fn start_for(at: &Path, steps: &str, more: &[&str]) -> Child {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin("hadal"));
    command.current_dir(at).env("XDG_CACHE_HOME", at).env("VK_DRIVER_FILES", at.join("no-such-driver.json"));
    command.arg("train").args(SMALL).args(["--set", "train.accumulation=3", "--set", "train.checkpoint_interval=50"]);
    command.args(["--steps", steps, "--out", "run"]).args(more).stderr(Stdio::piped()).spawn().unwrap()
}

fn send(child: &Child, signal: &str) {
    assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
}

/// Waits until the run has added to its rows, or has ended.
fn advanced(at: &Path, child: &mut Child, rows: usize) {
    let begun = Instant::now();
    let lines = || fs::read_to_string(at.join("run/metrics.jsonl")).map_or(0, |text| text.lines().count());
    while lines() <= rows && child.try_wait().unwrap().is_none() {
        assert!(begun.elapsed() < Duration::from_secs(100), "no row was added");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Waits for the end; its exit code and what it said.
fn ended(child: Child) -> (i32, String) {
    let done = child.wait_with_output().unwrap();
    let said = String::from_utf8(done.stderr).unwrap();
    assert!(!said.contains("panicked"), "{said}");
    (done.status.code().unwrap_or_else(|| panic!("ended by a signal: {said}")), said)
}

/// Stops a run over and over at moments of all kinds, until it is done or has been stopped `most` times; then lets it
/// end. Returns the number of stops.
fn stopped_again_and_again(at: &Path, most: u64) -> u64 {
    let mut stops = 0;
    while stops < most {
        let before = fs::read_to_string(at.join("run/metrics.jsonl")).map_or(0, |text| text.lines().count());
        let mut child = start(at, if stops == 0 { &[] } else { &["--resume"] });
        advanced(at, &mut child, before.max(1)); // the first row is a validation, before any update
        // Anywhere in the few milliseconds of an update, of an evaluation or of a checkpoint.
        std::thread::sleep(Duration::from_micros(stops * 7919 % 23_000));
        let (signal, code) = if stops % 2 == 0 { ("-INT", 130) } else { ("-TERM", 143) };
        if child.try_wait().unwrap().is_none() {
            send(&child, signal);
        }
        let (found, said) = ended(child);
        if found == 0 {
            return stops; // it was done first
        }
        assert_eq!(found, code, "{said}");
        let last = *train_steps(&rows(at, "run")).last().unwrap();
        assert!(said.contains(&format!("after step {last}, which is saved; go on with")), "{said}");
        assert!(!said.contains("error:"), "{said}");
        assert!(said.ends_with("\n    hadal train --resume run --backend cpu\n"), "{said}");
        let latest = fs::read_to_string(at.join("run/checkpoints/latest")).unwrap();
        assert_eq!(latest.trim(), format!("step-{last:08}"), "a finished update is not in the checkpoint");
        stops += 1;
    }
    assert_eq!(ended(start(at, &["--resume"])).0, 0);
    stops
}

fn ends_like_a_run_without_stops(most: u64, least: u64) {
    let (at, whole) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    assert_eq!(ended(start(whole.path(), &[])).0, 0);
    let stops = stopped_again_and_again(at.path(), most);
    assert!(stops >= least, "only {stops} stops");
    assert!(parameters(at.path(), "run") == parameters(whole.path(), "run"), "other bytes after {stops} stops");
    assert_eq!(train_steps(&rows(at.path(), "run")), train_steps(&rows(whole.path(), "run")));
}

#[test]
fn a_run_stopped_at_any_moment_saves_every_update_and_ends_like_one_without_stops() {
    ends_like_a_run_without_stops(6, 3);
}

#[test]
#[ignore = "takes a minute: the full number of moments"]
fn a_run_stopped_at_fifty_moments_ends_like_one_without_stops() {
    ends_like_a_run_without_stops(50, 50);
}

/// Sends two signals, the second a moment after the first, and returns whether the run left before it could say that it
/// was stopped.
fn cut_short(at: &Path) -> bool {
    let before = fs::read_to_string(at.join("run/metrics.jsonl")).unwrap().lines().count();
    let mut child = start(at, &["--resume", "--allow-changes", "--set", "train.accumulation=1"]);
    advanced(at, &mut child, before);
    let both = format!("kill -INT {0}; sleep 0.002; kill -TERM {0}", child.id());
    Command::new("sh").args(["-c", &both]).stderr(Stdio::null()).status().unwrap();
    let (code, said) = ended(child);
    assert!([130, 143].contains(&code), "{code}: {said}");
    !said.contains("stopped by")
}

#[test]
fn a_second_signal_ends_the_run_at_once_and_loses_no_checkpoint() {
    let at = tempfile::tempdir().unwrap();
    succeeds(at.path(), &train(&["--steps", "2", "--out", "run"]));
    // A save takes some ten milliseconds. On a busy machine it may be over before the second signal comes.
    assert!((0..8).any(|_| cut_short(at.path())), "no second signal cut a save short");
    let (code, said) = ended(start(at.path(), &["--resume", "--allow-changes", "--set", "train.accumulation=1"]));
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("going on from"), "{said}");
}

/// The same model with less than 60 KiB in every file of a checkpoint.
const TINIEST: [&str; 14] = [
    "--tokenizer",
    "byte",
    "--set",
    "model.hidden_size=16",
    "--set",
    "model.num_hidden_layers=1",
    "--set",
    "model.first_k_dense_replace=1",
    "--set",
    "model.intermediate_size=16",
    "--set",
    "optimizer.kind=adamw8bit",
    "--set",
    "train.sample_interval=0",
];

#[cfg(target_os = "linux")]
#[test]
fn rows_that_the_disk_does_not_take_wait_and_end_no_run() {
    let at = tempfile::tempdir().unwrap();
    let limited = |steps: &str, more: &[&str]| {
        // Files that grow longer than 60 KiB are refused, as on a disk that is full.
        let mut command = Command::new("sh");
        command.args(["-c", "trap '' XFSZ; ulimit -f 120; exec \"$0\" \"$@\""]);
        command.arg(assert_cmd::cargo::cargo_bin("hadal")).current_dir(at.path()).env("XDG_CACHE_HOME", at.path());
        command.args(train(&TINIEST)).args(["--steps", steps, "--out", "run"]).args(more);
        let done = command.output().unwrap();
        (done.status.code(), String::from_utf8(done.stderr).unwrap())
    };
    let (code, said) = limited("300", &[]);
    assert_eq!(code, Some(5), "{said}");
    assert_eq!(said.matches("waits in memory, and training goes on").count(), 1, "{said}");
    assert_eq!(fs::read_to_string(at.path().join("run/checkpoints/latest")).unwrap(), "step-00000300\n");
    let done = succeeds(at.path(), &["train", "--out", "run", "--resume", "--steps", "301", "--backend", "cpu"]);
    assert!(done.err.contains("step-00000300 at step 300"), "{}", done.err);
    let steps = train_steps(&rows(at.path(), "run"));
    assert!(steps.len() > 100 && steps.last() == Some(&301), "{steps:?}");
}

#[test]
fn of_twenty_starts_in_one_folder_one_trains_and_what_a_killed_one_leaves_locks_nobody_out() {
    let at = tempfile::tempdir().unwrap();
    let mut all: Vec<Child> = (0..20).map(|_| start_for(at.path(), "100000", &[])).collect();
    let begun = Instant::now();
    while all.len() > 1 {
        assert!(begun.elapsed() < Duration::from_secs(100), "{} runs go on", all.len());
        std::thread::sleep(Duration::from_millis(10));
        if let Some(i) = all.iter_mut().position(|child| child.try_wait().unwrap().is_some()) {
            let (code, said) = ended(all.swap_remove(i));
            assert_eq!(code, 6, "{said}");
            assert!(said.contains("another hadal process trains in this folder"), "{said}");
        }
    }
    let mut owner = all.remove(0);
    advanced(at.path(), &mut owner, 1);
    owner.kill().unwrap(); // SIGKILL: it cannot clean up
    owner.wait().unwrap();
    let mut next = start_for(at.path(), "100000", &["--resume"]);
    let before = fs::read_to_string(at.path().join("run/metrics.jsonl")).unwrap().lines().count();
    advanced(at.path(), &mut next, before);
    send(&next, "-TERM");
    assert_eq!(ended(next).0, 143);
}
