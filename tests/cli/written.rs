//! Preferences and questions for rewards, as the program writes and reads them.

use super::{hadal, refused, succeeds};
use hadal::chat::preference::Pair;
use hadal::data::preferences::of_world;
use hadal::data::questions::Question;
use hadal::data::record::{self, Role, Turn};
use hadal::data::world::{Split, World};
use serde_json::Value;
use std::collections::HashSet;
use std::fs;
use std::path::Path;

fn lines(at: &Path, name: &str) -> Vec<Value> {
    let text = fs::read_to_string(at.join(name)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn words<'l>(line: &'l Value, key: &str) -> &'l str {
    line[key].as_str().unwrap_or_else(|| panic!("no {key}: {line}"))
}

#[test]
fn the_world_s_preferences_and_questions_are_written_as_they_are_read() {
    let at = tempfile::tempdir().unwrap();
    for kind in ["preference", "task"] {
        let file = format!("{kind}.jsonl");
        succeeds(at.path(), &["data", "world", "--kind", kind, "--stories", "50", "--out", &file]);
        let lines = lines(at.path(), &file);
        assert_eq!(lines.len(), 50);
        for (n, line) in (0..).zip(lines) {
            let record = record::read(line.to_string().as_bytes()).unwrap().1;
            match kind {
                "preference" => {
                    let expected = of_world(World::new(1).preference(n, Split::Train));
                    assert_eq!(Pair::new(record).unwrap(), expected);
                }
                _ => {
                    let quiz = World::new(1).quiz(n, Split::Train);
                    let question = Question::new(record).unwrap();
                    assert_eq!(question.reference.as_deref(), Some(quiz.reference()));
                    assert_eq!(question.prompt, [Turn::new(Role::User, quiz.question)]);
                }
            }
        }
    }
    let counted = succeeds(at.path(), &["data", "preference.jsonl", "--tokenizer", "world"]);
    assert!(counted.out.contains("shape chosen+rejected files 1 records 50 "), "{}", counted.out);
}

#[test]
fn sums_are_right_of_the_digits_that_are_wanted_and_messages_if_wanted() {
    let at = tempfile::tempdir().unwrap();
    let file = |name: &str, more: &[&str]| {
        succeeds(at.path(), &[&["data", "arithmetic", "--questions", "80", "--out", name], more].concat());
        lines(at.path(), name)
    };
    let sums = file("sums.jsonl", &["--digits", "3"]);
    let chats = file("chats.jsonl", &["--digits", "3", "--chat"]);
    assert_eq!((sums.len(), chats.len()), (80, 80));
    let mut lengths = HashSet::new();
    for (sum, chat) in sums.iter().zip(&chats) {
        let question: Vec<&str> = words(sum, "question").trim_end_matches('?').split(' ').collect();
        let [_, _, a, sign, b] = question[..] else { panic!("{sum}") };
        lengths.extend([a.len(), b.len()]);
        let (a, b): (i64, i64) = (a.parse().unwrap(), b.parse().unwrap());
        assert_eq!(words(sum, "answer"), format!("#### {}", if sign == "+" { a + b } else { a - b }));
        let said: Vec<(&str, &str)> = chat["messages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|message| (words(message, "role"), words(message, "content")))
            .collect();
        assert_eq!(said, [("user", words(sum, "question")), ("assistant", words(sum, "answer"))]);
    }
    assert_eq!(lengths, HashSet::from([1, 2, 3]));
    assert_ne!(sums, file("others.jsonl", &["--digits", "3", "--seed", "2"]));
    for (name, shape) in [("sums.jsonl", "question+answer"), ("chats.jsonl", "messages")] {
        let counted = hadal(at.path(), &["data", name, "--tokenizer", "world"]);
        assert!(counted.out.contains(&format!("shape {shape} files 1 records 80 ")), "{}", counted.out);
    }
    refused(at.path(), &["data", "arithmetic", "--out", "sums.jsonl"], 2, &["sums.jsonl", "exists already"]);
    refused(at.path(), &["data", "arithmetic", "--out", "none", "--digits", "10"], 2, &["task.digits: is 10"]);
    assert!(!at.path().join("none").exists());
}
