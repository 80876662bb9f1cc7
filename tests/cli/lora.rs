//! Adapters, from fine-tuning to whole models and to PEFT's folders. That PEFT opens these is shown by
//! `tests/golden/check_peft.py`.

use super::files::{Tensors, batch, copy, edit, read_raw, rewrite, write};
use super::resume::rows;
use super::sft::{chats, checkpoint, json, sft};
use super::{SMALL, refused, shared, succeeds, train};
use hadal::train::rows::Row;
use half::f16;
use std::fs;
use std::path::Path;

pub const RANK: [&str; 2] = ["--set", "lora.rank=4"];

/// `sft` with adapters and more arguments.
fn adapters(more: &[&str]) -> Vec<String> {
    sft("chats.jsonl", &[&RANK, more].concat())
}

/// Adapters and moments of the run's latest checkpoint.
fn numbers(at: &Path, run: &str) -> [Vec<u8>; 2] {
    let folder = checkpoint(at, run);
    ["adapter_model.safetensors", "optimizer.safetensors"].map(|file| fs::read(folder.join(file)).unwrap())
}

/// Spoils the tensors of a file.
type Change = fn(&mut Tensors);

/// What the most probable continuation of a model is.
fn greedy(at: &Path, model: &str) -> String {
    let flags = ["--prompt", "Where?", "--temperature", "0", "--tokens", "12", "--json", "--backend", "cpu"];
    succeeds(at, &[&["sample", model][..], &flags].concat()).out
}

#[test]
fn a_run_of_adapters_goes_on_exactly_and_becomes_a_whole_model_and_a_folder_for_peft() {
    let at = chats();
    let samples = ["--set", "train.sample_interval=4", "--set", "train.sample_prompt=Where?"];
    let done = succeeds(at.path(), &adapters(&[&["--steps", "4", "--out", "whole"], &samples[..]].concat()));
    assert!(fs::read_to_string(at.path().join("whole/samples/step-4.txt")).unwrap().starts_with("Where?"));
    // Two layers, 32 wide, two heads of 16 + 8 columns of queries and 16 + 16 of keys and values, a latent of 32.
    let pairs = 2 * 4 * ((32 + 48) + (32 + 40) + (32 + 64) + (32 + 32));
    let told = done.err.lines().find(|line| line.contains("trained in adapters")).expect("a line on adapters");
    assert!(pairs == 2496 && told.contains(", 2,496 trained"), "{told}");
    succeeds(at.path(), &adapters(&["--steps", "2", "--out", "run"]));
    succeeds(at.path(), &["sft", "--out", "run", "--resume", "--steps", "4", "--backend", "cpu"]);
    assert!(numbers(at.path(), "run") == numbers(at.path(), "whole"));
    let losses =
        |name| rows(at.path(), name).into_iter().filter(|row| matches!(row, Row::Train(_))).collect::<Vec<_>>();
    assert_eq!(losses("run"), losses("whole"));
    // A checkpoint holds adapters and their moments, and says what they belong to.
    let folder = checkpoint(at.path(), "run");
    assert!(!folder.join("model.safetensors").exists());
    let size = fs::metadata(folder.join("adapter_model.safetensors")).unwrap().len();
    assert!((4 * pairs..4 * pairs + 4096).contains(&size), "{size} bytes of adapters");
    assert_eq!(json(&folder.join("adapter_config.json"))["lora_alpha"], 8.0);
    // What reads a model reads it with its adapters.
    succeeds(at.path(), &["export", "run", "--merge", "--out", "merged"]);
    write(&at.path().join("in"), &batch(), |_| {});
    let logits = |model: &str| {
        let flags = ["--input", "in", "--output", "out", "--backend", "cpu"];
        succeeds(at.path(), &[&["dump", "--model", model][..], &flags].concat());
        fs::read(at.path().join("out")).unwrap()
    };
    assert!(logits("run") == logits("merged"));
    assert!(logits("run") != logits(&shared().join("run").to_string_lossy()));
    succeeds(at.path(), &["eval", "run", "--backend", "cpu"]);
    assert_eq!(greedy(at.path(), "run"), greedy(at.path(), "merged"));
    assert_eq!(json(&at.path().join("merged/config.json"))["model_type"], "deepseek_v2");

    let done = succeeds(at.path(), &["export", "run", "--out", "peft"]);
    assert!(done.out.contains("16 tensors") && done.out.contains("for the base "), "{}", done.out);
    let tensors = read_raw(&at.path().join("peft/adapter_model.safetensors"));
    let first = "base_model.model.model.layers.0.self_attn.kv_a_proj_with_mqa.lora_A.weight";
    let found = tensors.iter().find(|(tensor, _)| tensor.name == first).expect(first);
    assert_eq!(found.0.shape, [4, 32]);
    let config = json(&at.path().join("peft/adapter_config.json"));
    assert_eq!((config["r"].as_u64(), config["peft_type"].as_str()), (Some(4), Some("LORA")));
    assert_eq!(config["target_modules"].as_array().unwrap().len(), 4);
    succeeds(at.path(), &["export", "run", "--out", "half", "--dtype", "f16"]);
    let half = read_raw(&at.path().join("half/adapter_model.safetensors"));
    let exact = found.1.chunks_exact(4).map(|word| f32::from_le_bytes(word.try_into().unwrap()));
    let rounded: Vec<u8> = exact.flat_map(|x| f16::from_f32(x).to_le_bytes()).collect();
    assert!(half.iter().any(|(tensor, bytes)| tensor.name == first && *bytes == rounded));
    // Training goes on from the whole of both, with or without new adapters; a base is never a folder of adapters.
    let mut again = adapters(&["--steps", "1", "--out", "again"]);
    again[4] = "run".to_owned();
    let done = succeeds(at.path(), &again);
    assert!(
        done.err.contains("the frozen weights") && at.path().join("again/base/config.json").is_file(),
        "{}",
        done.err
    );
}

