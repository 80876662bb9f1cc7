//! Which tokens a text begins with, beside transformers: `tests/golden/make_begin.py` made the ids.

use super::sft::{checkpoint, json};
use super::{SMALL, succeeds};
use hadal::config::data::DataConfig;
use hadal::data::{Cache, Dataset};
use hadal::generate::{Request, Sampling};
use hadal::tokenizer::Tokenizer;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

/// The cases of the golden file, with the text.
fn golden() -> (Value, String) {
    let cases: Value = serde_json::from_str(include_str!("../golden/begin/cases.json")).unwrap();
    let text = cases["text"].as_str().unwrap().to_owned();
    (cases, text)
}

/// Writes a tokenizer's two files.
fn written(folder: &Path, tokenizer: &Value, post_processor: &Value, config: &Value) {
    let mut tokenizer = tokenizer.clone();
    tokenizer["post_processor"] = post_processor.clone();
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("tokenizer.json"), tokenizer.to_string()).unwrap();
    fs::write(folder.join("tokenizer_config.json"), config.to_string()).unwrap();
}

fn loaded(folder: &Path) -> Tokenizer {
    Tokenizer::load(&folder.to_string_lossy()).unwrap()
}

#[test]
fn a_text_begins_as_the_tokenizer_says_and_an_export_says_the_same_to_transformers() {
    let (golden, text) = golden();
    let at = tempfile::tempdir().unwrap();
    for (number, case) in golden["cases"].as_array().unwrap().iter().enumerate() {
        let folder = at.path().join(number.to_string());
        written(&folder, &golden["tokenizer"], &case["post_processor"], &case["config"]);
        let tokenizer = loaded(&folder);
        let mut expected: Vec<u32> =
            case["ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
        // What ends a text stays out of one that is to be continued.
        expected.retain(|&id| id != 1);
        // Transformers 5 goes by the post-processor alone; where that places no tokens, here the flag and the BOS token
        // count, as in its fourth version and elsewhere.
        let silent = ["none", "bytes"].contains(&case["name"].as_str().unwrap());
        if silent && case["config"]["add_bos_token"] != json!(false) {
            expected.insert(0, 0);
        }
        assert_eq!(tokenizer.begun(&text), expected, "{case}");
        assert_eq!(Request::text(&tokenizer, &text, 1, Sampling::default()).prompt, expected, "{case}");
        assert_eq!(tokenizer.bos(), Some(0));
        let export = folder.join("export");
        fs::create_dir(&export).unwrap();
        tokenizer.write_hf(&export, 64, 1).unwrap();
        let outside = tokenizers::Tokenizer::from_file(export.join("tokenizer.json")).unwrap();
        assert_eq!(outside.encode(text.as_str(), true).unwrap().get_ids(), expected, "{case}");
        assert_eq!(
            outside.encode(text.as_str(), false).unwrap().get_ids(),
            tokenizer.encode(&text),
            "of chats: {case}"
        );
        assert_eq!(loaded(&export).begun(&text), expected, "{case}");
        let flag = &json(&export.join("tokenizer_config.json"))["add_bos_token"];
        assert_eq!(flag.as_bool(), Some(expected[0] == 0), "{case}");
    }
}

#[test]
fn the_models_configuration_names_the_bos_token_where_the_tokenizer_does_not() {
    let (golden, text) = golden();
    let at = tempfile::tempdir().unwrap();
    let folder = at.path().join("model");
    written(&folder, &golden["tokenizer"], &Value::Null, &json!({"eos_token": "</s>"}));
    assert_eq!((loaded(&folder).bos(), loaded(&folder).begun(&text).len()), (None, 3));
    assert_eq!(loaded(&folder).begun(""), [1], "the empty text begins with something");
    for (bos, expected) in [(json!(2), Some(2)), (json!(4), None), (json!(99), None), (json!(null), None)] {
        fs::write(folder.join("config.json"), json!({"bos_token_id": bos}).to_string()).unwrap();
        assert_eq!(loaded(&folder).bos(), expected, "{bos}");
    }
    fs::write(folder.join("config.json"), json!({"bos_token_id": 2}).to_string()).unwrap();
    assert_eq!(loaded(&folder).begun(&text)[0], 2);
    // The older file of names counts too, and a vocabulary by itself begins texts where others end.
    fs::write(folder.join("special_tokens_map.json"), json!({"bos_token": {"content": "<s>"}}).to_string()).unwrap();
    assert_eq!(loaded(&folder).begun(&text)[0], 0);
    let alone = Tokenizer::from_json("alone", &golden["tokenizer"].to_string()).unwrap();
    assert_eq!((alone.bos(), alone.begin()), (Some(1), &[1][..]));
}

#[test]
fn post_processors_that_nobody_could_obey_are_refused_by_name() {
    let golden = golden().0;
    let template = |ids: Value| {
        let special = json!({"<s>": {"id": "<s>", "ids": ids, "tokens": ["<s>"]}});
        json!({"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}],
            "pair": [], "special_tokens": special})
    };
    let sequence = |inner: &[Value]| json!({"type": "Sequence", "processors": inner});
    let sound = template(json!([0]));
    for (post_processor, word) in [
        (json!({"type": "Exec"}), "\"Exec\""),
        (template(json!([999])), "999"),
        (template(json!(vec![0; 17])), "more than"),
        (json!({"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<y>"}}]}), "special_tokens"),
        (json!({"type": "BertProcessing", "cls": 5}), "cls"),
        (sequence(&[sound.clone(), sound.clone()]), "several"),
        (sequence(&[sequence(std::slice::from_ref(&sound))]), "inside"),
    ] {
        let mut file = golden["tokenizer"].clone();
        file["post_processor"] = post_processor;
        let error = Tokenizer::from_json("t", &file.to_string()).err().unwrap_or_default();
        assert!(error.contains("post_processor") && error.contains(word), "{file}: {error:?}");
    }
}

