//! Broken models, tensors and tokenizers.

use super::files::{CHECKPOINT, Raw, batch, edit, integers, model, truncate, write};
use super::{hadal, refused, shared, succeeds};
use serde_json::json;
use std::fs;
use std::path::Path;

/// `sample`, `eval` and `dump` of `model` are refused with code 2 and the same words.
fn no_model(at: &Path, words: &[&str]) {
    let text = shared().join("world.txt").to_string_lossy().into_owned();
    write(&at.join("batch.safetensors"), &batch(), |_| {});
    refused(at, &["sample", "model", "--backend", "cpu"], 2, words);
    refused(at, &["eval", "model", "--data", &text, "--backend", "cpu"], 2, words);
    let dump = ["--input", "batch.safetensors", "--output", "out.safetensors", "--backend", "cpu"];
    refused(at, &[&["dump", "--model", "model"][..], &dump].concat(), 2, words);
    assert!(!at.join("out.safetensors").exists());
}

#[test]
fn weights_that_are_cut_off_or_lie_are_refused() {
    let (at, model) = model();
    let weights = model.join("model.safetensors");
    truncate(&weights, 1, 2);
    no_model(at.path(), &["model.safetensors", "bytes", "copy it again"]);
    fs::write(&weights, [&u64::MAX.to_le_bytes()[..], b"{}"].concat()).unwrap();
    no_model(at.path(), &["model.safetensors", "header"]);
    fs::write(&weights, b"abc").unwrap();
    no_model(at.path(), &["model.safetensors", "3 bytes"]);
    write(&weights, &[integers("x", &[2], &[1, 2])], |h| h["x"]["shape"] = json!([1u64 << 62, 8]));
    no_model(at.path(), &["model.safetensors", "overflow"]);
    write(&weights, &[integers("x", &[2], &[1, 2])], |h| h["x"]["data_offsets"] = json!([8, 24]));
    no_model(at.path(), &["model.safetensors", "x"]);
    write(&weights, &[integers("x", &[2], &[1, 2])], |_| {});
    no_model(at.path(), &["missing", "model.embed_tokens.weight", "more", "config.json"]);
    fs::remove_file(&weights).unwrap();
    no_model(at.path(), &["model.safetensors"]);
}

#[test]
fn a_configuration_that_cannot_be_is_refused_and_unknown_keys_are_mentioned() {
    let (at, model) = model();
    let config = model.join("config.json");
    let original = fs::read_to_string(&config).unwrap();
    let change = |from: &str, to: &str| {
        assert!(original.contains(from), "{from}");
        fs::write(&config, original.replace(from, to)).unwrap();
    };
    change("\"num_experts_per_tok\": 2", "\"num_experts_per_tok\": 20");
    no_model(at.path(), &["num_experts_per_tok"]);
    change("\"hidden_size\": 32", "\"hidden_size\": \"wide\"");
    no_model(at.path(), &["config.json", "hidden_size", "wide"]);
    change("\"hidden_size\": 32", "\"hidden_size\": 64");
    no_model(at.path(), &["another shape", "model.embed_tokens.weight", "config.json"]);
    change("\"hidden_size\": 32", "\"hidden_size\": 9223372036854775808");
    no_model(at.path(), &["hidden_size"]);
    fs::write(&config, "{").unwrap();
    no_model(at.path(), &["config.json", "JSON"]);
    change("{", "{\n  \"hidden\\u001b[31m_sise\": 3,");
    let done = succeeds(at.path(), &["sample", "model", "--tokens", "1", "--backend", "cpu"]);
    let warnings: Vec<&str> = done.err.lines().filter(|line| line.starts_with("warning: ")).collect();
    assert!(warnings.len() == 1 && warnings[0].contains("config.json"), "{}", done.err);
    assert!(!done.err.contains('\u{1b}'), "{:?}", done.err);
}

