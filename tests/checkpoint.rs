//! Weights on disk: what is written reads back bit for bit, and every kind of damage or malice is refused in words.

use hadal::checkpoint::tensors::{Values, read_tensors, write_tensors};
use hadal::checkpoint::weights::{Weights, write_weights};
use hadal::config::hf::{StoredType, read_config, write_config};
use hadal::config::model::ModelConfig;
use hadal::error::Result;
use hadal::model::params::{ParamSpec, initial, parameters};
use std::fs;
use std::path::Path;
use tempfile::TempDir;

fn tiny() -> ModelConfig {
    ModelConfig {
        vocab_size: 17,
        hidden_size: 16,
        num_hidden_layers: 2,
        num_attention_heads: 2,
        kv_lora_rank: 8,
        qk_nope_head_dim: 4,
        qk_rope_head_dim: 4,
        v_head_dim: 4,
        intermediate_size: 24,
        moe_intermediate_size: 8,
        n_routed_experts: 4,
        ..ModelConfig::default()
    }
}

/// Appends the start values of a parameter.
fn fresh(spec: &ParamSpec, values: &mut Vec<f32>) -> Result<()> {
    values.extend(initial(spec, 3));
    Ok(())
}

/// A folder with the start weights of `config`.
fn folder(config: &ModelConfig, stored: StoredType) -> (TempDir, Vec<ParamSpec>) {
    let dir = tempfile::tempdir().unwrap();
    let specs = parameters(config);
    write_weights(&dir.path().join("model.safetensors"), &specs, stored, fresh).unwrap();
    (dir, specs)
}

/// The message of a refusal, which must be of exit code 2.
fn refusal<T>(result: Result<T>) -> String {
    match result {
        Ok(_) => panic!("accepted"),
        Err(error) => {
            assert_eq!(error.exit_code(), 2, "{error}");
            error.to_string()
        }
    }
}

fn load(weights: &Weights, spec: &ParamSpec) -> Result<Vec<f32>> {
    let mut values = vec![0.5; spec.elements()];
    weights.load(spec, &mut values)?;
    Ok(values)
}

fn loaded(weights: &Weights, spec: &ParamSpec) -> Vec<f32> {
    load(weights, spec).unwrap()
}

