//! External programs that judge answers, and do so badly.

use super::alignment::{GROUPS, end_without, folder, learnt, resume, stage};
use super::sft::checkpoint;
use super::{refused, succeeds};
use hadal::checkpoint::manifest::verify;
use hadal::train::rows::Row;
use std::path::Path;

/// The id of the line that was read, and a reward of 0 or 1 that depends on it alone.
const ID: &str = "id=${line#*:}; id=${id%%,*}";
const SOUND: &str = "printf '{\"id\": %s, \"reward\": %s}\\n' $id $((id % 2))";

/// A program that judges the held-out answers and the first batch as is right, 10 in all, and then does `body`.
fn script(body: &str) -> String {
    format!("while IFS= read -r line; do {ID}; if [ $id -lt 10 ]; then {SOUND}; else {body}; fi; done")
}

/// The program as the value of `reward.command`.
fn command(script: &str) -> String {
    let escaped = script.replace('\\', "\\\\").replace('"', "\\\"");
    format!("reward.command=[\"sh\", \"-c\", \"{escaped}\"]")
}

/// What a program may do, and words of what is said of it.
const FAULTS: [(&str, &str); 5] = [
    ("exec sleep 60", "gave 0 of 8 answers within 2 s"),
    ("exit 3", "ended (exit status: 3) after 0 of 8 answers"),
    ("kill -9 $$", "signal: 9"),
    ("echo garbage", "no object with an \"id\" and a finite \"reward\": \"garbage\""),
    ("printf '{\"id\": %s, \"reward\": NaN}\\n' $id", "no object with an \"id\" and a finite \"reward\""),
];

/// A run of two batches that `script` judges.
fn judged(out: &str, script: &str, more: &[&str]) -> Vec<String> {
    let command = command(script);
    // A program that says nothing is waited for in vain, others also where the machine is busy.
    let patience = if script.contains("sleep") { "reward.timeout=2" } else { "reward.timeout=100" };
    let own = ["--set", "reward.functions=[\"command\"]", "--set", patience, "--set", &command];
    let saved = ["--set", "train.checkpoint_interval=1", "--steps", "2", "--out", out];
    stage("grpo", &[&GROUPS[..], &own, &saved, more].concat())
}

/// Completions that the program failed to judge, update by update.
fn failed(at: &Path, run: &str) -> Vec<Option<f64>> {
    let of = |row: Row| {
        if let Row::Train(row) = row { Some(row.numbers.get("rewards/command/failed").copied()) } else { None }
    };
    learnt(at, run).into_iter().filter_map(of).collect()
}

#[test]
fn a_program_that_fails_ends_the_run_which_goes_on_from_its_checkpoint() {
    let at = folder();
    succeeds(at.path(), &judged("whole", &script(SOUND), &[]));
    for (i, (body, words)) in FAULTS.into_iter().enumerate() {
        let run = format!("run-{i}");
        refused(at.path(), &judged(&run, &script(body), &[]), 2, &["reward.command: \"sh\"", words]);
        let saved = checkpoint(at.path(), &run);
        assert!(saved.ends_with("step-00000001") && verify(&saved, &[]).unwrap().is_some(), "{body}");
        // Ids begin at 0 again; that they are even or odd stays.
        let sound = format!("while IFS= read -r line; do {ID}; {SOUND}; done");
        let command = command(&sound);
        let go_on = ["--steps", "2", "--set", &command, "--allow-changes"];
        succeeds(at.path(), &resume("grpo", &run, &go_on));
        // The configuration names another program, and the manifest lists it.
        let learnt = |run: &str| end_without(at.path(), run, &["config.toml", "manifest.json"]);
        assert!(learnt(&run) == learnt("whole"), "{body}");
    }
}

#[test]
fn or_its_answers_are_worth_nothing_and_counted() {
    let at = folder();
    for (i, (body, words)) in FAULTS.into_iter().enumerate() {
        let run = format!("run-{i}");
        let done = succeeds(at.path(), &judged(&run, &script(body), &["--set", "reward.on_failure=zero"]));
        assert!(done.err.contains("8 of 8 completions get the reward 0") && done.err.contains(words), "{}", done.err);
        assert_eq!(failed(at.path(), &run), [None, Some(8.0)], "{body}");
    }
}

#[test]
fn a_program_that_cannot_be_started_is_refused_before_there_is_a_run() {
    let at = folder();
    let command = "reward.command=[\"./no-such-judge\"]";
    let own = ["--set", "reward.functions=[\"command\"]", "--set", command, "--out", "none"];
    refused(at.path(), &stage("grpo", &[&GROUPS[..], &own].concat()), 2, &["no-such-judge", "cannot be started"]);
    assert!(!at.path().join("none").exists());
}
