//! Small efforts meant to cost much: files of millions of values, tensors or levels, and promises of more.

use super::formats::FORMATS;
use super::judge::{Alone, Judge};
use std::time::Duration;

/// Bytes of a bomb in every run of the tests.
const SMALL: usize = 8 << 20;
/// The same in the full form: the largest that any of these files may be.
const LARGE: usize = 96 << 20;
/// Longest that one may take, also without optimisation.
const LONGEST: Duration = Duration::from_secs(20);

/// Name of the format, what it is, and its bytes for a size.
type Bomb = (&'static str, &'static str, fn(usize) -> Vec<u8>);

const BOMBS: &[Bomb] = &[
    ("safetensors", "levels in a tensor", |n| header(&format!("{{\"a\":{}", "[".repeat(n)), 0)),
    ("safetensors", "levels in the metadata", |n| header(&format!("{{\"__metadata__\":{}", "[".repeat(n)), 0)),
    ("safetensors", "a number type without end", |n| {
        header(&format!("{{\"a\":{{\"dtype\":\"{}\"}}}}", "x".repeat(n)), 0)
    }),
    ("safetensors", "a name without end", |n| header(&format!("{{\"{}\":{{}}}}", "\\u00e9".repeat(n / 6)), 0)),
    ("safetensors", "a shape without end", |n| {
        header(&format!("{{\"a\":{{\"shape\":[{}1]}}}}", "1,".repeat(n / 2)), 0)
    }),
    ("safetensors", "tensors without end", |n| header(&entries(n / 64, |i| described(&format!("t{i}"), "[0]", 0)), 0)),
    ("safetensors", "long names without end", |n| {
        header(&entries(n / 560, |i| described(&format!("{i:0500}"), "[0]", 0)), 0)
    }),
    ("safetensors", "experts without end", |n| {
        let name = "model.layers.0.mlp.experts.down_proj";
        header(&format!("{{{}}}", described(name, &format!("[{n},1,1]"), n)), n)
    }),
    ("safetensors", "a header of 2^63 bytes", |_| (1u64 << 63).to_le_bytes().to_vec()),
    ("index", "values beside the map", |n| format!("{{\"metadata\":[{}0]}}", "0,".repeat(n / 2)).into_bytes()),
    ("index", "values in the map", |n| format!("{{\"weight_map\":{{\"a\":[{}0]}}}}", "0,".repeat(n / 2)).into_bytes()),
    ("index", "tensors without end", |n| {
        format!("{{\"weight_map\":{}}}", entries(n / 32, |i| format!("\"t{i}\":\"a.safetensors\""))).into_bytes()
    }),
    ("config", "more than a page", |n| format!("{{\"a\":[{}0]}}", "0,".repeat(n / 2)).into_bytes()),
    ("tokenizer", "values without end", |n| {
        format!("{{\"model\":[{}0]}}", "0,".repeat(n.min(60 << 20) / 2)).into_bytes()
    }),
    ("tokenizer", "levels without end", |n| "[".repeat(n).into_bytes()),
    ("tokenizer", "an expression of carets", |n| {
        let split = format!("{{\"type\":\"Split\",\"pattern\":{{\"Regex\":\"{}\"}}}}", "^".repeat(n.min(1_000_000)));
        with_pre_tokenizer(&split)
    }),
    ("tokenizer", "an expression that goes back and forth", |_| {
        with_pre_tokenizer(
            r#"{"type":"Split","pattern":{"Regex":"(a*)*(?!a)|."},"behavior":"Isolated","invert":false}"#,
        )
    }),
    ("tokenizer", "replacements of replacements", |_| {
        let one = format!(r#"{{"type":"Replace","pattern":{{"Regex":"."}},"content":"{}"}}"#, "x".repeat(1000));
        let all = format!(r#"{{"type":"Sequence","normalizers":[{one},{one},{one}]}}"#);
        with_pre_tokenizer("null")
            .strip_suffix(b"}")
            .unwrap()
            .iter()
            .copied()
            .chain(format!(",\"normalizer\":{all}}}").into_bytes())
            .collect()
    }),
    ("jsonl", "messages without end", |n| {
        format!("{{\"messages\":[{}0]}}\n", "0,".repeat(n.min(15 << 20) / 2)).into_bytes()
    }),
    ("jsonl", "levels without end", |n| format!("{{\"text\":{}", "[".repeat(n.min(15 << 20))).into_bytes()),
    ("jsonl", "a line without end", |n| format!("{{\"text\":\"{}\"}}", "x".repeat(n.max(17 << 20))).into_bytes()),
    ("jsonl", "keys without end", |n| {
        format!("{}\n", entries(n.min(15 << 20) / 8, |i| format!("\"{i}\":0"))).into_bytes()
    }),
    ("metrics", "a line without end", |n| vec![b'x'; n]),
    ("metrics", "layers without end", |n| {
        format!("{{\"split\":\"train\",\"expert_load\":[{}0]}}\n", "0,".repeat(n / 2)).into_bytes()
    }),
    ("manifest", "more than a page", |n| vec![b'['; n]),
    ("state", "more than a page", |n| format!("{{\"result\":[{}0]}}", "0,".repeat(n / 2)).into_bytes()),
    ("toml", "levels in a key", |n| format!("{}a=1", "a.".repeat(n.min(1 << 20) / 2 - 4)).into_bytes()),
    ("toml", "levels in a value", |n| format!("a={}", "[".repeat(n.min(1 << 20) - 4)).into_bytes()),
    ("toml", "levels in a section", |n| format!("[{}a]", "a.".repeat(n.min(1 << 20) / 2 - 4)).into_bytes()),
    ("toml", "keys without end", |n| {
        (0..n.min(1 << 20) / 16).map(|i| format!("[a{i}]\n")).collect::<String>().into_bytes()
    }),
    ("toml", "more than a page", |n| vec![b'#'; n]),
    ("template", "loops without end", |_| {
        format!("{}x{}", "{% for a in range(99999) %}".repeat(9), "{% endfor %}".repeat(9)).into_bytes()
    }),
    ("template", "texts that double", |n| {
        format!("{{% set a = 'x' %}}{}", "{% set a = a ~ a %}".repeat(n.min(60_000) / 20)).into_bytes()
    }),
    ("template", "texts that are repeated", |_| b"{{ ('x' * 99999999) | replace('x', 'y' * 9999) }}".to_vec()),
    ("template", "a macro that calls itself", |_| b"{% macro f(a) %}{{ f(a ~ a) }}{% endmacro %}{{ f('x') }}".to_vec()),
    ("template", "levels without end", |n| "{{".bytes().chain(vec![b'('; n.min(60_000)]).collect()),
    ("template", "blocks without end", |n| "{% if a %}".repeat(n.min(60_000) / 10).into_bytes()),
    ("template", "filters without end", |n| {
        format!("{{{{ messages{} }}}}", " | list".repeat(n.min(60_000) / 8)).into_bytes()
    }),
    ("template", "values without end", |_| {
        b"{% set n = namespace(x=[]) %}{% for a in range(99999) %}{% set n.x = [n.x] %}{% endfor %}{{ n.x }}".to_vec()
    }),
    ("template", "a wide number", |_| b"{{ '%99999999d' | format(1) }}{{ 'x' | indent(99999999) }}".to_vec()),
    ("template", "more than a page", |n| vec![b'#'; n]),
    ("npy", "a header of 2^32 bytes", |_| b"\x93NUMPY\x02\x00\xff\xff\xff\xff".to_vec()),
    ("text", "a compressed file", |_| b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\x4b\x04\x00".to_vec()),
];

fn header(text: &str, data: usize) -> Vec<u8> {
    let mut bytes = [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
    bytes.resize(bytes.len() + data, 0);
    bytes
}

fn described(name: &str, shape: &str, end: usize) -> String {
    format!("\"{name}\":{{\"dtype\":\"U8\",\"shape\":{shape},\"data_offsets\":[0,{end}]}}")
}

fn entries(n: usize, entry: impl Fn(usize) -> String) -> String {
    let mut text = String::from("{");
    for i in 0..n {
        text += if i > 0 { "," } else { "" };
        text += &entry(i);
    }
    text + "}"
}

fn with_pre_tokenizer(part: &str) -> Vec<u8> {
    let model = r#"{"type":"BPE","vocab":{"a":0,"</s>":1},"merges":[]}"#;
    format!("{{\"model\":{model},\"pre_tokenizer\":{part}}}").into_bytes()
}

/// A tokenizer of 64 letters, 64^2 pairs and as many triples: as large as any that is published, and sound.
fn large_tokenizer() -> (usize, Vec<u8>) {
    let letters: Vec<char> = ('0'..='9').chain('A'..='Z').chain('a'..='z').chain("+-".chars()).collect();
    let (mut vocab, mut merges) = (vec!["</s>".to_owned()], Vec::new());
    vocab.extend(letters.iter().map(char::to_string));
    for a in &letters {
        for b in &letters {
            merges.push(format!("[\"{a}\",\"{b}\"]"));
            vocab.push(format!("{a}{b}"));
        }
    }
    for i in 0..letters.len().pow(3) {
        let (pair, last) = (vocab[1 + letters.len() + i / letters.len()].clone(), letters[i % letters.len()]);
        merges.push(format!("[\"{pair}\",\"{last}\"]"));
        vocab.push(format!("{pair}{last}"));
    }
    let numbered: Vec<String> = vocab.iter().enumerate().map(|(id, token)| format!("\"{token}\":{id}")).collect();
    let (tokens, vocab, merges) = (vocab.len(), numbered.join(","), merges.join(","));
    let json = format!("{{\"model\":{{\"type\":\"BPE\",\"vocab\":{{{vocab}}},\"merges\":[{merges}]}}}}");
    (tokens, json.into_bytes())
}

/// Every bomb is refused, or what it says is so.
fn run(n: usize) {
    let (alone, mut faults) = (Alone::wait(), Vec::new());
    for (name, what, bytes) in BOMBS {
        let format = FORMATS.iter().find(|format| format.name == *name).unwrap();
        let mut judge = Judge::new(&alone, format.read, LONGEST);
        let judged = judge.judge(bytes(n));
        let (slowest, most) = judge.worst();
        println!("{name:<12} {what}: {judged:?}, {} ms, {} MiB", slowest.as_millis(), most >> 20);
        faults.extend(judged.err().map(|fault| format!("{name}, {what}: {fault:?}")));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// What is built of a vocabulary is larger than its text, also where that is sound.
#[test]
fn a_large_vocabulary_costs_less_than_two_kilobytes_a_token() {
    let alone = Alone::wait();
    let format = FORMATS.iter().find(|format| format.name == "tokenizer").unwrap();
    let (tokens, bytes) = large_tokenizer();
    let mut judge = Judge::new(&alone, format.read, LONGEST).allowing(2048 * tokens as u64);
    assert_eq!(judge.judge(bytes), Ok(true));
    println!("{tokens} tokens, {} MiB", judge.worst().1 >> 20);
}

#[test]
fn small_bombs_do_not_go_off() {
    run(SMALL);
}

#[test]
#[ignore = "files of 96 MiB, a minute"]
fn large_bombs_do_not_go_off() {
    run(LARGE);
}
