//! Programs that answer, and such that do everything else.

use super::super::tests::asked;
use super::*;
use std::time::Instant;

/// The beginning of a script that answers: the id of the line just read.
const ID: &str = "id=${line#*:}; id=${id%%,*};";

fn command(script: &str, on_failure: OnFailure) -> Command {
    within(60.0, script, on_failure)
}

fn within(timeout: f64, script: &str, on_failure: OnFailure) -> Command {
    let command = ["sh", "-c", script].map(str::to_owned).to_vec();
    Command::start(&RewardConfig { command, timeout, on_failure, ..RewardConfig::default() }).unwrap()
}

/// What a program says of `n` completions: the number of each, counted from 0.
fn judged(command: &mut Command, n: usize) -> Result<Vec<Option<f64>>> {
    let question = asked("right");
    let texts: Vec<String> = (0..n).map(|i| format!("answer {i}\n\"{}", "x".repeat(i * 1000))).collect();
    let samples: Vec<Sample> =
        texts.iter().map(|completion| Sample { question: &question, completion, tokens: 1, sequence: &[] }).collect();
    command.judge(&samples)
}

/// A loop that reads lines and does this with each.
fn each(body: &str) -> String {
    format!("while IFS= read -r line; do {ID} {body}; done")
}

const SOUND: &str = "printf '{\"id\": %s, \"reward\": %s.5}\\n' $id $id";

#[test]
fn a_program_judges_batch_after_batch() {
    let mut command = command(&each(SOUND), OnFailure::Error);
    let process = command.process.as_ref().map(Process::id);
    assert_eq!(judged(&mut command, 3).unwrap(), [Some(0.5), Some(1.5), Some(2.5)]);
    assert_eq!(judged(&mut command, 0).unwrap(), []);
    assert_eq!(judged(&mut command, 2).unwrap(), [Some(3.5), Some(4.5)]);
    assert_eq!(command.process.as_ref().map(Process::id), process, "it was started once");
    // More than any pipe holds, of which it reads nothing before it has written as much.
    let many = judged(&mut command, 16).unwrap();
    assert!(many.iter().enumerate().all(|(i, reward)| *reward == Some(i as f64 + 5.5)));
}

#[test]
fn it_is_told_what_was_asked() {
    let check = "case $line in *'\"prompt\":['*'\"completion\":\"answer 0\\n\\\"\"'*'\"reference\":\"right\"}') r=1;; \
                 *) r=0;; esac; printf '{\"id\": %s, \"reward\": %s}\\n' $id $r";
    assert_eq!(judged(&mut command(&each(check), OnFailure::Error), 1).unwrap(), [Some(1.0)]);
}

/// Scripts, what is said of them, and the rewards of three completions where failures are zeros.
const FAILURES: &[(&str, &str, [Option<f64>; 3])] = &[
    ("exec sleep 60", "gave 0 of 3 answers within 0.3 s", [None; 3]),
    ("read line; exit 3", "after 0 of 3 answers", [None; 3]),
    ("exit 0", "ended (exit status: 0) after 0 of 3 answers", [None; 3]),
    ("read line; echo '{\"id\": 0, \"reward\": 2}'", "after 1 of 3 answers", [Some(2.0), None, None]),
    ("kill -9 $$", "signal: 9", [None; 3]),
    // Too few, and silence after them.
    ("read line; echo '{\"id\": 0, \"reward\": 2}'; exec sleep 60", "gave 1 of 3 answers", [Some(2.0), None, None]),
    // One line that never ends.
    ("exec cat /dev/zero", "a line that is too long", [None; 3]),
    // Lines without end.
    ("exec yes", "answered what is no object with an \"id\" and a finite \"reward\": \"y\"", [None; 3]),
    ("exec yes '{\"id\": 0, \"reward\": 1}'", "answered completion 0 where 1 was due", [Some(1.0), None, None]),
];

/// Seconds that are given to a program of which this is said: few where it uses all of them.
fn allowed(words: &str) -> f64 {
    match &words[..6] {
        "gave 0" => 0.3,
        "gave 1" => 5.0,
        _ => 30.0,
    }
}