#[test]
fn a_broken_tokenizer_is_refused_where_text_is_needed_and_nowhere_else() {
    let (at, model) = model();
    let file = model.join("tokenizer.json");
    let text = shared().join("world.txt").to_string_lossy().into_owned();
    let refuse = |words: &[&str]| {
        refused(at.path(), &["sample", "model", "--backend", "cpu"], 2, &[&["tokenizer.json"], words].concat());
        refused(at.path(), &["eval", "model", "--data", &text], 2, &[&["tokenizer.json"], words].concat());
    };
    truncate(&file, 1, 2);
    refuse(&["JSON"]);
    fs::write(&file, r#"{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [["x", "y"]]}}"#).unwrap();
    refuse(&["merges[0]", "\"x\""]);
    fs::write(&file, r#"{"model": {"type": "Unigram"}}"#).unwrap();
    refuse(&["model"]);
    fs::remove_file(&file).unwrap();
    refuse(&["missing"]);
    write(&at.path().join("in.safetensors"), &batch(), |_| {});
    let dump = ["dump", "--model", "model", "--input", "in.safetensors", "--output", "out.safetensors"];
    succeeds(at.path(), &[&dump[..], &["--backend", "cpu"]].concat());
    fs::copy(shared().join(CHECKPOINT).join("tokenizer.json"), &file).unwrap();
    edit(&model.join("config.json"), |text| text.replace("\"vocab_size\": 1024", "\"vocab_size\": 100"));
    refuse(&["1024", "100"]);
}

#[test]
fn batches_that_the_model_cannot_read_are_refused() {
    let at = tempfile::tempdir().unwrap();
    let run = shared().join("run").to_string_lossy().into_owned();
    let dump = |output: &str| {
        let flags = ["dump", "--model", &run, "--backend", "cpu", "--input", "in.safetensors", "--output", output];
        flags.map(str::to_owned)
    };
    let bad = |tensors: &[Raw], words: &[&str]| {
        write(&at.path().join("in.safetensors"), tensors, |_| {});
        refused(at.path(), &dump("out.safetensors"), 2, &[&["in.safetensors"], words].concat());
    };
    let labels = || integers("labels", &[1, 4], &[2, 3, 4, -100]);
    bad(&[integers("input_ids", &[1, 4], &[1, 2, 3, 1024]), labels()], &["token 1024", "0..1024"]);
    bad(&[integers("input_ids", &[1, 4], &[1, 2, 3, -100]), labels()], &["token -100"]);
    bad(&[integers("input_ids", &[4], &[1, 2, 3, 4]), labels()], &["input_ids", "(B, T)"]);
    bad(&[integers("input_ids", &[2, 2], &[1, 2, 3, 4]), labels()], &["[2, 2]", "[1, 4]"]);
    bad(&[labels()], &["no tensor input_ids"]);
    bad(&[integers("input_ids", &[0, 4], &[]), integers("labels", &[0, 4], &[])], &["empty"]);
    bad(&[integers("input_ids", &[1, 65], &[1; 65]), integers("labels", &[1, 65], &[1; 65])], &["65", "64"]);
    let floats = Raw { name: "input_ids", dtype: "F32", shape: vec![1, 4], bytes: vec![0; 16] };
    bad(&[floats, labels()], &["input_ids", "I64"]);
    truncate(&at.path().join("in.safetensors"), 9, 10);
    refused(at.path(), &dump("out.safetensors"), 2, &["in.safetensors", "copy it again"]);
    fs::remove_file(at.path().join("in.safetensors")).unwrap();
    refused(at.path(), &dump("out.safetensors"), 2, &["in.safetensors"]);
    write(&at.path().join("in.safetensors"), &batch(), |_| {});
    refused(at.path(), &dump("missing/out.safetensors"), 2, &["missing"]);
    refused(at.path(), &dump("in.safetensors"), 2, &["--output", "--input"]);
}

#[test]
fn text_to_evaluate_must_be_there_and_be_text() {
    let (at, _) = model();
    fs::write(at.path().join("short.txt"), "a").unwrap();
    fs::write(at.path().join("latin.txt"), b"\xe9").unwrap();
    let eval = |more: &[&str], words: &[&str]| {
        refused(at.path(), &[&["eval", "model", "--backend", "cpu"], more].concat(), 2, words);
    };
    eval(&[], &["--data", "run folder"]);
    eval(&["--data", "missing.txt"], &["missing.txt"]);
    eval(&["--data", "short.txt"], &["tokens are too few", "65"]);
    eval(&["--data", "latin.txt"], &["latin.txt", "byte 0", "0xe9"]);
    let done = hadal(at.path(), &["sample", "model", "--tokens", "18446744073709551615", "--samples", "0"]);
    assert_eq!(done.code, 2, "{}", done.err);
}

#[cfg(unix)]
#[test]
fn pipes_and_links_to_devices_are_refused_wherever_a_file_is_read() {
    let pipe = |path: &Path| {
        let _ = fs::remove_file(path);
        assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
    };
    for name in ["model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json", "manifest.json"] {
        let (at, model) = model();
        pipe(&model.join(name));
        let word = if name == "config.json" { "neither" } else { "regular file" };
        refused(at.path(), &["sample", "model", "--backend", "cpu"], 2, &[name, word]);
        fs::remove_file(model.join(name)).unwrap();
        std::os::unix::fs::symlink("/dev/zero", model.join(name)).unwrap();
        refused(at.path(), &["sample", "model", "--backend", "cpu"], 2, &[name]);
    }
    let at = tempfile::tempdir().unwrap();
    for name in ["a.toml", "a.txt", "a.jsonl", "a.bin", "a.npy"] {
        pipe(&at.path().join(name));
    }
    refused(at.path(), &["plan", "a.toml"], 2, &["a.toml", "regular file"]);
    refused(at.path(), &["data", "a.txt", "a.jsonl", "a.bin", "a.npy"], 2, &["4 problems", "a.npy", "regular file"]);
    fs::create_dir(at.path().join("run")).unwrap();
    pipe(&at.path().join("run/metrics.jsonl"));
    refused(at.path(), &["plot", "run", "--output", "a.png"], 2, &["metrics.jsonl"]);
}

#[test]
fn an_index_names_files_of_its_own_folder_only() {
    let (at, model) = model();
    fs::rename(model.join("model.safetensors"), at.path().join("outside.safetensors")).unwrap();
    let outside = at.path().join("outside.safetensors");
    let outside = outside.to_str().unwrap();
    for name in [
        "../outside.safetensors",
        outside,
        "..\\outside.safetensors",
        "C:\\outside.safetensors",
        "C:outside.safetensors",
        "\\\\host\\share\\a.safetensors",
        "\\\\?\\C:\\a.safetensors",
        "a.safetensors\0",
        "model/../a.safetensors",
        "nul.safetensors",
        "COM1.safetensors",
        ".a.safetensors",
        "a.safetensors:b.safetensors",
        "config.json",
        "",
    ] {
        let index = json!({"weight_map": {"model.embed_tokens.weight": name}});
        fs::write(model.join("model.safetensors.index.json"), index.to_string()).unwrap();
        no_model(at.path(), &["index.json", "plain names"]);
    }
    let twice = r#"{"weight_map": {"a": "a.safetensors", "a": "b.safetensors"}}"#;
    fs::write(model.join("model.safetensors.index.json"), twice).unwrap();
    no_model(at.path(), &["index.json", "\"a\" stands there twice"]);
}

#[test]
fn a_key_that_stands_twice_is_refused() {
    let (at, model) = model();
    edit(&model.join("config.json"), |text| text.replacen('{', "{\"hidden_size\": 16,", 1));
    no_model(at.path(), &["config.json", "\"hidden_size\" stands there twice"]);
}