#[test]
fn a_base_that_lacks_rows_for_marks_is_written_beside_its_adapters_and_moves_with_them() {
    let at = chats();
    let small = [&["train"], &SMALL[..], &["--tokenizer", "byte", "--steps", "1", "--out", "bytes"]].concat();
    succeeds(at.path(), &[&small[..], &["--set", "model.vocab_size=0"]].concat());
    let mut arguments = adapters(&["--steps", "1", "--out", "run", "--set", "lora.targets=[\"q_proj\", \"lm_head\"]"]);
    arguments[4] = "bytes".to_owned();
    succeeds(at.path(), &arguments);
    let tensors = |path: &Path| read_raw(path).into_iter().find(|(t, _)| t.name == "lm_head.weight").unwrap().1;
    let old = tensors(&checkpoint(at.path(), "bytes").join("model.safetensors"));
    let grown = tensors(&at.path().join("run/base/model.safetensors"));
    let row = 4 * 32;
    assert_eq!((grown.len(), &grown[..old.len()]), (old.len() + 2 * row, &old[..]));
    // Equal rows would be equally probable for ever.
    assert_ne!(grown[old.len()..old.len() + row], grown[old.len() + row..]);
    let before = greedy(at.path(), "run");
    fs::rename(at.path().join("run"), at.path().join("moved")).unwrap();
    fs::remove_dir_all(at.path().join("bytes")).unwrap();
    assert_eq!(greedy(at.path(), "moved"), before);
    succeeds(at.path(), &["sft", "--out", "moved", "--resume", "--steps", "2", "--backend", "cpu"]);
}

#[test]
fn pretraining_goes_on_with_adapters_of_experts_which_only_a_whole_model_can_hold() {
    let at = tempfile::tempdir().unwrap();
    let base = shared().join("run").to_string_lossy().into_owned();
    let targets = ["--set", "lora.targets=[\"up_proj\", \"down_proj\"]", "--model", &base];
    succeeds(at.path(), &train(&[&RANK[..], &targets, &["--steps", "2", "--out", "run"]].concat()));
    refused(at.path(), &["export", "run", "--out", "peft"], 2, &["feed-forward layers", "--merge"]);
    assert!(!at.path().join("peft").exists());
    succeeds(at.path(), &["export", "run", "--merge", "--out", "merged"]);
    assert_eq!(greedy(at.path(), "run"), greedy(at.path(), "merged"));
    let name = "model.layers.1.mlp.experts.7.up_proj.weight";
    let bytes = |path: &Path| read_raw(path).into_iter().find(|(t, _)| t.name == name).unwrap().1;
    let (old, new) = (checkpoint(shared(), "run"), at.path().join("merged"));
    assert_ne!(bytes(&old.join("model.safetensors")), bytes(&new.join("model.safetensors")));
}

