//! Training by preferences and rewards: what such runs are made from, what is refused, and what reads them.

use super::resume::rows;
use super::sft::{checkpoint, json};
use super::{Done, hadal, misused, ran, refused, shared, succeeds};
use hadal::train::rows::{Numbers, Row};
use std::fs;
use std::path::Path;
use tempfile::TempDir;

/// Four answers to each of two prompts.
pub const GROUPS: [&str; 4] = ["--set", "rollout.prompts=2", "--set", "rollout.num_generations=4"];
/// One answer to each of eight.
pub const SINGLE: [&str; 4] = ["--set", "rollout.prompts=8", "--set", "rollout.num_generations=1"];
/// A batch makes four updates.
pub const UPDATES: [&str; 4] = ["--set", "rollout.num_iterations=2", "--set", "rollout.num_mini_batches=2"];
/// A command, and what makes it draw batches of eight answers, if it draws any.
pub const STAGES: [(&str, &[&str]); 4] = [("reward", &[]), ("dpo", &[]), ("grpo", &GROUPS), ("ppo", &SINGLE)];

/// A folder with `pairs.jsonl` and `asked.jsonl`, of 20 lines each.
pub fn folder() -> TempDir {
    let at = tempfile::tempdir().unwrap();
    let write = |name: &str, line: &dyn Fn(usize) -> String| {
        fs::write(at.path().join(name), (0..20).map(|i| line(i) + "\n").collect::<String>()).unwrap();
    };
    write("pairs.jsonl", &|i| {
        let better = "so ".repeat(i % 3 + 1);
        format!(r#"{{"prompt": "Why {i}?", "chosen": "{better}{i}", "rejected": "no {}"}}"#, i * i)
    });
    write("asked.jsonl", &|i| format!(r#"{{"prompt": "Say {}.", "answer": "{i}"}}"#, i % 7));
    at
}

/// A stage after the shared run, with more arguments: rows of 48 tokens, four a pass, and rewards that differ.
pub fn stage(kind: &str, more: &[&str]) -> Vec<String> {
    let draws = matches!(kind, "grpo" | "ppo");
    let run = shared().join("run");
    let mut all = [kind, "--backend", "cpu", "--model", &run.to_string_lossy()].map(str::to_owned).to_vec();
    let mut add = |words: &[&str]| all.extend(words.iter().map(|&word| word.to_owned()));
    if !more.contains(&"--data") {
        add(&["--data", if draws { "asked.jsonl" } else { "pairs.jsonl" }]);
    }
    let own = [
        "train.micro_batch=4",
        "train.sequence_length=48",
        "train.eval_batches=2",
        "train.eval_interval=0",
        "train.checkpoint_interval=0",
        "train.keep=0",
        "train.sample_interval=0",
        "schedule.kind=constant", // one that falls to the last update is another where a run stops before
        "schedule.warmup_steps=1",
        "log.plot_interval=0",
        "log.interval=0",
    ];
    let drawing = [
        "rollout.max_completion_length=6",
        "rollout.eval_prompts=2",
        "reward.functions=[\"format\"]",
        "reward.pattern=[ae].*e",
    ];
    let sets = own.iter().chain(drawing.iter().filter(|_| draws));
    sets.for_each(|set| add(&["--set", set]));
    add(more);
    all
}

/// The command that lets a run go on.
pub fn resume<'a>(kind: &'a str, run: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&[kind, "--out", run, "--resume", "--backend", "cpu"], more].concat()
}

/// The rows of a run without any times.
pub fn learnt(at: &Path, run: &str) -> Vec<Row> {
    let mut rows = rows(at, run);
    for row in &mut rows {
        let (Row::Train(hadal::train::rows::TrainRow { numbers, .. })
        | Row::Val(hadal::train::rows::ValRow { numbers, .. })) = row;
        numbers.retain(|name, _| !name.starts_with("seconds/"));
    }
    rows
}

/// The numbers of the first validation, and those of the update number `step`.
pub fn numbers(at: &Path, run: &str, step: u64) -> [Numbers; 2] {
    let rows = learnt(at, run);
    let val = rows.iter().find_map(|row| if let Row::Val(row) = row { Some(row.numbers.clone()) } else { None });
    let of =
        |row: &Row| if let Row::Train(row) = row { Some(row).filter(|row| row.step == step) } else { None }.cloned();
    [val.unwrap(), rows.iter().find_map(of).unwrap().numbers]
}

/// The latest checkpoint of a run, byte for byte.
pub fn end(at: &Path, run: &str) -> Vec<Vec<u8>> {
    end_without(at, run, &[])
}

/// The same without the files of these names.
pub fn end_without(at: &Path, run: &str, left_out: &[&str]) -> Vec<Vec<u8>> {
    let folder = checkpoint(at, run);
    let mut names: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.retain(|path| !left_out.iter().any(|name| path.ends_with(name)));
    names.sort();
    names.iter().map(|path| fs::read(path).unwrap()).collect()
}

#[test]
fn what_no_stage_can_begin_with_is_refused_in_one_line() {
    let at = folder();
    for (all, one) in [("pairs.jsonl", "pair.jsonl"), ("asked.jsonl", "question.jsonl")] {
        let text = fs::read_to_string(at.path().join(all)).unwrap();
        fs::write(at.path().join(one), text.lines().next().unwrap()).unwrap();
    }
    let none = |kind: &str, draws: &[&str], more: &[&str]| stage(kind, &[draws, &["--out", "none"], more].concat());
    for (kind, draws) in STAGES {
        refused(at.path(), &[kind, "--backend", "cpu", "--out", "none"], 2, &["--model is needed"]);
        let set = |set| none(kind, draws, &["--set", set]);
        refused(at.path(), &set("train.sequence_length=65"), 2, &["train.sequence_length", "65", "64"]);
        let short = if draws.is_empty() { "nothing to prefer" } else { "a prompt has" };
        let sets = ["--set", "train.sequence_length=8"];
        let done = hadal(at.path(), &none(kind, draws, &sets));
        assert!(done.code == 2 && (done.err.contains(short) || done.err.contains("no preference")), "{}", done.err);
    }
    for kind in ["reward", "dpo"] {
        let odd = none(kind, &[], &["--set", "train.micro_batch=3"]);
        refused(at.path(), &odd, 2, &["train.micro_batch: is 3", "even"]);
        refused(at.path(), &none(kind, &[], &["--data", "question.jsonl"]), 2, &["line 1 has no \"chosen\""]);
    }
    for kind in ["grpo", "ppo"] {
        refused(at.path(), &none(kind, &GROUPS, &["--data", "pair.jsonl"]), 2, &["line 1 has two answers"]);
        let world = ["--set", "reward.functions=[\"world\"]"];
        refused(at.path(), &none(kind, &GROUPS, &world), 2, &["reward.functions", "name another function"]);
        let twice = ["--set", "train.accumulation=2"];
        refused(at.path(), &none(kind, &GROUPS, &twice), 2, &["train.accumulation", "must be 1"]);
        let parts = ["--set", "rollout.num_mini_batches=9"];
        refused(at.path(), &none(kind, &GROUPS, &parts), 2, &["rollout.num_mini_batches: is 9", "8 answers"]);
    }
    misused(at.path(), &["dpo", "--resume"], "--out");
    assert!(!at.path().join("none").exists());
}

#[test]
fn bad_lines_are_left_out_as_far_as_is_allowed() {
    let at = folder();
    for name in ["pairs.jsonl", "asked.jsonl"] {
        let text = fs::read_to_string(at.path().join(name)).unwrap();
        fs::write(at.path().join(name), format!("{{}}\n{text}[1]\n")).unwrap();
    }
    for (kind, draws) in STAGES {
        let run = |more: &[&str]| stage(kind, &[draws, &["--steps", "1", "--out", kind], more].concat());
        refused(at.path(), &run(&["--max-bad-lines", "1"]), 2, &["2 problems", "line 1 ", "line 22 "]);
        assert!(!at.path().join(kind).exists());
        let done = succeeds(at.path(), &run(&["--max-bad-lines", "2"]));
        assert!(done.err.contains("2 bad lines left out"), "{}", done.err);
    }
}

/// What talks and continues says with a run.
fn said(at: &Path, run: &str) -> [String; 2] {
    let flags = ["--backend", "cpu", "--tokens", "4", "--temperature", "0"];
    let sampled = succeeds(at, &[&["sample", run, "--prompt", "Mara"], &flags[..]].concat()).out;
    let chatted: Done = ran(super::command(at).args(["chat", run]).args(flags).write_stdin("Where?\n"));
    assert_eq!(chatted.code, 0, "{}", chatted.err);
    [sampled, chatted.out]
}

#[test]
fn what_was_aligned_talks_is_exported_and_is_aligned_again() {
    let at = folder();
    for (kind, draws) in &STAGES[1..] {
        succeeds(at.path(), &stage(kind, &[draws, &["--steps", "1", "--out", kind][..]].concat()));
        let value_head = checkpoint(at.path(), kind).join("model.safetensors");
        let names = super::files::read_raw(&value_head);
        assert_eq!(names.iter().any(|(tensor, _)| tensor.name == "v_head.weight"), *kind == "ppo");
        let out = format!("{kind}-out");
        succeeds(at.path(), &["export", kind, "--out", &out]);
        let exported = super::files::read_raw(&at.path().join(&out).join("model.safetensors"));
        assert!(exported.iter().all(|(tensor, _)| tensor.name != "v_head.weight"));
        assert_eq!(json(&at.path().join(&out).join("config.json"))["model_type"], "deepseek_v2");
        assert_eq!(said(at.path(), kind), said(at.path(), &out));
        // A run goes on where another stage ended, whatever heads that had.
        let mut again = stage("dpo", &["--steps", "1", "--out", &format!("{kind}-dpo")]);
        again[4] = (*kind).to_owned();
        succeeds(at.path(), &again);
        // And no other stage goes on with it in its own folder.
        for other in ["train", "sft", "reward", "dpo", "grpo", "ppo"].into_iter().filter(|other| other != kind) {
            let words = format!("begun by `hadal {kind}`");
            refused(at.path(), &resume(other, kind, &["--steps", "2"]), 2, &[&words]);
        }
    }
}

#[test]
fn a_reward_model_writes_nothing_and_says_so() {
    let at = folder();
    succeeds(at.path(), &stage("reward", &["--steps", "1", "--out", "judge"]));
    let names = super::files::read_raw(&checkpoint(at.path(), "judge").join("model.safetensors"));
    let has = |name: &str| names.iter().any(|(tensor, _)| tensor.name == name);
    assert!(has("score.weight") && !has("lm_head.weight"));
    let config = json(&checkpoint(at.path(), "judge").join("config.json"));
    assert_eq!(config["architectures"][0], "DeepseekV2ForSequenceClassification");
    let words = ["holds a reward model, which gives a number for an answer and writes none"];
    for command in ["chat", "sample", "serve"] {
        refused(at.path(), &[command, "judge"], 2, &words);
    }
    // Only of a run it is known what it is to be judged by.
    let newest = checkpoint(at.path(), "judge");
    refused(at.path(), &["eval", &newest.to_string_lossy(), "--data", "pairs.jsonl"], 2, &words);
    refused(at.path(), &["export", "judge", "--out", "none"], 2, &words);
    for (kind, draws) in STAGES {
        let mut from = stage(kind, &[draws, &["--steps", "1", "--out", "none"]].concat());
        from[4] = "judge".to_owned();
        refused(at.path(), &from, 2, &words);
    }
    assert!(!at.path().join("none").exists());
}

#[test]
fn adapters_are_aligned_go_on_and_are_merged() {
    let at = folder();
    let rank = ["--set", "lora.rank=4", "--set", "train.checkpoint_interval=1"];
    for (kind, draws) in [("dpo", &[][..]), ("grpo", &[&GROUPS[..], &["--set", "grpo.beta=0.1"]].concat())] {
        let run = |out: &str, steps: &str| {
            let name = format!("{kind}-{out}");
            succeeds(at.path(), &stage(kind, &[draws, &rank, &["--steps", steps, "--out", &name]].concat()));
            name
        };
        let (whole, part) = (run("whole", "3"), run("part", "1"));
        // The reference is the frozen weights, from which nothing differs yet.
        let [val, first] = numbers(at.path(), &whole, 1);
        match kind {
            "dpo" => assert_eq!((val["rewards/margins"], first["rewards/margins"]), (0.0, 0.0)),
            _ => assert_eq!((first["kl"], first["clip_ratio/region_mean"]), (0.0, 0.0)),
        }
        let name = if kind == "dpo" { "rewards/margins" } else { "kl" };
        assert!(numbers(at.path(), &whole, 3)[1][name] != 0.0, "{kind}");
        if kind == "dpo" {
            // They can be made anew in the middle of a run.
            fs::remove_file(at.path().join(&part).join("reference_logps.safetensors")).unwrap();
        }
        succeeds(at.path(), &resume(kind, &part, &["--steps", "3"]));
        assert!(end(at.path(), &part) == end(at.path(), &whole), "{kind}");
        let merged = format!("{kind}-merged");
        succeeds(at.path(), &["export", &whole, "--merge", "--out", &merged]);
        assert_eq!(said(at.path(), &whole), said(at.path(), &merged));
    }
    for (kind, draws) in [STAGES[0], STAGES[3]] {
        let run = stage(kind, &[draws, &rank, &["--out", "none"]].concat());
        refused(at.path(), &run, 2, &["lora.rank", "head of one output"]);
    }
}
