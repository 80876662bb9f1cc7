//! Scaled positions, and runs that start from the weights of another model.

use super::files::copy;
use super::{misused, refused, shared, succeeds, train};
use hadal::checkpoint::tensors::{Tensor, Values, read_tensors};
use hadal::config::hf::read_config;
use hadal::config::rope::RopeType;
use hadal::train::journal::read_rows;
use hadal::train::rows::Row;
use std::fs;
use std::path::Path;

const YARN: &str = "model.rope_scaling={type=\"yarn\",factor=4,original_max_position_embeddings=32}";
const LONGER: [&str; 4] = ["--set", "model.max_position_embeddings=128", "--set", "train.sequence_length=128"];

/// Losses by validation and by training.
fn losses(run: &Path) -> (Vec<f64>, Vec<f64>) {
    let (mut val, mut train) = (Vec::new(), Vec::new());
    for row in read_rows(run).unwrap() {
        match row {
            Row::Val(row) => val.push(row.loss),
            Row::Train(row) => train.push(row.loss),
        }
    }
    (val, train)
}

fn reals(tensor: &Tensor) -> &[f64] {
    match &tensor.values {
        Values::Real(values) => values,
        Values::Index(_) => panic!("integers"),
    }
}

/// The length of the difference as a share of the expected length.
fn difference(found: &Tensor, expected: &Tensor) -> f64 {
    let (found, expected) = (reals(found), reals(expected));
    assert_eq!(found.len(), expected.len());
    let square = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
    square(&mut found.iter().zip(expected).map(|(f, e)| f - e)) / square(&mut expected.iter().copied())
}

#[test]
fn logits_and_gradients_of_the_golden_files_come_out_of_the_program() {
    let at = tempfile::tempdir().unwrap();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let cases = ["groups", "yarn_mscale", "yarn_mscale_all_dim", "linear", "dynamic"];
    for case in cases.iter().chain(&["router_deepseek", "router_seed", "router_norm_scale"]) {
        let (model, input) = (golden.join(case), golden.join(case).join("expected.safetensors"));
        let [folder, file] = [&model, &input].map(|path| path.to_str().unwrap());
        let dump = ["dump", "--model", folder, "--input", file, "--output", "out.safetensors", "--grads"];
        succeeds(at.path(), &[&dump[..], &["--backend", "cpu"]].concat());
        let (found, expected) =
            (read_tensors(&at.path().join("out.safetensors")).unwrap(), read_tensors(&input).unwrap());
        let names = expected.keys().filter(|name| *name == "logits" || *name == "loss" || name.starts_with("grad."));
        for name in names {
            let error = difference(&found[name], &expected[name]);
            assert!(error < 2e-5, "{case}, {name}: {error}");
        }
    }
}

#[test]
fn a_model_goes_on_at_a_longer_length_with_yarn_and_can_be_stopped_there() {
    let at = tempfile::tempdir().unwrap();
    let short = ["--steps", "40", "--out", "short", "--set", "model.max_position_embeddings=32"];
    succeeds(at.path(), &train(&[&short[..], &["--set", "train.micro_batch=8"]].concat()));
    let extend = ["train", "--model", "short", "--out", "long", "--steps", "10", "--backend", "cpu", "--set", YARN];
    let done = succeeds(at.path(), &[&extend[..], &LONGER].concat());
    for words in [
        "model.max_position_embeddings changes from 32 to 128",
        "model.rope_scaling changes from { type = \"default\" } to { factor = 4.0, orig",
        "from the weights in ",
    ] {
        assert!(done.err.contains(words), "{}", done.err);
    }
    let (val, train) = losses(&at.path().join("long"));
    // Far from the logarithm of the 1024 words, which fresh weights have; and learning goes on.
    assert!(val[0] < 6.0, "{val:?}");
    assert!(val[1] < val[0] && train.len() == 10 && train.iter().all(|loss| loss.is_finite()), "{val:?} {train:?}");
    let (config, warnings) = read_config(&at.path().join("long/checkpoints/step-00000010")).unwrap();
    assert_eq!((config.rope_scaling.kind, config.max_position_embeddings, warnings.len()), (RopeType::Yarn, 128, 0));
    fs::remove_dir_all(at.path().join("short")).unwrap();
    succeeds(at.path(), &["train", "--out", "long", "--resume", "--steps", "12", "--backend", "cpu"]);
    assert_eq!(losses(&at.path().join("long")).1.len(), 12);
    succeeds(at.path(), &["sample", "long", "--tokens", "3", "--backend", "cpu"]);
}

#[test]
fn the_first_weights_are_those_of_the_model_and_the_rest_starts_afresh() {
    let at = tempfile::tempdir().unwrap();
    copy(&shared().join("run"), &at.path().join("run"));
    let go_on = ["train", "--model", "run", "--out", "more", "--steps", "2", "--backend", "cpu"];
    let done = succeeds(at.path(), &go_on);
    assert!(!done.err.contains("changes"), "{}", done.err);
    let (before, after) = (losses(&at.path().join("run")), losses(&at.path().join("more")));
    assert_eq!(before.0.last(), after.0.first());
    // A folder without its run is read from config.json and tokenizer.json; the weights are found again by config.toml.
    copy(&at.path().join("run/checkpoints/step-00000002"), &at.path().join("hf"));
    for file in ["trainer_state.json", "manifest.json"] {
        fs::remove_file(at.path().join("hf").join(file)).unwrap();
    }
    succeeds(at.path(), &train(&["--model", "hf", "--out", "hf-run", "--steps", "2"]));
    assert_eq!(losses(&at.path().join("hf-run")), after);
    let text = fs::read_to_string(at.path().join("hf-run/config.toml")).unwrap();
    assert!(text.contains("hf/tokenizer.json") && text.contains("model = "), "{text}");
    succeeds(at.path(), &["train", "hf-run/config.toml", "--out", "again", "--backend", "cpu"]);
    assert_eq!(losses(&at.path().join("again")), after);
    // A run that has not reached a checkpoint starts from them once more.
    fs::remove_dir_all(at.path().join("again/checkpoints/step-00000002")).unwrap();
    succeeds(at.path(), &["train", "--out", "again", "--resume", "--backend", "cpu"]);
    assert_eq!(losses(&at.path().join("again")), after);
}

#[test]
fn what_does_not_fit_the_weights_is_refused_before_anything_is_written() {
    let at = tempfile::tempdir().unwrap();
    copy(&shared().join("run"), &at.path().join("run"));
    let with = |more: &[&'static str]| [&["train", "--model", "run", "--out", "x", "--backend", "cpu"], more].concat();
    let longer = ["--set", "train.sequence_length=128"];
    for (more, words) in [
        (&["--set", "model.kv_lora_rank=16"][..], &["model.kv_lora_rank", "is 16", "have 32"][..]),
        (&["--tokenizer", "byte"], &["model.vocab_size", "257"]),
        (&longer, &["train.sequence_length", "max_position_embeddings"]),
        (&["--set", "model.rope_scaling.type=linear"], &["model.rope_scaling.factor", "missing"]),
    ] {
        refused(at.path(), &with(more), 2, words);
    }
    refused(at.path(), &["train", "--model", "nowhere"], 2, &["nowhere", "does not exist"]);
    fs::remove_file(at.path().join("run/checkpoints/step-00000002/model.safetensors")).unwrap();
    refused(at.path(), &with(&[]), 2, &["step-00000002", "model.safetensors"]);
    misused(at.path(), &["train", "--model", "run", "--resume", "--out", "x"], "--resume");
    assert!(!at.path().join("x").exists());
}