#[test]
fn own_vocabularies_begin_texts_with_their_eos_and_pad_with_what_no_text_holds() {
    for (name, pad) in [("world", None), ("byte", Some(255)), ("gpt2", Some(187)), ("cl100k", None)] {
        let tokenizer = Tokenizer::load(name).unwrap();
        let (eos, found) = (tokenizer.eos(), tokenizer.pad().unwrap());
        assert_eq!((tokenizer.begin(), tokenizer.between(), tokenizer.bos()), (&[eos][..], &[][..], Some(eos)));
        assert!(pad.is_none_or(|pad| pad == found) && found != eos, "{name}");
        assert_eq!(tokenizer.decode(&[found]), "<|pad|>");
        let names = tokenizer.named_tokens();
        let end = "<|endoftext|>".to_owned();
        assert_eq!(names, [("bos_token", end.clone()), ("eos_token", end), ("pad_token", "<|pad|>".to_owned())]);
        let dir = tempfile::tempdir().unwrap();
        tokenizer.write_hf(dir.path(), 64, eos).unwrap();
        let read = loaded(dir.path());
        assert_eq!((read.pad(), read.named_tokens()), (Some(found), names), "{name}");
        let config = json(&dir.path().join("tokenizer_config.json"));
        assert_eq!((&config["padding_side"], &config["add_bos_token"]), (&json!("left"), &json!(true)));
        let outside = tokenizers::Tokenizer::from_file(dir.path().join("tokenizer.json")).unwrap();
        for text in ["One morning", "", " \u{ff}\u{e9}<|pad", "\u{1f980}"] {
            assert_eq!(outside.encode(text, true).unwrap().get_ids(), tokenizer.begun(text), "{name}: {text:?}");
        }
    }
    // A model that ends its answers by another token learnt chats, which begin without.
    let dir = tempfile::tempdir().unwrap();
    Tokenizer::load("world").unwrap().write_hf(dir.path(), 64, 2).unwrap();
    assert_eq!(json(&dir.path().join("tokenizer_config.json"))["add_bos_token"], false);
}

/// A folder with a tokenizer that puts its own token before a text, called `vocabulary`, and `t.txt`.
pub fn vocabulary_and_text() -> tempfile::TempDir {
    let golden = golden().0;
    let at = tempfile::tempdir().unwrap();
    let template = golden["cases"].as_array().unwrap().iter().find(|case| case["name"] == "begin").unwrap();
    written(&at.path().join("vocabulary"), &golden["tokenizer"], &template["post_processor"], &template["config"]);
    fs::write(at.path().join("t.txt"), "ab c ".repeat(100)).unwrap();
    at
}

#[test]
fn training_begins_every_text_as_the_tokenizer_says() {
    let at = vocabulary_and_text();
    let tokenizer = loaded(&at.path().join("vocabulary"));
    let (lines, text) = (at.path().join("d.jsonl"), at.path().join("t.txt"));
    fs::write(&lines, "{\"text\": \"ab\"}\n{\"text\": \"c\"}\n{\"text\": \"a\"}\n").unwrap();
    fs::write(&text, "ab c").unwrap();
    let cache = Cache { folder: Some(at.path().join("cache")), smallest: u64::MAX };
    for (path, expected) in [(&lines, &[0, 7, 1, 0, 5, 1, 0, 3][..]), (&text, &[0, 7, 6, 5, 1])] {
        let config =
            DataConfig { path: vec![path.clone()], val_fraction: 0.0, shuffle: false, ..DataConfig::default() };
        let data = Dataset::open_in(&config, &tokenizer, expected.len() - 1, 0, &cache).unwrap();
        assert_eq!(data.train_window(0).unwrap(), expected);
    }
    let data = Dataset::open_in(&DataConfig::default(), &tokenizer, 400, 0, &cache).unwrap();
    let window = data.train_window(0).unwrap();
    assert_eq!((window[0], window.windows(2).filter(|pair| *pair == [1, 0]).count() > 1), (0, true));
    fs::write(&text, "ab c ".repeat(100)).unwrap();
    let run = ["train", "--data", "t.txt", "--tokenizer", "vocabulary", "--out", "run", "--steps", "1"];
    succeeds(at.path(), &[&run[..], &SMALL].concat());
    let step = checkpoint(at.path(), "run");
    for file in ["config.json", "generation_config.json"] {
        let keys = json(&step.join(file));
        assert_eq!((&keys["bos_token_id"], &keys["eos_token_id"]), (&json!(0), &json!(1)), "{file}");
    }
    assert_eq!(loaded(&step).begin(), [0]);
}
