//! Fine-tuning on conversations.

use super::resume::{parameters, rows};
use super::{SMALL, hadal, refused, shared, succeeds};
use hadal::train::rows::Row;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const GOOD: &str =
    r#"{"messages": [{"role": "user", "content": "Where?"}, {"role": "assistant", "content": "Here."}]}"#;

/// A folder with `chats.jsonl`, 40 conversations of four shapes.
pub fn chats() -> TempDir {
    let at = tempfile::tempdir().unwrap();
    let line = |i: usize| match i % 4 {
        0 => GOOD.replace("Where", &"Where ".repeat(i % 3 + 1)),
        1 => format!(r#"{{"prompt": "{i}?", "completion": "{i}."}}"#),
        2 => r#"{"instruction": "Say it.", "input": "Mara", "output": "Mara is the baker."}"#.to_owned(),
        _ => r#"{"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}"#.to_owned(),
    };
    write(at.path(), "chats.jsonl", &(0..40).map(line).collect::<Vec<_>>());
    at
}

fn write(at: &Path, name: &str, lines: &[String]) {
    fs::write(at.join(name), lines.join("\n") + "\n").unwrap();
}

/// `sft` of the shared run on `data` with more arguments.
pub fn sft(data: &str, more: &[&str]) -> Vec<String> {
    let run = shared().join("run");
    let own = ["sft", "--backend", "cpu", "--model", &run.to_string_lossy(), "--data", data].map(str::to_owned);
    let set = ["train.micro_batch=2", "train.sequence_length=48", "train.eval_batches=2"];
    let set = set
        .iter()
        .chain(&["schedule.warmup_steps=2", "schedule.decay_steps=2400"])
        .flat_map(|set| ["--set".to_owned(), (*set).to_owned()]);
    own.into_iter().chain(set).chain(more.iter().map(|more| (*more).to_owned())).collect()
}

pub fn checkpoint(at: &Path, run: &str) -> PathBuf {
    let folder = at.join(run).join("checkpoints");
    folder.join(fs::read_to_string(folder.join("latest")).unwrap().trim())
}

pub fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn a_run_learns_from_conversations_and_a_resumed_one_ends_like_one_without_a_stop() {
    let at = chats();
    let done = succeeds(at.path(), &sft("chats.jsonl", &["--steps", "4", "--out", "whole"]));
    assert!(done.err.contains("40 conversations (0 cut to 48 tokens, 0 dropped"), "{}", done.err);
    succeeds(at.path(), &sft("chats.jsonl", &["--steps", "2", "--out", "run"]));
    succeeds(at.path(), &["sft", "--out", "run", "--resume", "--steps", "4", "--backend", "cpu"]);
    let train = |name| rows(at.path(), name).into_iter().filter(|row| matches!(row, Row::Train(_))).collect::<Vec<_>>();
    let (whole, run) = (train("whole"), train("run"));
    assert_eq!(run, whole);
    assert!(parameters(at.path(), "run") == parameters(at.path(), "whole"));
    let Row::Train(last) = &whole[3] else { panic!("no train row") };
    let numbers = last.sft.unwrap();
    assert!(last.tokens > 0 && numbers.num_tokens > 2 * last.tokens && last.loss > 0.0, "{last:?}");
    assert!((0.0..=1.0).contains(&numbers.mean_token_accuracy) && numbers.aux_loss > 0.0, "{numbers:?}");
    // An answer ends with its mark, and so does generation.
    let folder = checkpoint(at.path(), "run");
    assert_eq!(json(&folder.join("generation_config.json"))["eos_token_id"], 2);
    assert!(fs::read_to_string(folder.join("chat_template.jinja")).unwrap().contains("<|im_start|>"));
    // The other stage does not go on with it, nor this one with a run of the other.
    refused(at.path(), &["train", "--out", "run", "--resume", "--steps", "6"], 2, &["begun by `hadal sft`"]);
    let eval = succeeds(at.path(), &["eval", "run", "--backend", "cpu"]);
    assert!(eval.out.contains("token_accuracy ") && !eval.out.contains("world_"), "{}", eval.out);
}

#[test]
fn a_vocabulary_without_marks_grows_and_padding_is_as_good_as_packing() {
    let at = chats();
    let small = [&["train"], &SMALL[..], &["--tokenizer", "byte", "--steps", "1", "--out", "bytes"]].concat();
    succeeds(
        at.path(),
        &[&small[..], &["--set", "model.vocab_size=0", "--set", "model.max_position_embeddings=160"]].concat(),
    );
    let flags = ["--model", "bytes", "--steps", "1", "--set", "train.sequence_length=150", "--out", "run"];
    let mut arguments = sft("chats.jsonl", &[&flags[2..], &["--set", "sft.packing=false"]].concat());
    arguments[4] = "bytes".to_owned();
    let done = succeeds(at.path(), &arguments);
    assert!(done.err.contains("36 training rows") && done.err.contains("4 held out"), "{}", done.err);
    let folder = checkpoint(at.path(), "run");
    assert_eq!(json(&folder.join("config.json"))["vocab_size"], 259);
    assert_eq!(json(&folder.join("generation_config.json"))["eos_token_id"], 258);
    let tokenizer = json(&folder.join("tokenizer.json"));
    let added = tokenizer["added_tokens"].as_array().unwrap();
    assert!(added.iter().any(|token| token["content"] == "<|im_end|>" && token["id"] == 258), "{added:?}");
}

#[test]
fn bad_conversations_are_named_by_line_and_stop_the_run_unless_they_are_allowed() {
    let at = tempfile::tempdir().unwrap();
    let of = |roles: &[&str]| {
        let message = |role: &&str| format!(r#"{{"role": "{role}", "content": "x"}}"#);
        format!(r#"{{"messages": [{}]}}"#, roles.iter().map(message).collect::<Vec<_>>().join(", "))
    };
    let bad = [
        (of(&["user", "robot"]), "unknown role"),
        (of(&["user"]), "no message of the assistant"),
        (of(&["assistant", "user"]), "out of order"),
        (of(&["user", "user", "assistant"]), "out of order"),
        (of(&["user", "system", "assistant"]), "out of order"),
        (format!("{{\"messages\": \"{}\"}}", "x".repeat(17 << 20)), "longer than 16 MiB"),
        ("{\"messages\": [".to_owned(), "not JSON"),
        (r#"{"text": "x"}"#.to_owned(), "not a conversation"),
        (r#"{"prompt": "x"}"#.to_owned(), "no answer"),
    ];
    for (line, words) in &bad {
        write(at.path(), "bad.jsonl", &[GOOD.to_owned(), line.clone(), GOOD.to_owned()]);
        let arguments = sft("bad.jsonl", &["--steps", "1", "--out", "none"]);
        refused(at.path(), &arguments, 2, &["bad.jsonl: line 2 ", words, "--max-bad-lines 1"]);
        assert!(!at.path().join("none").exists());
    }
    let mut lines = vec![GOOD.to_owned(); 30];
    lines.extend([bad[1].0.clone(), GOOD.to_owned(), bad[6].0.clone()]);
    write(at.path(), "some.jsonl", &lines);
    let run = |more: &[&str]| sft("some.jsonl", &[&["--steps", "1", "--out", "run"], more].concat());
    refused(at.path(), &run(&["--max-bad-lines", "1"]), 2, &["2 problems", "line 31 ", "line 33 "]);
    let done = succeeds(at.path(), &run(&["--max-bad-lines", "2"]));
    assert!(done.err.contains("left out: 2 problems") && done.err.contains("line 33 "), "{}", done.err);
    assert!(done.err.contains("31 conversations") && done.err.contains("2 bad lines left out"), "{}", done.err);
}

#[test]
fn what_cannot_be_fine_tuned_is_refused_in_one_line() {
    let at = chats();
    let run = |more: &[&str]| sft("chats.jsonl", &[&["--steps", "1", "--out", "none"], more].concat());
    fs::write(
        at.path().join("endless.jinja"),
        "{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}",
    )
    .unwrap();
    refused(at.path(), &run(&["--chat-template", "endless.jinja"]), 2, &["endless.jinja", "without end"]);
    refused(at.path(), &run(&["--chat-template", "gone.jinja"]), 2, &["gone.jinja"]);
    fs::write(at.path().join("plain.txt"), "text").unwrap();
    refused(at.path(), &sft("plain.txt", &["--out", "none"]), 2, &["plain.txt", "no conversations"]);
    refused(at.path(), &run(&["--set", "sft.mask=seed"]), 2, &["sft.mask: unknown key"]);
    refused(at.path(), &["sft", "--data", "chats.jsonl", "--out", "none"], 2, &["--model is needed"]);
    // The world's chats are longer than the shared model's windows.
    let run = shared().join("run");
    let world = ["sft", "--model", &run.to_string_lossy(), "--out", "none", "--set", "train.sequence_length=16"];
    refused(at.path(), &world, 2, &["train.sequence_length", "chats begins"]);
    assert!(!at.path().join("none").exists());
}

#[test]
fn the_world_s_chats_are_written_as_the_messages_that_are_read() {
    let at = tempfile::tempdir().unwrap();
    succeeds(at.path(), &["data", "world", "--kind", "chat", "--stories", "30", "--out", "world.jsonl"]);
    let text = fs::read_to_string(at.path().join("world.jsonl")).unwrap();
    let first: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    let roles: Vec<&str> = first["messages"].as_array().unwrap().iter().map(|m| m["role"].as_str().unwrap()).collect();
    assert_eq!((text.lines().count(), roles.len(), &roles[..2]), (30, 10, &["user", "assistant"][..]));
    let done = hadal(at.path(), &["data", "world.jsonl", "--tokenizer", "world"]);
    assert!(done.out.contains("shape messages files 1 records 30 turns 300 empty 0"), "{}", done.out);
}