#[test]
fn written_weights_read_back_bit_for_bit() {
    for config in [tiny(), ModelConfig { q_lora_rank: Some(6), tie_word_embeddings: true, ..tiny() }] {
        let (dir, specs) = folder(&config, StoredType::F32);
        let weights = Weights::open(dir.path()).unwrap();
        weights.check(&specs).unwrap();
        for spec in &specs {
            assert_eq!(loaded(&weights, spec), initial(spec, 3), "{}", spec.name);
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file stays");
    }
}

#[test]
fn experts_stand_apart_on_disk_and_the_format_is_named() {
    let (dir, _) = folder(&tiny(), StoredType::F32);
    let bytes = fs::read(dir.path().join("model.safetensors")).unwrap();
    let (_, metadata) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    assert_eq!(metadata.metadata().as_ref().unwrap()["format"], "pt");
    assert_eq!(metadata.info("model.layers.1.mlp.experts.3.up_proj.weight").unwrap().shape, [8, 16]);
    assert!(metadata.info("model.layers.1.mlp.experts.up_proj.weight").is_none());
}

#[test]
fn sixteen_bit_weights_round_to_nearest_and_load_as_f32() {
    for (stored, digits) in [(StoredType::Bf16, 8), (StoredType::F16, 11)] {
        let (dir, specs) = folder(&tiny(), stored);
        let weights = Weights::open(dir.path()).unwrap();
        weights.check(&specs).unwrap();
        for spec in &specs {
            for (read, exact) in loaded(&weights, spec).into_iter().zip(initial(spec, 3)) {
                // Half a unit in the last place; below f16's smallest normal number its places are fixed.
                let allowed = exact.abs().max(6.2e-5) * 0.5f32.powi(digits);
                assert!((read - exact).abs() <= allowed, "{}: {read} {exact}", spec.name);
            }
        }
    }
}

#[test]
fn weights_that_are_not_a_number_load() {
    let dir = tempfile::tempdir().unwrap();
    let specs = parameters(&tiny());
    let nan = |spec: &ParamSpec, values: &mut Vec<f32>| {
        values.resize(spec.elements(), f32::NAN);
        Ok(())
    };
    write_weights(&dir.path().join("model.safetensors"), &specs, StoredType::F32, nan).unwrap();
    let weights = Weights::open(dir.path()).unwrap();
    weights.check(&specs).unwrap();
    assert!(loaded(&weights, &specs[0]).iter().all(|x| x.is_nan()));
}

#[test]
fn missing_extra_and_misshaped_tensors_are_named_in_one_error() {
    let written = ModelConfig { vocab_size: 18, n_routed_experts: 5, ..tiny() };
    let (dir, _) = folder(&written, StoredType::F32);
    let wanted = parameters(&ModelConfig { q_lora_rank: Some(6), ..tiny() });
    let weights = Weights::open(dir.path()).unwrap();
    let message = refusal(weights.check(&wanted));
    for word in [
        "model.layers.0.self_attn.q_a_proj.weight",
        "model.embed_tokens.weight [18, 16], expected [17, 16]",
        "model.layers.1.mlp.experts.4.down_proj.weight",
        "model.layers.1.self_attn.q_proj.weight",
        "6 tensors are missing",
        "3 tensors are of another shape",
        "5 tensors are not part of the model",
    ] {
        assert!(message.contains(word), "{word}: {message}");
    }
    assert!(refusal(load(&weights, &wanted[0])).contains("expected [17, 16]"));
    assert!(refusal(load(&weights, &wanted[2])).contains("missing"));
}

#[test]
fn a_stored_copy_of_a_shared_embedding_is_accepted_and_another_head_is_not() {
    let tied = parameters(&ModelConfig { tie_word_embeddings: true, ..tiny() });
    let (other, specs) = folder(&tiny(), StoredType::F32);
    assert!(refusal(Weights::open(other.path()).unwrap().check(&tied)).contains("lm_head.weight"));
    let copy = tempfile::tempdir().unwrap();
    let load = |spec: &ParamSpec, values: &mut Vec<f32>| {
        fresh(if spec.name == "lm_head.weight" { &specs[0] } else { spec }, values)
    };
    write_weights(&copy.path().join("model.safetensors"), &specs, StoredType::F32, load).unwrap();
    Weights::open(copy.path()).unwrap().check(&tied).unwrap();
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let (dir, _) = folder(&tiny(), StoredType::F32);
    let path = dir.path().join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    for length in [0, 7, 8, 9, 100, bytes.len() / 2, bytes.len() - 1] {
        fs::write(&path, &bytes[..length]).unwrap();
        assert!(refusal(Weights::open(dir.path())).contains("copy it again"), "{length} bytes");
    }
    fs::write(&path, [&bytes[..], b"tail"].concat()).unwrap();
    assert!(refusal(Weights::open(dir.path())).contains("need"));
}

/// A file with this header and `data` zero bytes.
fn forged(path: &Path, header: &str, data: usize) {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_header_that_lies_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    let tensor =
        |shape: &str, from: u64, to: u64| format!(r#"{{"dtype":"F32","shape":{shape},"data_offsets":[{from},{to}]}}"#);
    let many_axes = format!("[{}]", ["1"; 9].join(","));
    let a = tensor("[2]", 0, 8);
    for (header, data) in [
        ("not json".to_owned(), 0),
        ("[1]".to_owned(), 0),
        ("[".repeat(100_000), 0),
        (format!(r#"{{"a":{}"#, "[".repeat(100_000)), 0),
        (format!(r#"{{"a":{a},"a":{a}}}"#), 8),
        (format!(r#"{{"a":{a},"b":{}}}"#, tensor("[2]", 4, 12)), 12),
        (format!(r#"{{"a":{a},"b":{}}}"#, tensor("[2]", 12, 20)), 20),
        (format!(r#"{{"a":{}}}"#, tensor("[3]", 0, 8)), 8),
        (format!(r#"{{"a":{}}}"#, tensor("[-2]", 0, 8)), 8),
        (format!(r#"{{"a":{}}}"#, tensor("[4611686018427387904,4]", 0, 0)), 0),
        (format!(r#"{{"a":{}}}"#, tensor("[4611686018427387903]", 0, u64::MAX - 3)), 8),
        (format!(r#"{{"a":{}}}"#, tensor(&many_axes, 0, 4)), 4),
        (format!(r#"{{"a":{}}}"#, a.replace("F32", "\u{1b}[2J")), 8),
        (format!(r#"{{"a":{}}}"#, a.replace("}", r#","x":1}"#)), 8),
        (format!(r#"{{"{}":{}}}"#, r"\u001b[2J", tensor("[2]", 4, 12)), 12),
    ] {
        forged(&path, &header, data);
        let message = refusal(Weights::open(dir.path()));
        assert!(message.contains("not a sound safetensors file"), "{message}");
        assert!(!message.contains('\u{1b}') && message.len() < 500, "{message:?}");
    }
    for length in [100_000_001, 1 << 63, u64::MAX] {
        fs::write(&path, length.to_le_bytes()).unwrap();
        assert!(refusal(Weights::open(dir.path())).contains("announces"));
    }
}

#[test]
fn random_damage_is_refused_or_harmless_but_never_a_panic() {
    use rand::{RngExt, SeedableRng};
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
    let (dir, specs) = folder(&tiny(), StoredType::Bf16);
    write_config(dir.path(), &tiny(), StoredType::Bf16).unwrap();
    let header =
        8 + u64::from_le_bytes(fs::read(dir.path().join("model.safetensors")).unwrap()[..8].try_into().unwrap());
    for (file, damaged) in [("model.safetensors", header as usize), ("config.json", usize::MAX)] {
        let path = dir.path().join(file);
        let sound = fs::read(&path).unwrap();
        let mut refused = 0;
        for _ in 0..1000 {
            let mut bytes = sound.clone();
            for _ in 0..rng.random_range(1..4) {
                let at = rng.random_range(0..damaged.min(bytes.len()));
                match rng.random_range(0..4) {
                    0 => bytes[at] ^= 1 << rng.random_range(0..8),
                    1 => bytes[at] = b"0123456789-eE.,:[]{}\"\\"[rng.random_range(0..22)],
                    2 => drop(bytes.remove(at)),
                    _ => bytes.insert(at, bytes[at]),
                }
            }
            fs::write(&path, bytes).unwrap();
            let read = || -> Result<()> {
                let (config, _) = read_config(dir.path())?;
                let weights = Weights::open(dir.path())?;
                weights.check(&parameters(&config))?;
                specs.iter().try_for_each(|spec| load(&weights, spec).map(drop))
            };
            if let Err(error) = read() {
                assert_eq!(error.exit_code(), 2, "{error}");
                refused += 1;
            }
        }
        assert!(refused > 250, "{file}: damage shows: {refused} of 1000");
        fs::write(&path, sound).unwrap();
    }
}

#[test]
fn an_unusable_number_type_and_a_folder_without_weights_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    assert!(refusal(Weights::open(dir.path())).contains("neither"));
    assert!(refusal(Weights::open(&dir.path().join("absent"))).contains("neither"));
    forged(
        &dir.path().join("model.safetensors"),
        r#"{"model.norm.weight":{"dtype":"I32","shape":[16],"data_offsets":[0,64]}}"#,
        64,
    );
    let norm: Vec<ParamSpec> = parameters(&tiny()).into_iter().filter(|s| s.name == "model.norm.weight").collect();
    let weights = Weights::open(dir.path()).unwrap();
    assert!(refusal(weights.check(&norm)).contains("number type"));
    assert!(refusal(load(&weights, &norm[0])).contains("I32"));
}

#[test]
fn shards_load_as_one_file_does() {
    let (dir, specs) = folder(&tiny(), StoredType::F32);
    split(dir.path(), &specs);
    let weights = Weights::open(dir.path()).unwrap();
    weights.check(&specs).unwrap();
    for spec in &specs {
        assert_eq!(loaded(&weights, spec), initial(spec, 3), "{}", spec.name);
    }
}

/// Replaces the single file by two shards and their index.
fn split(dir: &Path, specs: &[ParamSpec]) {
    fs::remove_file(dir.join("model.safetensors")).unwrap();
    let (first, second) = specs.split_at(specs.len() / 2);
    let mut map = serde_json::Map::new();
    for (file, specs) in [("model-1.safetensors", first), ("model-2.safetensors", second)] {
        write_weights(&dir.join(file), specs, StoredType::F32, fresh).unwrap();
        map.extend(specs.iter().flat_map(|s| &s.disk).map(|t| (t.name.clone(), file.into())));
    }
    let index = serde_json::json!({"metadata": {"total_size": 0}, "weight_map": map});
    fs::write(dir.join("model.safetensors.index.json"), index.to_string()).unwrap();
}

#[test]
fn an_index_opens_nothing_but_plain_files_of_its_folder() {
    let (outside, specs) = folder(&tiny(), StoredType::F32);
    let target = outside.path().join("model.safetensors");
    let dir = tempfile::tempdir().unwrap();
    let absolute = target.display().to_string();
    for file in [
        "../model.safetensors",
        &absolute,
        "a/model.safetensors",
        r"..\model.safetensors",
        "C:model.safetensors",
        ".safetensors",
        "..safetensors",
        "model.bin",
        "model\0.safetensors",
        "mod\u{e9}l.safetensors",
        "",
    ] {
        let index = serde_json::json!({"weight_map": {"a": file}});
        fs::write(dir.path().join("model.safetensors.index.json"), index.to_string()).unwrap();
        assert!(refusal(Weights::open(dir.path())).contains("plain names"), "{file:?}");
    }
    for (index, word) in [("{}", "weight_map"), (r#"{"weight_map":{"a":1}}"#, "not mapped")] {
        fs::write(dir.path().join("model.safetensors.index.json"), index).unwrap();
        assert!(refusal(Weights::open(dir.path())).contains(word));
    }
    let (honest, _) = folder(&tiny(), StoredType::F32);
    split(honest.path(), &specs);
    let path = honest.path().join("model.safetensors.index.json");
    let lying = fs::read_to_string(&path).unwrap().replace("lm_head.weight", "lm_head.bias");
    fs::write(&path, lying).unwrap();
    assert!(refusal(Weights::open(honest.path())).contains("lm_head"));
}

#[cfg(unix)]
#[test]
fn a_shard_that_links_out_of_its_folder_is_refused_but_the_download_cache_may() {
    use std::os::unix::fs::symlink;
    let (dir, specs) = folder(&tiny(), StoredType::F32);
    split(dir.path(), &specs);
    let shard = dir.path().join("model-1.safetensors");
    let outside = tempfile::tempdir().unwrap();
    fs::rename(&shard, outside.path().join("x")).unwrap();
    symlink(outside.path().join("x"), &shard).unwrap();
    assert!(refusal(Weights::open(dir.path())).contains("link"));

    let cache = tempfile::tempdir().unwrap();
    let snapshot = cache.path().join("snapshots/abc");
    fs::create_dir_all(&snapshot).unwrap();
    fs::create_dir(cache.path().join("blobs")).unwrap();
    for file in ["model-2.safetensors", "model.safetensors.index.json"] {
        fs::copy(dir.path().join(file), snapshot.join(file)).unwrap();
    }
    fs::copy(outside.path().join("x"), cache.path().join("blobs/x")).unwrap();
    symlink("../../blobs/x", snapshot.join("model-1.safetensors")).unwrap();
    Weights::open(&snapshot).unwrap().check(&specs).unwrap();
}

#[test]
fn named_tensors_read_back_widened() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.safetensors");
    write_tensors(&path, &[("logits".to_owned(), vec![1, 3], vec![0.5, -1.0, 3.25])]).unwrap();
    let read = read_tensors(&path).unwrap();
    assert_eq!(read["logits"].shape, [1, 3]);
    assert_eq!(read["logits"].values, Values::Real(vec![0.5, -1.0, 3.25]));
    forged(&path, r#"{"i":{"dtype":"I64","shape":[2],"data_offsets":[0,16]}}"#, 16);
    assert_eq!(read_tensors(&path).unwrap()["i"].values, Values::Index(vec![0, 0]));
    forged(&path, r#"{"i":{"dtype":"BOOL","shape":[2],"data_offsets":[0,2]}}"#, 2);
    assert!(refusal(read_tensors(&path)).contains("BOOL"));
}
