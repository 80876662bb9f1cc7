//! What goes along with a model from folder to folder: its tokenizer, and what is said of generation.

use super::begins::vocabulary_and_text;
use super::files::edit;
use super::sft::{checkpoint, json};
use super::{SMALL, refused, succeeds};
use serde_json::json;
use std::fs;
use std::path::Path;

/// A run of one step, called `run`, beside the folder `vocabulary` that its tokenizer is from.
fn run() -> tempfile::TempDir {
    let at = vocabulary_and_text();
    let train = ["train", "--data", "t.txt", "--tokenizer", "vocabulary", "--out", "run", "--steps", "1"];
    succeeds(at.path(), &[&train[..], &SMALL].concat());
    at
}

/// The newest tokenizer of a run.
fn tokenizer(at: &Path, run: &str) -> Vec<u8> {
    fs::read(checkpoint(at, run).join("tokenizer.json")).unwrap()
}

#[test]
fn a_run_goes_on_and_is_built_on_without_the_file_that_its_tokenizer_came_from() {
    let at = run();
    let path = at.path();
    let own = tokenizer(path, "run");
    let named = fs::canonicalize(path).unwrap().join("vocabulary");
    let config = fs::read_to_string(path.join("run/config.toml")).unwrap();
    assert!(config.contains(&*named.to_string_lossy()) || config.contains(&*path.join("vocabulary").to_string_lossy()));
    // Another vocabulary under the old name is not taken up, and none is missed.
    edit(&path.join("vocabulary/tokenizer.json"), |text| text.replace("\"merges\":[", "\"merges\":[[\"b\",\"a\"],"));
    for (steps, gone) in [("2", false), ("3", true)] {
        if gone {
            fs::remove_dir_all(path.join("vocabulary")).unwrap();
        }
        succeeds(path, &["train", "--out", "run", "--resume", "--steps", steps, "--backend", "cpu"]);
        assert!(tokenizer(path, "run") == own, "{steps}");
    }
    let next = ["train", "--model", "run", "--data", "t.txt", "--out", "next", "--steps", "1"];
    succeeds(path, &[&next[..], &SMALL].concat());
    assert!(tokenizer(path, "next") == own);
    refused(path, &["train", "--data", "t.txt", "--tokenizer", "vocabulary", "--out", "new"], 2, &["data.tokenizer"]);
}

#[test]
fn import_and_export_keep_what_they_were_given() {
    let at = run();
    let (given, step) = (at.path().join("given"), checkpoint(at.path(), "run"));
    fs::create_dir(&given).unwrap();
    for file in ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"] {
        fs::copy(step.join(file), given.join(file)).unwrap();
    }
    let lay = |file: &str, more: serde_json::Value| {
        let mut keys = if given.join(file).exists() { json(&given.join(file)) } else { json!({}) };
        keys.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        fs::write(given.join(file), keys.to_string()).unwrap();
        more
    };
    let generation = lay(
        "generation_config.json",
        json!({"temperature": 0.3, "top_p": 0.95, "do_sample": true, "eos_token_id": [1, 2], "max_new_tokens": 7}),
    );
    let tokens = lay(
        "tokenizer_config.json",
        json!({"pad_token": "<x>", "unk_token": "<x>", "padding_side": "left", "model_max_length": 17}),
    );
    let model = lay("config.json", json!({"pad_token_id": 2, "eos_token_id": [1, 2]}));
    succeeds(at.path(), &["import", "given", "--out", "imported"]);
    succeeds(at.path(), &["export", "imported", "--out", "exported"]);
    for folder in ["imported", "exported"] {
        let folder = at.path().join(folder);
        for (file, expected) in
            [("generation_config.json", &generation), ("tokenizer_config.json", &tokens), ("config.json", &model)]
        {
            let found = json(&folder.join(file));
            for (key, value) in expected.as_object().unwrap() {
                assert_eq!(&found[key], value, "{file}: {key}");
            }
        }
        assert_eq!(json(&folder.join("generation_config.json"))["bos_token_id"], 0);
    }
}

#[test]
fn a_pointer_of_git_lfs_is_called_one() {
    let at = run();
    let step = checkpoint(at.path(), "run");
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n";
    let files = ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"];
    for pointing in files {
        let given = at.path().join(format!("without-{pointing}"));
        fs::create_dir(&given).unwrap();
        for file in files {
            fs::copy(step.join(file), given.join(file)).unwrap();
        }
        fs::write(given.join(pointing), pointer).unwrap();
        let folder = given.to_string_lossy();
        refused(at.path(), &["sample", &folder, "--backend", "cpu"], 2, &[pointing, "Git LFS", "git lfs pull"]);
    }
    for data in ["text.txt", "lines.jsonl", "tokens.bin", "tokens.npy"] {
        fs::write(at.path().join(data), pointer).unwrap();
        refused(at.path(), &["train", "--data", data, "--out", "x"], 2, &[data, "Git LFS", "git lfs pull"]);
    }
}
