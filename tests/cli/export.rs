//! Models out to transformers and in from it. That transformers opens them is shown by `tests/golden/check_export.py`.

use super::files::{copy, edit, fuse, golden, model, read_raw, rewrite};
use super::{hadal, refused, shared, succeeds};
use hadal::checkpoint::container::Container;
use hadal::config::hf::read_config;
use hadal::tokenizer::Tokenizer;
use half::{bf16, f16};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

const EXPORTABLE: [&str; 8] =
    ["lite", "qlora", "groups", "tied", "yarn_mscale", "yarn_mscale_all_dim", "linear", "dynamic"];

/// Every tensor of a folder by name, from one file or several, as bytes.
fn tensors(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let weights = files.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("model"));
    let weights = weights.filter(|path| path.extension().is_some_and(|kind| kind == "safetensors"));
    weights.flat_map(|path| read_raw(&path)).map(|(tensor, bytes)| (tensor.name, bytes)).collect()
}

fn floats(bytes: &[u8]) -> impl Iterator<Item = f32> {
    bytes.chunks_exact(4).map(|word| f32::from_le_bytes(word.try_into().unwrap()))
}

/// What `dump` says of a golden case's batch.
fn dump(at: &Path, model: &str) -> Vec<u8> {
    let flags = ["--input", "model/expected.safetensors", "--output", "out.safetensors", "--backend", "cpu"];
    succeeds(at, &[&["dump", "--model", model][..], &flags].concat());
    fs::read(at.join("out.safetensors")).unwrap()
}

fn names(folder: &Path) -> Vec<String> {
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    let mut names: Vec<String> = fs::read_dir(folder).unwrap().map(name).collect();
    names.sort();
    names
}

#[test]
fn an_export_in_f32_holds_the_same_bytes_and_gives_the_same_logits() {
    for case in EXPORTABLE {
        let (at, model) = golden(case);
        let done = succeeds(at.path(), &["export", "model", "--out", "out"]);
        assert!(done.out.starts_with("out: ") && done.out.contains("float32 in 1 file"), "{}", done.out);
        let out = at.path().join("out");
        assert_eq!(names(&out), ["config.json", "generation_config.json", "model.safetensors"]);
        let mut source = read_raw(&model.join("model.safetensors"));
        source.sort_by(|a, b| a.0.name.cmp(&b.0.name));
        let source: BTreeMap<String, Vec<u8>> = source.into_iter().map(|(t, bytes)| (t.name, bytes)).collect();
        assert!(source == tensors(&out), "{case}");
        assert_eq!(read_config(&out).unwrap().0, read_config(&model).unwrap().0, "{case}");
        assert!(dump(at.path(), "model") == dump(at.path(), "out"), "{case}");
    }
}

#[test]
fn sixteen_bits_round_to_nearest_and_shards_hold_what_the_index_says() {
    let (at, model) = golden("lite");
    let exact = read_raw(&model.join("model.safetensors"));
    for (dtype, name) in [("f16", "float16"), ("bf16", "bfloat16")] {
        let flags = ["export", "model", "--out", dtype, "--dtype", dtype, "--shard-size", "4000"];
        succeeds(at.path(), &flags);
        let out = at.path().join(dtype);
        let found = tensors(&out);
        assert_eq!(found.len(), exact.len());
        for (tensor, bytes) in &exact {
            let rounded: Vec<u8> = match dtype {
                "f16" => floats(bytes).flat_map(|x| f16::from_f32(x).to_le_bytes()).collect(),
                _ => floats(bytes).flat_map(|x| bf16::from_f32(x).to_le_bytes()).collect(),
            };
            assert!(found[&tensor.name] == rounded, "{}", tensor.name);
        }
        let config = fs::read_to_string(out.join("config.json")).unwrap();
        assert!(config.contains(&format!("\"torch_dtype\": \"{name}\"")), "{config}");
        let index: serde_json::Value =
            serde_json::from_str(&fs::read_to_string(out.join("model.safetensors.index.json")).unwrap()).unwrap();
        let total: usize = found.values().map(Vec::len).sum();
        assert_eq!(index["metadata"]["total_size"], total);
        let shards: Vec<String> = names(&out).into_iter().filter(|name| name.starts_with("model-")).collect();
        assert!(shards.len() > 3 && shards[0] == format!("model-00001-of-{:05}.safetensors", shards.len()));
        for shard in &shards {
            let file = Container::open(&out.join(shard)).unwrap();
            let bytes: usize = file.entries().values().map(|entry| file.bytes(entry).len()).sum();
            assert!(bytes <= 4000 || file.entries().len() == 1, "{shard}: {bytes}");
            assert!(file.entries().keys().all(|name| index["weight_map"][name] == **shard), "{shard}");
        }
        // And back: one file of f32 with the rounded values.
        let imported = format!("{dtype}-imported");
        succeeds(at.path(), &["import", dtype, "--out", &imported]);
        assert_eq!(names(&at.path().join(&imported)).len(), 3);
        assert!(dump(at.path(), dtype) == dump(at.path(), &imported), "{dtype}");
        assert!(dump(at.path(), dtype) != dump(at.path(), "model"), "{dtype}");
    }
}

