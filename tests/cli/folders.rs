//! Model folders that lie: all that is wrong is said at once, nothing outside the folder is read, nothing is written.

use super::files::{edit, fuse, golden, model, rewrite, write_raw};
use super::{refused, train};
use hadal::checkpoint::container::Announced;
use safetensors::Dtype;
use serde_json::json;
use std::fs;
use std::path::Path;

/// `import` and `export` of `model` are refused with code 2 and these words, and leave nothing.
fn no_copy(at: &Path, words: &[&str]) {
    for command in ["import", "export"] {
        refused(at, &[command, "model", "--out", "out"], 2, words);
        assert!(!at.join("out").exists() && !at.join(".out.tmp").exists());
    }
}

#[test]
fn all_that_an_index_lies_about_is_named_at_once() {
    let (at, model) = golden("lite");
    let single = model.join("model.safetensors");
    fs::rename(&single, at.path().join("outside.safetensors")).unwrap();
    let index = model.join("model.safetensors.index.json");
    let absolute = at.path().join("outside.safetensors");
    let map = json!({"weight_map": {
        "a": "../outside.safetensors", "b": absolute, "c": 7, "d": "absent.safetensors", "e": "sub/x.safetensors",
    }});
    fs::write(&index, map.to_string()).unwrap();
    let plain = "3 file names are not plain names";
    let words = ["../outside.safetensors", "sub/x.safetensors", plain, "\"c\"", "absent.safetensors"];
    no_copy(at.path(), &[&["index.json"], &words[..]].concat());
    fs::write(&index, "{\"weight_map\": {}}").unwrap();
    no_copy(at.path(), &["36 tensors are missing"]);
    // Shards whose tensors are not those that are listed.
    let word = |name: &str| (Announced { name: name.to_owned(), dtype: Dtype::F32, shape: vec![1] }, vec![0; 4]);
    write_raw(&model.join("a.safetensors"), &vec![word("x"), word("twice")]);
    write_raw(&model.join("b.safetensors"), &vec![word("y"), word("twice")]);
    let map = json!({"weight_map": {
        "x": "a.safetensors", "twice": "a.safetensors", "y": "a.safetensors", "z": "b.safetensors",
    }});
    fs::write(&index, map.to_string()).unwrap();
    let words =
        ["\"y\" in a.safetensors", "\"z\" in b.safetensors", "\"twice\" in b.safetensors", "2 tensors are listed"];
    no_copy(at.path(), &words);
}

#[cfg(unix)]
#[test]
fn no_link_leads_out_of_the_folder() {
    use std::os::unix::fs::symlink;
    let (at, model) = model();
    let outside = at.path().join("outside");
    fs::create_dir(&outside).unwrap();
    let linked = ["model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"];
    for file in linked {
        let (here, there) = (model.join(file), outside.join(file));
        fs::rename(&here, &there).unwrap();
        symlink(&there, &here).unwrap();
        no_copy(at.path(), &[file, "is a link that leaves its folder"]);
        if file != "chat_template.jinja" {
            refused(at.path(), &["sample", "model", "--backend", "cpu"], 2, &[file, "link"]);
            refused(at.path(), &train(&["--model", "model", "--out", "run", "--steps", "1"]), 2, &[file, "link"]);
        }
        fs::remove_file(&here).unwrap();
        fs::rename(&there, &here).unwrap();
    }
    // Within the folder a link is as good as the file.
    fs::rename(model.join("model.safetensors"), model.join("weights")).unwrap();
    symlink("weights", model.join("model.safetensors")).unwrap();
    super::succeeds(at.path(), &["import", "model", "--out", "out"]);
    fs::remove_file(model.join("model.safetensors")).unwrap();
    symlink("nowhere", model.join("model.safetensors")).unwrap();
    fs::remove_dir_all(at.path().join("out")).unwrap();
    no_copy(at.path(), &["model.safetensors"]);
}

#[test]
fn missing_extra_and_misshaped_tensors_and_the_tokenizer_are_named_at_once() {
    let (at, model) = golden("lite");
    rewrite(&model.join("model.safetensors"), |tensors| {
        tensors.retain(|(tensor, _)| tensor.name != "model.layers.0.mlp.up_proj.weight");
        for (tensor, _) in tensors {
            match tensor.name.as_str() {
                "model.norm.weight" => tensor.shape = vec![4, 8],
                "lm_head.weight" => tensor.name = "lm_head.bias".to_owned(),
                "model.embed_tokens.weight" => tensor.dtype = Dtype::U32,
                _ => {}
            }
        }
    });
    fs::write(model.join("tokenizer.json"), "{").unwrap();
    let words = [
        "2 tensors are missing: model.layers.0.mlp.up_proj.weight, lm_head.weight",
        "model.norm.weight [4, 8], expected [32]",
        "model.embed_tokens.weight U32",
        "not part of the model: \"lm_head.bias\"",
        "tokenizer.json: is not valid JSON",
    ];
    no_copy(at.path(), &words);
}

#[test]
fn tensors_that_stand_there_twice_are_refused() {
    let (at, model) = golden("lite");
    rewrite(&model.join("model.safetensors"), |tensors| {
        let mut fused = tensors.clone();
        fuse(&mut fused, 4);
        tensors.extend(fused.into_iter().filter(|(tensor, _)| tensor.name.ends_with("experts.down_proj")));
    });
    no_copy(at.path(), &["4 tensors stand there twice", "experts.0.down_proj.weight", "model"]);
    // Fused experts of another number than the configuration's.
    let (at, model) = golden("lite");
    rewrite(&model.join("model.safetensors"), |tensors| fuse(tensors, 4));
    edit(&model.join("config.json"), |text| text.replace("\"n_routed_experts\": 4", "\"n_routed_experts\": 2"));
    no_copy(at.path(), &["experts.2.gate_proj.weight", "6 tensors are not part of the model", "another shape"]);
}

#[test]
fn numbers_that_are_not_finite_are_found_and_named() {
    let (at, model) = model();
    let (first, second) = ("model.layers.1.mlp.experts.5.up_proj.weight", "model.norm.weight");
    rewrite(&model.join("model.safetensors"), |tensors| {
        for (name, odd) in [(first, f32::NAN), (second, f32::NEG_INFINITY)] {
            let (_, bytes) = tensors.iter_mut().find(|(tensor, _)| tensor.name == name).unwrap();
            let last = bytes.len() - 4;
            bytes[last..].copy_from_slice(&odd.to_le_bytes());
        }
    });
    let words = ["2 tensors hold numbers that are not finite", first, second];
    no_copy(at.path(), &words);
    refused(at.path(), &["sample", "model", "--backend", "cpu"], 2, &words);
    refused(at.path(), &train(&["--model", "model", "--out", "run", "--steps", "1"]), 2, &words);
}
