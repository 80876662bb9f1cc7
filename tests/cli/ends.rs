//! What ends an answer, and how it is written behind its prompt.

#[path = "../common/says.rs"]
mod says;

use super::{Done, command, ran, refused, shared, succeeds};
use hadal::tokenizer::Tokenizer;
use says::{add, bytes, says};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

const EOS: u32 = 256;
const SPECIAL: [&str; 3] = ["<|im_start|>", "<|im_end|>", "<|stop|>"];

/// What `hadal sample` says of the model in the folder `at`, greedily.
fn said(at: &Path, more: &[&str]) -> String {
    let sample = ["sample", "model", "--temperature", "0", "--tokens", "6", "--backend", "cpu"];
    succeeds(at, &[&sample[..], more].concat()).out
}

#[test]
fn an_answer_ends_by_the_ends_of_all_files_and_by_that_of_the_chat_template() {
    let at = tempfile::tempdir().unwrap();
    let model = at.path().join("model");
    let word = |letter: char| letter as u32;
    let (start, end, stop) = (257, 258, 259);
    for (words, config, generation, expected) in [
        (&[word('a'), EOS, word('b')][..], json!({"eos_token_id": 3}), json!({}), "a"),
        (&[word('a'), stop, word('b')], json!({"eos_token_id": stop}), json!({}), "a"),
        (&[word('a'), stop, word('b')], json!({"eos_token_id": [EOS, stop]}), json!({}), "a"),
        (&[word('a'), word('b'), stop], json!({}), json!({"eos_token_id": [EOS, stop]}), "ab"),
        (&[word('a'), word('b'), stop], json!({}), json!({"eos_token_id": word('b')}), "a"),
        (&[word('a'), end, word('b')], json!({}), json!({}), "a"),
        // What ends nothing is no text either.
        (&[word('a'), start, word('b')], json!({}), json!({}), "abab"),
    ] {
        says(&model, &bytes(&SPECIAL), words, &config);
        add(&model.join("generation_config.json"), &generation);
        assert_eq!(said(at.path(), &["--prompt", "x"]), format!("x{expected}\n"), "{words:?} {config} {generation}");
        let whole: Value = serde_json::from_str(&said(at.path(), &["--json", "--prompt", "x"])).unwrap();
        let finish = if expected.len() < 4 { "stop" } else { "length" };
        assert_eq!((&whole["text"], &whole["finish_reason"]), (&json!(expected), &json!(finish)), "{whole}");
        let chat = ran(command(at.path())
            .args(["chat", "model", "--backend", "cpu", "--tokens", "6"])
            .args(["--temperature", "0"])
            .write_stdin("x\n"));
        assert_eq!((chat.code, chat.out), (0, format!("{expected}\n")), "{}", chat.err);
    }
    add(&model.join("generation_config.json"), &json!({"eos_token_id": "x"}));
    refused(at.path(), &["sample", "model", "--backend", "cpu"], 2, &["generation_config.json", "eos_token_id"]);
}

/// A vocabulary as Llama's first has it: U+2581 for spaces, one before each text, byte tokens.
fn llama(at: &Path, decoder: &Value) -> Tokenizer {
    let letters = ["\u{2581}", "h", "e", "l", "o", "t", "c", "a"];
    let merged = ["\u{2581}t", "\u{2581}th", "\u{2581}the", "\u{2581}c", "\u{2581}ca", "\u{2581}cat"];
    let special = ["<unk>", "<s>", "</s>"];
    let words = special.iter().chain(&letters).chain(&merged).map(|word| (*word).to_owned());
    let all: Vec<String> = words.chain((0..256).map(|byte| format!("<0x{byte:02X}>"))).collect();
    let vocab: serde_json::Map<String, Value> =
        all.iter().enumerate().map(|(i, word)| (word.clone(), json!(i))).collect();
    let added: Vec<Value> = special.iter().enumerate().map(|(i, word)| {
        json!({"id": i, "content": word, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
            "special": true})
    }).collect();
    let normalizers = json!([{"type": "Prepend", "prepend": "\u{2581}"},
        {"type": "Replace", "pattern": {"String": " "}, "content": "\u{2581}"}]);
    let json = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
        "normalizer": {"type": "Sequence", "normalizers": normalizers}, "pre_tokenizer": null, "post_processor": null,
        "decoder": decoder,
        "model": {"type": "BPE", "unk_token": "<unk>", "fuse_unk": true, "byte_fallback": true, "vocab": vocab,
            "merges": ["\u{2581} t", "\u{2581}t h", "\u{2581}th e", "\u{2581} c", "\u{2581}c a", "\u{2581}ca t"]},
    });
    let file = at.join("llama.json");
    fs::write(&file, json.to_string()).unwrap();
    Tokenizer::load(&file.to_string_lossy()).unwrap()
}

