//! JSON lines in every shape: what text they give, and what is said of those that are no good.

use hadal::config::data::DataConfig;
use hadal::data::census::Census;
use hadal::data::corpus::Corpus;
use hadal::data::record::{Content, Record, Role, Shape, Turn, read};
use hadal::data::{Cache, Dataset};
use hadal::tokenizer::Tokenizer;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::fs;
use std::path::Path;

/// A conversation in which one message is asked and one answered.
const CHAT: &str = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello.<|im_end|>\n";

/// Lines, their shapes and the texts that they give.
const GOOD: [(&str, Shape, &str); 31] = [
    (r#"{"text": "a\u00e9\u0000"}"#, Shape::Text, "a\u{e9}\0"),
    (r#"{"text": "", "messages": 3, "prompt": [], "label": 1e999}"#, Shape::Text, ""),
    (r#"{"t\u0065xt": "a", "meta": {"text": "no"}}"#, Shape::Text, "a"),
    (r#"{"text": "NaN \"NaN", "score": NaN, "x": [Infinity, {"y": -Infinity}]}"#, Shape::Text, "NaN \"NaN"),
    (r#"{"text": "\ud83d\ude00", "meta": "\ud800"}"#, Shape::Text, "\u{1f600}"),
    (
        r#"{"system": "r", "messages": [{"role": "user", "content": [{"type": "text", "text": "H"},
        {"type": "text", "text": "i"}], "weight": null}, {"role": "assistant", "content": "Hello.", "weight": 1.0}]}"#,
        Shape::Messages,
        concat!(
            "<|im_start|>system\nr<|im_end|>\n",
            "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello.<|im_end|>\n"
        ),
    ),
    (
        r#"{"instruction": "Hi", "output": "Hello.", "system": "r", "history": [], "tools": "[]"}"#,
        Shape::Instruction,
        concat!(
            "<|im_start|>system\nr<|im_end|>\n",
            "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello.<|im_end|>\n"
        ),
    ),
    (r#"{"question": "Hi", "chosen": "Hello.", "rejected": "Go."}"#, Shape::Preference, CHAT),
    (
        r#"{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]}"#,
        Shape::Messages,
        CHAT,
    ),
    (
        r#"{"prompt": "x", "messages": [{"content": "r", "role": "system", "name": 1, "tool_calls": null}]}"#,
        Shape::Messages,
        "<|im_start|>system\nr<|im_end|>\n",
    ),
    (
        r#"{"messages": [{"role": "tool", "content": "<|im_end|>", "tool_calls": []}]}"#,
        Shape::Messages,
        "<|im_start|>tool\n<|im_end|><|im_end|>\n",
    ),
    (
        r#"{"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello."}]}"#,
        Shape::Conversation,
        CHAT,
    ),
    (
        r#"{"conversations": [{"from": "user", "value": "Hi"}, {"from": "assistant", "value": "Hello."}]}"#,
        Shape::Conversation,
        CHAT,
    ),
    (
        r#"{"conversations": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]}"#,
        Shape::Conversation,
        CHAT,
    ),
    (
        r#"{"conversations": [{"from": "human", "value": "Hi"}], "chosen": {"from": "gpt", "value": "Hello."},
        "rejected": {"from": "gpt", "value": "Go."}}"#,
        Shape::ConversationPreference,
        CHAT,
    ),
    (
        r#"{"conversations": [{"from": "human", "value": "Hi"}], "chosen": [{"from": "gpt", "value": "Hello."}],
        "rejected": [{"from": "gpt", "value": "Go."}]}"#,
        Shape::ConversationPreference,
        CHAT,
    ),
    (r#"{"prompt": "The sky is", "completion": " blue."}"#, Shape::Completion, "The sky is blue."),
    (
        r#"{"prompt": [{"role": "user", "content": "Hi"}],
        "completion": [{"role": "assistant", "content": "Hello."}]}"#,
        Shape::Completion,
        CHAT,
    ),
    (r#"{"prompt": "The sky is", "completion": " blue.", "label": true}"#, Shape::Labelled, "The sky is blue."),
    (
        r#"{"prompt": [{"role": "user", "content": "Hi"}], "completion": [{"role": "assistant", "content": "Hello."}],
        "label": true}"#,
        Shape::Labelled,
        CHAT,
    ),
    (r#"{"prompt": "The sky is", "chosen": " blue.", "rejected": " green."}"#, Shape::Preference, "The sky is blue."),
    (r#"{"chosen": "The sky is blue.", "rejected": "The sky is green."}"#, Shape::Preference, "The sky is blue."),
    (r#"{"prompt": null, "chosen": "blue", "rejected": "green"}"#, Shape::Preference, "blue"),
    (
        r#"{"prompt": [{"role": "user", "content": "Hi"}], "chosen": [{"role": "assistant", "content": "Hello."}],
        "rejected": [{"role": "assistant", "content": "Go."}]}"#,
        Shape::Preference,
        CHAT,
    ),
    (
        r#"{"chosen": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}],
        "rejected": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Go."}]}"#,
        Shape::Preference,
        CHAT,
    ),
    (
        r#"{"prompt": "Hi", "chosen": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}],
        "rejected": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Go."}], "messages": []}"#,
        Shape::Preference,
        CHAT,
    ),
    (r#"{"instruction": "Add.", "input": "1 and 2", "output": "3"}"#, Shape::Instruction, "Add.\n\n1 and 2\n\n3"),
    (r#"{"instruction": "Greet.", "input": "", "output": "Hi"}"#, Shape::Instruction, "Greet.\n\nHi"),
    (r#"{"instruction": "Greet.", "output": "Hi", "input": null}"#, Shape::Instruction, "Greet.\n\nHi"),
    (r#"{"instruction": "Greet.", "output": "Hi"}"#, Shape::Instruction, "Greet.\n\nHi"),
    (r#"{"question": "1 + 2?", "answer": "1 + 2 = 3\n\u0023### 3"}"#, Shape::Question, "1 + 2?\n\n1 + 2 = 3\n#### 3"),
];

/// Lines and what is said of them.
const BAD: [(&str, &str); 57] = [
    (r#"{"chosen": "a", "rejected": "b", "margin": "1"}"#, "has a string under \"margin\", not a number"),
    (r#"{"chosen": "a", "rejected": "b", "margin": 1e999}"#, "has under \"margin\" what is not JSON: number out of"),
    ("", "is not JSON: a line begins with { and ends with }"),
    ("\0\0", "is not JSON: a line begins with { and ends with }"),
    ("null", "is not JSON: a line begins with {"),
    ("[1, 2]", "is no object; a line begins with { and ends with }"),
    (r#""text""#, "is no object; a line begins with { and ends with }"),
    ("{", "is not JSON: EOF while parsing an object at column 1"),
    (r#"{"text": "a"#, "is not JSON: EOF while parsing a string at column 11"),
    (r#"{"text": "a"} {"#, "is not JSON: trailing characters at column 15"),
    (r#"{"text": "a",}"#, "is not JSON: trailing comma at column 14"),
    (r#"{"text": NaN}"#, r#"has NaN or Infinity, which is no JSON, under "text", not a string"#),
    (
        r#"{"chosen": "a", "rejected": "b", "margin": -Infinity}"#,
        r#"has NaN or Infinity, which is no JSON, under "marg"#,
    ),
    (r#"{"text": "a", "score": NaNa}"#, "is not JSON: expected `,` or `}` at column"),
    (r#"{"text": "a\ud800b"}"#, r#"has under "text" what is not JSON: the escape \ud800 is half of a surrogate pair"#),
    (r#"{"text": "\ud83d\ude00\\ud800\udc00"}"#, r"the escape \udc00 is half of a surrogate pair"),
    (r#"{"messages": [{"role": "user", "content": "Hi"}], "tools": [{}]}"#, r#"has "tools", which no text is made of"#),
    (r#"{"question": "a", "answer": "b", "context": "c"}"#, r#"has "context" beside question+answer"#),
    (r#"{"instruction": "a", "output": "b", "weight": 0.5}"#, r#"has a "weight" that is not 1"#),
    (
        r#"{"instruction": "a", "output": "b", "history": [["c"]]}"#,
        r#"has under "history" an entry 1 that is no question"#,
    ),
    (
        r#"{"messages": [{"role": "assistant", "content": "", "reasoning_content": "Hm"}]}"#,
        r#"message 1 that has "reasoning_content", which no text is made of"#,
    ),
    (
        r#"{"messages": [{"role": "assistant", "content": "", "weight": 0.5}]}"#,
        r#"message 1 that has 0.5 under "weight", which must be 0 or 1"#,
    ),
    (
        r#"{"messages": [{"role": "user", "content": "", "train": true}]}"#,
        r#"message 1 that is to be learnt by its "train", but is of user"#,
    ),
    ("{\"text\": \"a\0\"}", "is not JSON: control character (\\u0000-\\u001F) found while parsing a string at column"),
    ("{}", "has none of the known shapes; its keys are none; set data.text_field to that of the text"),
    (r#"{"body": 1, "b\u001bd": 2}"#, r#"has none of the known shapes; its keys are "body", "b\u{1b}d"; set"#),
    (r#"{"a":1,"b":1,"c":1,"d":1,"e":1,"f":1,"g":1,"h":1,"i":1}"#, r#""f", "g", "h"; set"#),
    (r#"{"completion": "a"}"#, r#"has none of the known shapes; its keys are "completion"; set"#),
    (r#"{"text": "a", "text": "b"}"#, r#"has the key "text" twice at column"#),
    (r#"{"text": 3}"#, r#"has a number under "text", not a string"#),
    (r#"{"text": null, "messages": []}"#, r#"has null under "text", not a string"#),
    (r#"{"text": "\ud83d"}"#, r#"has under "text" what is not JSON: "#),
    (r#"{"messages": []}"#, r#"has no message in the list under "messages""#),
    (r#"{"messages": "Hi"}"#, r#"has a string under "messages", not a list of messages"#),
    (r#"{"messages": {"role": "user", "content": "Hi"}}"#, r#"has an object under "messages", not a list of messages"#),
    (r#"{"messages": ["Hi"]}"#, r#"has under "messages" a message 1 that is a string, not an object"#),
    (
        r#"{"messages": [{"role": "user", "content": "Hi"}, {"role": "user"}]}"#,
        r#"has under "messages" a message 2 that has neither "content" nor "value"; its keys are "role""#,
    ),
    (
        r#"{"messages": [{"content": "Hi"}]}"#,
        r#"a message 1 that has neither "role" nor "from"; its keys are "content""#,
    ),
    (
        r#"{"messages": [{"role": "user", "from": "human", "content": "Hi"}]}"#,
        r#"message 1 that has both "role" and "from""#,
    ),
    (
        r#"{"messages": [{"role": "user", "role": "system", "content": "Hi"}]}"#,
        r#"message 1 that has the key "role" twice"#,
    ),
    (
        r#"{"messages": [{"role": "\u001b", "content": "Hi"}]}"#,
        r#"message 1 that has the unknown role "\u{1b}"; known are"#,
    ),
    (
        r#"{"messages": [{"role": "user", "content": null}]}"#,
        r#"message 1 that has null under "content", not a string"#,
    ),
    (
        r#"{"messages": [{"role": "user", "content": [{"type": "text"}]}]}"#,
        r#"message 1 that has under "content" a part 1 that is no text"#,
    ),
    (r#"{"messages": [{"role": "assistant", "content": "", "tool_calls": [{}]}]}"#, r#"message 1 that calls tools"#),
    (r#"{"messages": [{"role": "assistant", "content": "", "function_call": {"a": 1}}]}"#, r#"1 that calls tools"#),
    (r#"{"conversations": [{"from": "observation", "value": "3"}]}"#, r#"that has the unknown role "observation""#),
    (r#"{"prompt": 3}"#, r#"has a number under "prompt", not a string or a list of messages"#),
    (r#"{"prompt": "a", "completion": []}"#, r#"has no message in the list under "completion""#),
    (
        r#"{"prompt": "a", "completion": [{"role": "user", "content": "Hi"}]}"#,
        r#"has text under "prompt", but messages under "completion""#,
    ),
    (r#"{"prompt": "a", "completion": "b", "label": 1}"#, r#"has a number under "label", not true or false"#),
    (r#"{"prompt": "a", "chosen": "b"}"#, r#"has "chosen" without "rejected"; its keys are "prompt", "chosen""#),
    (r#"{"rejected": "a", "messages": []}"#, r#"has "rejected" without "chosen""#),
    (
        r#"{"prompt": "Go", "chosen": [{"role": "user", "content": "a"}],
        "rejected": [{"role": "user", "content": "a"}]}"#,
        r#"has text under "prompt", but messages under "chosen""#,
    ),
    (
        r#"{"chosen": "a", "rejected": {"role": "user", "content": "Hi"}}"#,
        r#"has text under "chosen", but messages under "rejected""#,
    ),
    (
        r#"{"conversations": "a", "chosen": "b", "rejected": "c"}"#,
        r#"has a string under "conversations", not a list of"#,
    ),
    (r#"{"instruction": "a", "input": [], "output": "b"}"#, r#"has a list under "input", not a string"#),
    (r#"{"question": "a", "answer": ["b"]}"#, r#"has a list under "answer", not a string"#),
];

#[test]
fn every_shape_gives_its_text() {
    for (line, shape, text) in GOOD {
        let (found, record) = read(line.as_bytes()).unwrap_or_else(|e| panic!("{line}: {e}"));
        assert_eq!((found, record.text().unwrap().as_deref()), (shape, Some(text)), "{line}");
    }
}

#[test]
fn what_is_wrong_with_a_line_is_one_sentence() {
    for (line, words) in BAD {
        let error = read(line.as_bytes()).unwrap_err();
        assert!(error.contains(words), "{line}: {error}");
        assert!(error.len() < 300 && !error.contains(char::is_control), "{line}: {error}");
    }
    assert!(read(b"{\"text\": \"\xff\"}").unwrap_err().contains("is not UTF-8: its byte 10 is 0xff"));
    let long = format!(r#"{{"messages": [{{"role": "{}", "content": ""}}]}}"#, "x".repeat(1 << 20));
    assert!(read(long.as_bytes()).unwrap_err().len() < 300, "a role of a megabyte");
    for key in ["meta", "messages", "prompt"] {
        for open in ["[", "{\"a\":"] {
            assert!(read(format!("{{\"{key}\": {}", open.repeat(100_000)).as_bytes()).is_err());
        }
    }
    let deep = format!("{{\"meta\": {}{}, \"text\": \"a\"}}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(read(deep.as_bytes()).unwrap().1, Record::Text("a".into()), "what is not asked for may be deep");
}

#[test]
fn a_record_keeps_what_later_stages_need() {
    let of = |line: &str| read(line.as_bytes()).unwrap().1;
    let text = |text: &str| Content::Text(text.into());
    let prompt = || vec![Turn::new(Role::User, "Hi")];
    let record = of(r#"{"prompt": [{"role": "user", "content": "Hi"}]}"#);
    assert_eq!(record, Record::Prompt { prompt: Content::Turns(prompt()), reference: None });
    assert!(record.text().unwrap_err().starts_with("has a prompt and no answer to it"));
    let record = of(r#"{"messages": [{"role": "assistant", "content": "Hi", "weight": 0}]}"#);
    assert!(record.text().unwrap_err().starts_with("has a message that is not to be learnt"));
    let record = of(r#"{"prompt": "a", "completion": "b", "label": false}"#);
    assert_eq!(record, Record::Labelled { prompt: text("a"), completion: text("b"), label: false });
    assert_eq!(record.text(), Ok(None), "an unwanted completion is nothing to learn");
    let record =
        of(r#"{"conversations": [{"from": "human", "value": "Hi"}], "chosen": [{"from": "gpt", "value": "b"}],
        "rejected": [{"from": "gpt", "value": " "}]}"#);
    let Record::Preference { prompt: found, rejected, .. } = &record else { panic!("{record:?}") };
    assert_eq!(found, &Some(Content::Turns(prompt())));
    assert_eq!(rejected.turns().unwrap()[0], Turn::new(Role::Assistant, " "));
    assert_eq!((record.turns(), record.has_empty()), (3, true));
}

/// Damages lines and splices them, thousands of times: whatever comes of it is read or refused in a short sentence.
#[test]
fn no_damage_to_a_line_makes_the_reader_panic() {
    let mut random = ChaCha8Rng::seed_from_u64(11);
    let words: [&[u8]; 14] = [
        b"\"",
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b"null",
        b"1e999",
        b"\\ud800",
        b"\0",
        b"\xff",
        b"\"role\":",
        b"\"text\":",
    ];
    let (mut read_well, mut refused) = (0, 0);
    for i in 0..40_000 {
        let mut line = GOOD[i % GOOD.len()].0.as_bytes().to_vec();
        for _ in 0..random.random_range(1..4) {
            let (at, end) = (random.random_range(0..=line.len()), random.random_range(0..=line.len()));
            match random.random_range(0..5) {
                0 if at < line.len() => line[at] ^= 1 << random.random_range(0..8),
                1 => drop(line.drain(at.min(end)..at.max(end).min(at.min(end) + 8))),
                2 => line.truncate(at),
                3 => {
                    let other = GOOD[random.random_range(0..GOOD.len())].0.as_bytes();
                    line.splice(at.., other[random.random_range(0..other.len())..].iter().copied());
                }
                _ => drop(line.splice(at..at, words[random.random_range(0..words.len())].iter().copied())),
            }
        }
        match read(&line) {
            Ok((_, record)) => {
                read_well += 1;
                let _ = (record.text(), record.turns(), record.has_empty());
            }
            Err(error) => {
                refused += 1;
                let fine = !error.is_empty() && error.len() < 500 && !error.contains(char::is_control);
                assert!(fine, "{:?}: {error}", String::from_utf8_lossy(&line));
            }
        }
    }
    assert!(read_well > 1000 && refused > 10_000, "{read_well} and {refused}");
}

fn open(path: &Path, cache: &Cache, tokenizer: &Tokenizer) -> Result<Corpus, String> {
    let config = DataConfig::default();
    Corpus::open(&[path.to_owned()], &[], &config, tokenizer, cache).map_err(|e| {
        assert_eq!(e.exit_code(), 2, "{e}");
        e.to_string()
    })
}

#[test]
fn the_text_of_a_record_becomes_ordinary_tokens_and_a_mixed_file_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache { folder: Some(dir.path().join("cache")), smallest: 0 };
    let tokenizer = Tokenizer::load("gpt2").unwrap();
    let file = dir.path().join("chat.jsonl");
    let line = r#"{"messages": [{"role": "user", "content": "<|endoftext|> and <|im_end|>"}]}"#;
    fs::write(&file, format!("{line}\n\n{line}\n")).unwrap();
    let corpus = open(&file, &cache, &tokenizer).unwrap();
    let text = "<|im_start|>user\n<|endoftext|> and <|im_end|><|im_end|>\n";
    let ids: Vec<u32> = tokenizer.encode(text).into_iter().chain([tokenizer.eos()]).collect();
    assert_eq!(ids.iter().filter(|&&id| id == tokenizer.eos()).count(), 1, "text is never a special token");
    assert_eq!(corpus.sources[0].stretches[0].read(0, 2 * ids.len()).unwrap(), [&ids[..], &ids].concat());
    let all: Vec<_> = corpus.census().unwrap().into_iter().collect();
    assert_eq!(all, [(Shape::Messages, Census { files: 1, records: 2, turns: 2, empty: 0 })]);

    fs::write(&file, format!("\n{line}\n{{\"text\": \"a\"}}\n{{\"prompt\": \"a\", \"completion\": \"b\"}}\n")).unwrap();
    let error = open(&file, &cache, &tokenizer).err().unwrap();
    for words in
        ["line 3 has the shape text, but line 2 messages", "line 4 has the shape prompt+completion, but line 2"]
    {
        assert!(error.contains(words), "{words}: {error}");
    }
    // Files of a folder may differ.
    fs::write(&file, line).unwrap();
    let labelled = "{\"prompt\": \"\", \"completion\": \"b\", \"label\": false}\n".repeat(3);
    fs::write(dir.path().join("other.jsonl"), labelled + "{\"prompt\": \"a\", \"completion\": \"b\", \"label\": true}")
        .unwrap();
    let corpus = open(dir.path(), &cache, &tokenizer).unwrap();
    assert_eq!(corpus.totals().documents, 2);
    let all = corpus.census().unwrap();
    assert_eq!(all[&Shape::Labelled], Census { files: 1, records: 4, turns: 0, empty: 3 });
    assert_eq!(all[&Shape::Messages], Census { files: 1, records: 1, turns: 1, empty: 0 });
}

#[test]
fn a_named_key_is_all_that_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache { folder: Some(dir.path().join("cache")), smallest: 0 };
    let tokenizer = Tokenizer::load("byte").unwrap();
    let file = dir.path().join("mixed.jsonl");
    fs::write(&file, "{\"prompt\": \"aaaa\", \"chosen\": 1}\n{\"messages\": 3, \"prompt\": \"bbbb\"}\n").unwrap();
    let config =
        DataConfig { path: vec![file], text_field: "prompt".into(), val_fraction: 0.0, ..DataConfig::default() };
    let data = Dataset::open_in(&config, &tokenizer, 8, 1, &cache).unwrap();
    assert_eq!(data.train_window(0).unwrap(), [97, 97, 97, 97, 256, 98, 98, 98, 98]);
}