#[test]
fn a_run_is_exported_with_its_tokenizer_and_a_chat_template_where_it_has_the_tokens() {
    let (at, model) = model();
    copy(&shared().join("run"), &at.path().join("run"));
    succeeds(at.path(), &["export", "run", "--out", "out"]);
    let out = at.path().join("out");
    let expected = [
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ];
    assert_eq!(names(&out), expected);
    assert!(tensors(&out) == tensors(&model));
    for file in ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "model.safetensors"] {
        // A checkpoint is such a folder already.
        assert!(fs::read(out.join(file)).unwrap() == fs::read(model.join(file)).unwrap(), "{file}");
    }
    Tokenizer::load("byte").unwrap().write_hf(&model, 64, 256).unwrap();
    fs::remove_file(model.join("chat_template.jinja")).unwrap();
    let done = succeeds(at.path(), &["export", "model", "--out", "bytes"]);
    assert!(done.err.contains("no chat_template.jinja") && done.err.contains("<|im_start|>"), "{}", done.err);
    assert!(!at.path().join("bytes/chat_template.jinja").exists());
    // A template that the folder brings is kept, from either place.
    edit(&model.join("tokenizer_config.json"), |text| text.replacen('{', "{\"chat_template\": \"older\",", 1));
    succeeds(at.path(), &["export", "model", "--out", "older"]);
    fs::write(model.join("chat_template.jinja"), "own").unwrap();
    succeeds(at.path(), &["import", "model", "--out", "own"]);
    for name in ["older", "own"] {
        assert_eq!(fs::read_to_string(at.path().join(name).join("chat_template.jinja")).unwrap(), name);
    }
}

#[test]
fn what_transformers_computes_otherwise_is_refused_or_named() {
    let (at, _) = golden("router_seed");
    refused(at.path(), &["export", "model", "--out", "out"], 2, &["model.router_weights", "\"seed\"", "--force"]);
    assert!(!at.path().join("out").exists());
    let done = succeeds(at.path(), &["export", "model", "--out", "out", "--force"]);
    assert!(done.err.contains("warning: model.router_weights") && done.err.contains("logits differ"), "{}", done.err);
    let (config, _) = read_config(&at.path().join("out")).unwrap();
    hadal::config::hf::check_representable(&config).unwrap();
    // Import keeps what is the program's own.
    succeeds(at.path(), &["import", "model", "--out", "kept"]);
    assert!(dump(at.path(), "model") == dump(at.path(), "kept"));
    // No place for the weights: no force helps.
    let (at, model) = golden("lite");
    edit(&model.join("config.json"), |text| {
        text.replace("\"deepseek_v2\"", "\"hadal\"").replace("\"n_shared_experts\": 1", "\"n_shared_experts\": 0")
    });
    for flags in [&["export", "model", "--out", "out"][..], &["export", "model", "--out", "out", "--force"]] {
        let error = refused(at.path(), flags, 2, &["model.n_shared_experts"]);
        assert!(!error.contains("--force"), "{error}");
    }
}

