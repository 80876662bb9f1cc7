//! JSON lines of other shapes than plain text.

use super::{refused, succeeds, train};
use std::fs;

const CHAT: &str =
    r#"{"messages": [{"role": "user", "content": "Name a colour."}, {"role": "assistant", "content": "Blue."}]}"#;

#[test]
fn data_says_which_shapes_it_found() {
    let at = tempfile::tempdir().unwrap();
    let silent = r#"{"messages": [{"role": "user", "content": " "}]}"#;
    fs::write(at.path().join("chat.jsonl"), format!("{CHAT}\n{silent}\n{CHAT}\n")).unwrap();
    fs::write(at.path().join("sums.jsonl"), "{\"question\": \"1 + 1?\", \"answer\": \"2\"}\n").unwrap();
    let done = succeeds(at.path(), &["data", "chat.jsonl", "sums.jsonl", "--tokenizer", "byte"]);
    assert!(done.out.contains("\nshape messages files 1 records 3 turns 5 empty 1\n"), "{}", done.out);
    assert!(done.out.contains("\nshape question+answer files 1 records 1 turns 0 empty 0\n"), "{}", done.out);
    assert!(done.out.contains("documents 4\n"), "{}", done.out);
    let done = succeeds(at.path(), &["data", "sums.jsonl", "--tokenizer", "byte", "--text-field", "answer"]);
    assert!(done.out.contains("bytes 1\n") && !done.out.contains("shape"), "{}", done.out);
}

#[test]
fn a_run_trains_on_conversations() {
    let at = tempfile::tempdir().unwrap();
    fs::write(at.path().join("chat.jsonl"), format!("{CHAT}\n").repeat(40)).unwrap();
    succeeds(at.path(), &train(&["--data", "chat.jsonl", "--steps", "2", "--out", "run"]));
    let config = fs::read_to_string(at.path().join("run/config.toml")).unwrap();
    assert!(config.contains("text_field = \"auto\""), "{config}");
    let metrics = fs::read_to_string(at.path().join("run/metrics.jsonl")).unwrap();
    assert!(metrics.contains("\"step\":2"), "{metrics}");
}

#[test]
fn lines_that_are_no_good_are_refused_with_their_place() {
    let at = tempfile::tempdir().unwrap();
    let prompt = r#"{"prompt": "Name a colour."}"#;
    let cases: [(&str, &str); 6] = [
        (r#"{"body": "x"}"#, "line 2 has none of the known shapes; its keys are \"body\"; set data.text_field"),
        (r#"{"messages": []}"#, "line 2 has no message in the list under \"messages\""),
        (r#"{"messages": [{"role": "narrator", "content": ""}]}"#, "message 1 that has the unknown role \"narrator\""),
        (r#"{"messages": [{"role": "user"}]}"#, "line 2 has under \"messages\" a message 1 that has neither"),
        (r#"{"text": "x"}"#, "line 2 has the shape text, but line 1 messages"),
        (prompt, "line 2 has a prompt and no answer to it"),
    ];
    for (line, words) in cases {
        fs::write(at.path().join("bad.jsonl"), format!("{CHAT}\n{line}\n")).unwrap();
        refused(at.path(), &["data", "bad.jsonl"], 2, &["bad.jsonl: ", words]);
        refused(at.path(), &train(&["--data", "bad.jsonl", "--steps", "1", "--out", "run"]), 2, &[words]);
    }
    assert!(!at.path().join("run").exists());
    fs::write(at.path().join("prompts.jsonl"), prompt).unwrap();
    refused(at.path(), &["data", "prompts.jsonl"], 2, &["prompts.jsonl: line 1 has a prompt", "give prompts with"]);
    succeeds(at.path(), &["data", "prompts.jsonl", "--text-field", "prompt"]);
}
