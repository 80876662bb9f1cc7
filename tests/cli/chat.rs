//! Conversations by lines of standard input, and servers that cannot begin.

use super::files::CHECKPOINT;
use super::{Done, command, misused, ran, refused, shared, succeeds, train};
use serde_json::Value;
use std::fs;
use std::path::Path;

const CHAT: [&str; 7] = ["chat", "run", "--backend", "cpu", "--tokens", "4", "--seed=5"];

/// Says `lines` to the model of [`shared`] from the folder `at`.
fn talk(at: &Path, more: &[&str], lines: impl Into<Vec<u8>>) -> Done {
    let run = shared().join("run").to_string_lossy().into_owned();
    let arguments = CHAT.iter().map(|&a| if a == "run" { run.as_str() } else { a }).chain(more.iter().copied());
    ran(command(at).args(arguments).write_stdin(lines))
}

#[test]
fn messages_are_answered_and_commands_obeyed() {
    let at = tempfile::tempdir().unwrap();
    let script = "Where?\n\n/system Be kind.\r\n/temperature 0\nAnd \u{e9}?\n/save talk.jsonl\n/reset\n//quit\n\
                  /save talk.jsonl\n/system\n/help\n/quit\nnever said\n";
    let done = talk(at.path(), &[], script);
    assert_eq!(done.code, 0, "{}", done.err);
    assert_eq!(done.err.matches(" tokens/s]").count(), 3, "{}", done.err);
    for words in [
        "5 messages are in talk.jsonl",
        "Ctrl-C",
        "the conversation is forgotten",
        "the model is told from now on: Be kind.",
        "the model is told nothing",
        "the temperature is 0",
        "was taught plain text, it seems, and no conversations",
    ] {
        assert!(done.err.contains(words), "{}", done.err);
    }
    let saved = fs::read_to_string(at.path().join("talk.jsonl")).unwrap();
    let lines: Vec<Value> = saved.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let said = |line: &Value| -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        line["messages"].as_array().unwrap().iter().map(|m| (text(&m["role"]), text(&m["content"]))).collect()
    };
    let [first, second] = [said(&lines[0]), said(&lines[1])];
    let roles: Vec<&str> = first.iter().map(|(role, _)| role.as_str()).collect();
    assert_eq!(roles, ["system", "user", "assistant", "user", "assistant"]);
    assert_eq!((first[0].1.as_str(), first[1].1.as_str(), first[3].1.as_str()), ("Be kind.", "Where?", "And é?"));
    assert_eq!((second.len(), second[1].1.as_str()), (3, "/quit"), "forgotten; two slashes begin a message");
    assert_eq!(done.out, [&first[2].1, &first[4].1, &second[2].1].map(|answer| format!("{answer}\n")).concat());
    assert_eq!(done.out, talk(at.path(), &[], script).out, "the seed decides");
    let other = talk(at.path(), &["--system", "Be kind.", "--temperature", "0"], "//quit\n");
    assert_eq!(other.out, format!("{}\n", second[2].1), "options say what commands say");
    assert_eq!((talk(at.path(), &[], "").code, talk(at.path(), &[], "no line feed").code), (0, 0));
}

#[test]
fn a_script_ends_at_what_cannot_be_done() {
    let at = tempfile::tempdir().unwrap();
    let long = "Mara ".repeat(100);
    let lines: [(Vec<u8>, &str); 10] = [
        (format!("{long}\nnext\n").into(), "there is room for 64 with the answer; /reset begins a new one"),
        (b"/dance\nnext\n".to_vec(), "no command /dance"),
        (b"/temperature hot\n".to_vec(), "/temperature needs a number"),
        (b"/temperature -1\n".to_vec(), "/temperature is -1"),
        (b"/temperature NaN\n".to_vec(), "/temperature is NaN"),
        (b"/save\n".to_vec(), "name of a file"),
        (b"/save none/talk\n".to_vec(), "not a folder"),
        (b"/system Be kind.\n/save talk\n".to_vec(), "no conversation to save"),
        (b"a\xff\n".to_vec(), "not UTF-8"),
        (vec![b'a'; (1 << 20) + 1], "line of more than"),
    ];
    for (lines, word) in lines {
        let done = talk(at.path(), &[], lines);
        assert!(done.code == 2 && done.out.is_empty(), "{word}: {} {}", done.code, done.err);
        assert!(
            done.err.lines().last().is_some_and(|line| line.starts_with("error: ") && line.contains(word)),
            "{}",
            done.err
        );
    }
    let full = talk(at.path(), &["--context", "20"], "Where?\n");
    assert!(full.code == 0 && full.err.contains("all 20 tokens of the context are full"), "{}", full.err);
    refused(shared(), &[&CHAT[..], &["--context", "65"]].concat(), 2, &["--context 65", "64"]);
}

#[test]
fn a_model_without_tokens_for_turns_is_refused() {
    let at = tempfile::tempdir().unwrap();
    succeeds(at.path(), &train(&["--steps", "1", "--tokenizer", "byte", "--out", "run"]));
    refused(at.path(), &CHAT, 2, &["cannot chat", "hadal sft"]);
}

#[test]
fn a_model_is_told_conversations_by_its_own_template() {
    let at = tempfile::tempdir().unwrap();
    let model = at.path().join("run");
    fs::create_dir(&model).unwrap();
    for entry in fs::read_dir(shared().join(CHECKPOINT)).unwrap().map(Result::unwrap) {
        if entry.file_name() != "manifest.json" {
            fs::copy(entry.path(), model.join(entry.file_name())).unwrap(); // without that, files may be changed
        }
    }
    let say = |template: &str| {
        fs::write(model.join("chat_template.jinja"), template).unwrap();
        ran(command(at.path()).args(CHAT).write_stdin("Where is Mara?\n"))
    };
    let turns = "{% for m in messages %}[{{ m.role }}] {{ m.content }}<|im_end|>{% endfor %}{{ words }}";
    let [a, b] = ["", "Mara is"].map(|words| say(&turns.replace("{{ words }}", words)));
    assert!(a.code == 0 && b.code == 0 && a.out != b.out, "{} {}", a.err, b.err);
    for (template, word) in [("{{ messages", "no chat template"), ("{{ messages[0].content }}", "chat_template.jinja")]
    {
        let done = say(template);
        assert!(done.code == 2 && done.err.contains(word) && done.err.contains("cannot chat"), "{}", done.err);
    }
}

#[test]
fn a_server_that_cannot_begin_says_why() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let serve = |more: &[&'static str]| [&["serve", "run", "--backend", "cpu", "--port", "0"], more].concat();
    refused(shared(), &["serve", "run", "--backend", "cpu", "--port", &port], 2, &["cannot listen", &port, "--port"]);
    refused(shared(), &serve(&["--host", "256.0.0.1"]), 2, &["cannot listen", "256.0.0.1"]);
    refused(shared(), &serve(&["--context", "65"]), 2, &["--context 65", "64"]);
    refused(shared(), &["serve", "none"], 2, &["none", "does not exist"]);
    misused(shared(), &serve(&["--slots", "0"]), "--slots");
}