#[test]
fn adapters_that_cannot_be_are_refused_in_one_line() {
    let at = chats();
    let run = |more: &[&str]| adapters(&[&["--steps", "1", "--out", "none"], more].concat());
    let set = |set: &str| run(&["--set", set]);
    refused(at.path(), &train(&[&RANK[..], &["--out", "none"]].concat()), 2, &["lora.rank", "--model"]);
    refused(at.path(), &set("lora.targets=[\"gate\"]"), 2, &["lora.targets", "gate", "q_proj"]);
    refused(at.path(), &set("lora.targets=q_a_proj"), 2, &["lora.targets", "q_a_proj", "lacks"]);
    refused(at.path(), &set("lora.targets=[]"), 2, &["lora.targets", "empty"]);
    refused(at.path(), &set("lora.rank=33"), 2, &["lora.rank", "33", "hidden_size = 32"]);
    refused(at.path(), &set("lora.alpha=-1"), 2, &["lora.alpha", "above 0"]);
    refused(at.path(), &set("lora.alpha=nan"), 2, &["lora.alpha"]);
    let base = shared().join("run").to_string_lossy().into_owned();
    refused(at.path(), &["export", &base, "--merge", "--out", "none"], 2, &["no adapters", "--merge"]);
    assert!(!at.path().join("none").exists());
    succeeds(at.path(), &adapters(&["--steps", "1", "--out", "run"]));
    let more = |set: &'static str| ["sft", "--out", "run", "--resume", "--steps", "2", "--allow-changes", "--set", set];
    refused(at.path(), &more("lora.rank=2"), 2, &["lora.rank: is 2", "begun with 4"]);
    refused(at.path(), &more("lora.alpha=1"), 2, &["lora.alpha: is 1"]);
}

#[test]
fn adapters_without_their_base_or_that_are_broken_are_refused() {
    let at = chats();
    copy(&shared().join("run"), &at.path().join("base"));
    let mut arguments = adapters(&["--steps", "1", "--out", "run"]);
    arguments[4] = "base".to_owned();
    succeeds(at.path(), &arguments);
    let folder = checkpoint(at.path(), "run");
    let resume = ["sft", "--out", "run", "--resume", "--steps", "2", "--backend", "cpu"];
    let sample = ["sample", "run", "--backend", "cpu"];
    // Each change is undone after it was refused, in what a checkpoint says as well as in what it holds.
    fs::remove_file(folder.join("manifest.json")).unwrap();
    let file = folder.join("adapter_model.safetensors");
    let sound = fs::read(&file).unwrap();
    let changes: [(&str, Change); 4] = [
        ("missing", |tensors| drop(tensors.pop())),
        ("another shape", |tensors| tensors[0].0.shape.reverse()),
        ("not finite", |tensors| tensors[1].1[..4].copy_from_slice(&f32::NAN.to_le_bytes())),
        ("not part of the model", |tensors| tensors[0].0.name = "base_model.model.other".to_owned()),
    ];
    for (words, change) in changes {
        rewrite(&file, change);
        refused(at.path(), &sample, 2, &["tensors", words]);
        refused(at.path(), &resume, 2, &["none of the checkpoints is sound", words]);
        fs::write(&file, &sound).unwrap();
    }
    let told = fs::read_to_string(folder.join("lora.json")).unwrap();
    for (old, new, words) in [
        ("\"rank\": 4", "\"rank\": 0", "rank is 0"),
        ("\"rank\": 4", "\"rank\": 5", "another shape"),
        ("\"q_proj\"", "\"gate\"", "does not say what adapters are"),
        ("{", "[", "JSON"),
    ] {
        edit(&folder.join("lora.json"), |text| text.replacen(old, new, 1));
        refused(at.path(), &sample, 2, &[words]);
        fs::write(folder.join("lora.json"), &told).unwrap();
    }
    succeeds(at.path(), &sample);
    let weights = checkpoint(at.path(), "base").join("model.safetensors");
    let mut bytes = fs::read(&weights).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&weights, bytes).unwrap();
    for arguments in [&sample[..], &resume] {
        refused(at.path(), arguments, 2, &["adapters belong to", "not what they were"]);
    }
    fs::rename(at.path().join("base"), at.path().join("elsewhere")).unwrap();
    for arguments in [&sample[..], &resume] {
        refused(at.path(), arguments, 2, &["adapters belong to", "gone"]);
    }
}