#[test]
fn sigmoid_scores_are_exported_by_force_alone_and_without_their_biases() {
    let (at, model) = golden("router_sigmoid");
    let words = ["model.scoring_func", "\"sigmoid\"", "DeepseekV2ForCausalLM", "--force"];
    refused(at.path(), &["export", "model", "--out", "out"], 2, &words);
    assert!(!at.path().join("out").exists());
    let done = succeeds(at.path(), &["export", "model", "--out", "out", "--force"]);
    assert!(done.err.contains("warning: model.scoring_func") && done.err.contains("logits differ"), "{}", done.err);
    let (config, _) = read_config(&at.path().join("out")).unwrap();
    hadal::config::hf::check_representable(&config).unwrap();
    let mut kept = tensors(&model);
    kept.retain(|name, _| !name.ends_with("e_score_correction_bias"));
    assert!(kept.len() + 1 == tensors(&model).len() && tensors(&at.path().join("out")) == kept);
    // Import keeps the biases, and a model without them is not whole.
    succeeds(at.path(), &["import", "model", "--out", "kept"]);
    assert!(tensors(&at.path().join("kept")) == tensors(&model));
    assert!(dump(at.path(), "model") == dump(at.path(), "kept"));
    let without = "model.layers.0.mlp.gate.e_score_correction_bias";
    rewrite(&model.join("model.safetensors"), |tensors| tensors.retain(|(tensor, _)| tensor.name != without));
    refused(at.path(), &["import", "model", "--out", "again"], 2, &[without, "missing"]);
}

#[test]
fn the_new_folder_replaces_nothing_and_half_a_one_does_not_stay() {
    let (at, _) = golden("lite");
    refused(at.path(), &["export", "model", "--out", "model"], 2, &["not empty"]);
    refused(at.path(), &["import", "model", "--out", "model/config.json"], 2, &["no folder"]);
    refused(at.path(), &["import", "model", "--out", "a/b"], 2, &["make it first"]);
    refused(at.path(), &["import", "missing", "--out", "b"], 2, &["missing", "does not exist"]);
    refused(at.path(), &["export", "model/..", "--out", "b"], 2, &["config.json"]);
    refused(at.path(), &["import", "model/..", "--out", "b"], 2, &["config.json"]);
    let done = hadal(at.path(), &["export", "model", "--out", "b", "--dtype", "f8"]);
    assert_eq!((done.code, done.out.as_str()), (2, ""));
    fs::create_dir(at.path().join("empty")).unwrap();
    succeeds(at.path(), &["export", "model", "--out", "empty"]);
    rewrite(&at.path().join("model/model.safetensors"), |tensors| {
        tensors[3].1[..4].copy_from_slice(&70000f32.to_le_bytes());
    });
    let words = ["too large for float16", "7e4", "--dtype"];
    refused(at.path(), &["export", "model", "--out", "b", "--dtype", "f16"], 2, &words);
    assert_eq!(names(at.path()), ["empty", "model"]);
    succeeds(at.path(), &["export", "model", "--out", "b", "--dtype", "bf16"]);
}

#[test]
fn fused_experts_are_taken_apart_wherever_a_model_is_read() {
    for case in ["lite", "tied"] {
        let (at, model) = golden(case);
        copy(&model, &at.path().join("fused"));
        let file = at.path().join("fused/model.safetensors");
        rewrite(&file, |tensors| fuse(tensors, 4));
        assert!(read_raw(&file).iter().any(|(tensor, _)| tensor.name.ends_with("experts.gate_up_proj")));
        succeeds(at.path(), &["import", "fused", "--out", "out"]);
        assert!(tensors(&at.path().join("out")) == tensors(&model), "{case}");
        assert!(dump(at.path(), "fused") == dump(at.path(), "model"), "{case}");
    }
}

/// The older style of keys, which transformers 4 writes.
#[test]
fn an_older_folder_is_imported() {
    let (at, model) = golden("yarn_mscale");
    let expected = read_config(&model).unwrap().0;
    succeeds(at.path(), &["export", "model", "--out", "older"]);
    let text = fs::read_to_string(at.path().join("older/config.json")).unwrap();
    assert!(text.contains("\"rope_scaling\"") && text.contains("\"torch_dtype\"") && !text.contains("rope_parameters"));
    succeeds(at.path(), &["import", "older", "--out", "out"]);
    assert_eq!(read_config(&at.path().join("out")).unwrap(), (expected, vec![]));
}