#[test]
fn prompt_and_continuation_are_joined_as_the_tokenizers_library_decodes_them_together() {
    let at = tempfile::tempdir().unwrap();
    let stripping = json!({"type": "Sequence", "decoders": [
        {"type": "Replace", "pattern": {"String": "\u{2581}"}, "content": " "}, {"type": "ByteFallback"},
        {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]});
    let meta = json!({"type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": "always", "split": true});
    for decoder in [stripping, meta] {
        let tokenizer = llama(at.path(), &decoder);
        let judge = tokenizers::Tokenizer::from_file(at.path().join("llama.json")).unwrap();
        let id = |name: &str| judge.token_to_id(name).unwrap();
        let words = [id("\u{2581}the"), id("\u{2581}cat"), id("a"), id("</s>")];
        says(&at.path().join("model"), &tokenizer, &words, &json!({}));
        for prompt in ["", "hello", "hello hello"] {
            let ids = [judge.encode(prompt, false).unwrap().get_ids(), &words[..3]].concat();
            let expected = judge.decode(&ids, true).unwrap();
            assert_eq!(said(at.path(), &["--prompt", prompt]), format!("{expected}\n"), "{prompt:?} {decoder}");
        }
    }
}

#[test]
fn a_byte_order_mark_is_no_part_of_a_prompt() {
    let at = tempfile::tempdir().unwrap();
    says(&at.path().join("model"), &bytes(&SPECIAL), &[97, 98, EOS], &json!({}));
    fs::write(at.path().join("prompts.txt"), "\u{feff}one\r\ntwo\n").unwrap();
    let said = said(at.path(), &["--prompts", "prompts.txt", "--json"]);
    let prompts: Vec<Value> = said.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).collect();
    assert_eq!([&prompts[0]["prompt"], &prompts[1]["prompt"]], ["one", "two"]);
    let talk = |lines: &str| -> Done {
        ran(command(at.path()).args(["chat", "model", "--backend", "cpu"]).write_stdin(lines.to_owned()))
    };
    let done = talk("\u{feff}/temperature 0\nhello\n");
    assert!(done.code == 0 && done.err.contains("the temperature is 0"), "{}", done.err);
}

#[test]
fn several_texts_are_told_apart_and_draw_numbers_of_their_own() {
    let run = shared().join("run").to_string_lossy().into_owned();
    let sample = |more: &[&str]| {
        succeeds(shared(), &[&["sample", &run, "--backend", "cpu", "--max-tokens", "8"], more].concat()).out
    };
    let one = sample(&["Mara", "--seed", "7"]);
    assert!(one.starts_with("Mara") && !one.contains("---"), "{one}");
    assert_eq!(one, sample(&["--prompt", "Mara", "--seed=7"]));
    // The same prompt twice is one prompt with two samples, and nobody else changes what a prompt gets.
    let twice = sample(&["--prompt", "Mara", "--prompt", "Mara", "--seed=7"]);
    let [first, second] = [1, 2].map(|i| part(&twice, &format!("--- prompt {i} ---\n")));
    assert!(first == one && first != second, "{twice}");
    let next = sample(&["Mara", "--seed=8"]);
    assert!(next != first && next != second, "{next}");
    assert_eq!(part(&sample(&["Mara", "--seed=7", "-n2"]), "--- sample 1 ---\n"), first);
    let more = sample(&["--prompt", "Odo", "--prompt", "Mara", "-n", "2", "--seed=7"]);
    assert_eq!([1, 2].map(|i| part(&more, &format!("--- prompt 2, sample {i} ---\n"))), [first, second]);
}

/// What stands behind `header`, up to the next.
fn part(text: &str, header: &str) -> String {
    let (_, after) = text.split_once(header).unwrap_or_else(|| panic!("{header:?} is not in {text}"));
    after.split("--- ").next().unwrap().to_owned()
}