#[test]
fn whatever_a_program_does_is_an_error_in_time() {
    for (script, words, _) in FAILURES {
        let (mut command, started) = (within(allowed(words), script, OnFailure::Error), Instant::now());
        let process = command.process.as_ref().unwrap().id();
        let error = judged(&mut command, 3).unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("reward.command: \"sh\" ") && text.contains(words), "{script}: {text}");
        assert!(!text.contains(char::is_control) && text.len() < 300 && error.exit_code() == 2, "{script}: {text}");
        assert!(started.elapsed() < Duration::from_secs(20), "{script}: {:?}", started.elapsed());
        assert!(!is_known(process), "{script} is still there, or a zombie");
    }
}

#[test]
fn or_a_counted_zero_and_a_fresh_program() {
    for (script, words, rewards) in FAILURES {
        let mut command = within(allowed(words), script, OnFailure::Zero);
        assert_eq!(judged(&mut command, 3).unwrap(), rewards, "{script}");
    }
    // The first run fails on its third completion, the second run does not.
    let folder = tempfile::tempdir().unwrap();
    let mark = folder.path().join("mark").display().to_string();
    let body = format!("[ $id = 2 ] && ! [ -e {mark} ] && {{ : > {mark}; exit 1; }}; {SOUND}");
    let mut command = command(&each(&body), OnFailure::Zero);
    assert_eq!(judged(&mut command, 3).unwrap(), [Some(0.5), Some(1.5), None]);
    assert_eq!(judged(&mut command, 2).unwrap(), [Some(3.5), Some(4.5)]);
}

#[test]
fn a_line_that_is_no_answer_fails_alone() {
    for line in [
        "no JSON",
        "",
        "[1]",
        "{}",
        "{\\\"id\\\": 1}",
        "{\\\"id\\\": 1, \\\"reward\\\": NaN}",
        "{\\\"id\\\": 1, \\\"reward\\\": null}",
        "{\\\"id\\\": 1, \\\"reward\\\": 1e999}",
        "{\\\"id\\\": 1, \\\"reward\\\": -1e300}",
        "{\\\"id\\\": 1, \\\"reward\\\": Infinity}",
        "{\\\"id\\\": 1, \\\"reward\\\": \\\"1\\\"}",
    ] {
        let script = each(&format!("if [ $id = 1 ]; then echo \"{line}\"; else {SOUND}; fi"));
        let mut tolerant = command(&script, OnFailure::Zero);
        assert_eq!(judged(&mut tolerant, 3).unwrap(), [Some(0.5), None, Some(2.5)], "{line}");
        assert_eq!(judged(&mut tolerant, 1).unwrap(), [Some(3.5)], "{line}");
        assert!(judged(&mut command(&script, OnFailure::Error), 3).is_err(), "{line}");
    }
}

#[test]
fn an_answer_too_many_is_never_taken_for_the_next() {
    let script = each(&format!("{SOUND}; {SOUND}"));
    assert_eq!(judged(&mut command(&script, OnFailure::Zero), 2).unwrap(), [Some(0.5), None]);
    let mut command = command(&each(&format!("{SOUND}; [ $id = 1 ] && {SOUND}")), OnFailure::Error);
    assert_eq!(judged(&mut command, 2).unwrap(), [Some(0.5), Some(1.5)]);
    let error = judged(&mut command, 1).unwrap_err().to_string();
    assert!(error.contains("answered completion 1 where 2 was due"), "{error}");
}

#[test]
fn a_program_that_leaves_its_pipes_to_a_child_holds_nobody_up() {
    let started = Instant::now();
    let mut command = within(0.3, "sleep 6 & exit 0", OnFailure::Error);
    assert!(judged(&mut command, 1).is_err());
    drop(command);
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

#[test]
fn a_program_that_is_no_longer_needed_ends() {
    for script in [&each(SOUND), "trap '' TERM; while :; do sleep 0.2; done"] {
        let (command, started) = (command(script, OnFailure::Error), Instant::now());
        let process = command.process.as_ref().unwrap().id();
        drop(command);
        assert!(!is_known(process) && started.elapsed() < Duration::from_secs(5), "{script}");
    }
}

/// Whether the system knows a process, if only as a zombie.
fn is_known(process: u32) -> bool {
    cfg!(target_os = "linux") && std::path::Path::new(&format!("/proc/{process}")).exists()
}

#[test]
fn a_process_that_is_there_is_known() {
    assert!(is_known(std::process::id()) || !cfg!(target_os = "linux"));
}
