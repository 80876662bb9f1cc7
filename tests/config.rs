//! Layers of configuration, and every way of getting them wrong: the error names the place and what would be right.

use hadal::config::Config;
use hadal::config::layers::PRESETS;
use hadal::config::rope::{RopeScaling, RopeType};
use hadal::config::train::{LossReduction, Precision, Recompute};
use hadal::error::Error;
use std::path::PathBuf;

fn sets(sets: &[&str]) -> Vec<String> {
    sets.iter().map(|&s| s.to_owned()).collect()
}

/// The configuration of a file with this content.
fn from_file(content: impl AsRef<[u8]>) -> Result<Config, Error> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.toml");
    std::fs::write(&path, content).unwrap();
    Config::resolve(path.to_str(), &[])
}

/// Asserts that an error is bad input (exit code 2), one line, and that it mentions each of `words`.
fn refuses(result: Result<Config, Error>, words: &[&str]) {
    let error = result.expect_err(&format!("must be refused: {words:?}"));
    assert_eq!(error.exit_code(), 2, "{error}");
    let text = error.to_string();
    assert!(!text.contains('\n'), "more than one line: {text}");
    for word in words {
        assert!(text.contains(word), "{word:?} is not in: {text}");
    }
}

#[test]
fn every_preset_is_valid_and_survives_being_written_and_read() {
    for (name, _) in PRESETS {
        let config = Config::resolve(Some(name), &[]).unwrap_or_else(|e| panic!("{name}: {e}"));
        config.validate().unwrap_or_else(|e| panic!("{name}: {e}"));
        let again = from_file(config.to_toml().unwrap()).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(again, config, "{name}");
    }
}

#[test]
fn unusual_values_survive_being_written_and_read() {
    let unusual = [
        "data.path=['a b.txt', \"c\\\\d\"]",
        "train.sample_prompt=\"a \\\"quoted\\\"\\nline\"",
        "train.seed=9223372036854775807",
        "optimizer.epsilon=1e-300",
        "optimizer.learning_rate=0.1234567890123456",
        "model.q_lora_rank=24",
        "train.precision=mixed",
        "train.recompute=block",
    ];
    let config = Config::resolve(Some("small"), &sets(&unusual)).unwrap();
    assert_eq!(from_file(config.to_toml().unwrap()).unwrap(), config);
    assert_eq!(config.data.path, [PathBuf::from("a b.txt"), PathBuf::from("c\\d")]);
    assert_eq!(config.model.q_lora_rank, Some(24));
}

#[test]
fn recompute_is_one_of_four_words() {
    assert_eq!(Config::resolve(None, &[]).unwrap().train.recompute, Recompute::Auto);
    for (word, recompute) in [("none", Recompute::None), ("ffn", Recompute::Ffn), ("block", Recompute::Block)] {
        let config = Config::resolve(None, &[format!("train.recompute={word}")]).unwrap();
        assert_eq!(config.train.recompute, recompute);
    }
    for wrong in ["full", "Block"] {
        refuses(Config::resolve(None, &[format!("train.recompute={wrong}")]), &["train.recompute", "block"]);
    }
}

#[test]
fn a_set_lies_over_the_file_and_the_file_over_the_preset() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mine.toml");
    std::fs::write(&path, "preset = \"small\"\n[train]\nsteps = 7\nmicro_batch = 3\n").unwrap();
    let config = Config::resolve(path.to_str(), &sets(&["train.steps=9"])).unwrap();
    let small = Config::resolve(Some("small"), &[]).unwrap();
    assert_eq!((config.train.steps, config.train.micro_batch), (9, 3));
    assert_eq!(config.model, small.model);
    assert_eq!(config.train.accumulation, small.train.accumulation);
}

#[test]
fn a_file_that_names_no_preset_lies_over_the_default_one() {
    let config = from_file("[train]\nsteps = 7\n").unwrap();
    let mut expected = Config::resolve(None, &[]).unwrap();
    expected.train.steps = 7;
    assert_eq!(config, expected);
    assert_eq!(from_file("").unwrap(), Config::resolve(Some("tiny"), &[]).unwrap());
    assert_eq!(from_file("\u{feff}[train]\r\nsteps = 7\r\n").unwrap(), expected);
}

#[test]
fn keys_of_position_scaling_are_set_one_by_one_or_as_a_whole() {
    let scaling = |arguments: &[&str]| Config::resolve(Some("v2-lite"), &sets(arguments)).unwrap().model.rope_scaling;
    let lite = scaling(&[]);
    assert_eq!(scaling(&["model.rope_scaling.factor=80"]), RopeScaling { factor: Some(80.0), ..lite.clone() });
    let linear = RopeScaling { kind: RopeType::Linear, factor: Some(4.0), ..RopeScaling::default() };
    assert_eq!(scaling(&["model.rope_scaling={type = \"linear\", factor = 4}"]), linear);
    assert_eq!(scaling(&["model.rope_scaling={type = \"default\"}"]), RopeScaling::default());
    // So does a section in a file.
    let file = "preset = \"v2-lite\"\n[model.rope_scaling]\ntype = \"linear\"\nfactor = 4\n";
    assert_eq!(from_file(file).unwrap().model.rope_scaling, linear);
    let literal = Config::resolve(Some("seed-literal"), &[]).unwrap().model.rope_scaling;
    assert!(literal.is_seed_literal() && !lite.is_seed_literal());
}

#[test]
fn only_dynamic_positions_go_beyond_the_limit() {
    let config = |kind: &str| {
        let scaling = format!("model.rope_scaling={{type=\"{kind}\",factor=2}}");
        Config::resolve(None, &[scaling, "train.sequence_length=512".to_owned()]).unwrap()
    };
    config("dynamic").validate().unwrap();
    let linear = config("linear");
    refuses(linear.validate().map(|()| linear), &["train.sequence_length", "is 512"]);
}

#[test]
fn a_set_takes_toml_bare_text_and_single_elements_of_lists() {
    let arguments = [
        "data.tokenizer=gpt2",
        "data.path=corpus/a.txt",
        "train.precision = f32",
        "train.loss_reduction=\"seed\"",
        "optimizer.learning_rate=1",
        "train.sample_prompt=a=b",
        "train.overfit=true",
        "train.steps=1_000",
    ];
    let config = Config::resolve(None, &sets(&arguments)).unwrap();
    assert_eq!(config.data.tokenizer, "gpt2");
    assert_eq!(config.data.path, [PathBuf::from("corpus/a.txt")]);
    assert_eq!((config.train.precision, config.train.loss_reduction), (Precision::F32, LossReduction::Seed));
    assert_eq!((config.optimizer.learning_rate, config.train.sample_prompt.as_str()), (1.0, "a=b"));
    assert_eq!((config.train.overfit, config.train.steps), (true, 1000));
    let numeral = Config::resolve(None, &sets(&["data.tokenizer=123"])).unwrap();
    assert_eq!(numeral.data.tokenizer, "123");
}

#[test]
fn a_misspelt_key_is_answered_with_the_nearest_one() {
    let set = |s: &str| Config::resolve(None, &sets(&[s]));
    refuses(set("train.stpes=3"), &["train.stpes", "train.steps"]);
    refuses(set("steps=3"), &["steps", "train.steps"]);
    refuses(set("lr=3"), &["lr: unknown key; here it is optimizer.learning_rate"]);
    refuses(set("train.lr=3"), &["train.lr: unknown key; here it is optimizer.learning_rate"]);
    refuses(set("train.block_size=3"), &["here it is train.sequence_length"]);
    refuses(set("optimizer.blocksize=3"), &["optimizer.block_size"]);
    refuses(set("train.num_train_epochs=3"), &["unknown key; length is counted in steps: set train.steps"]);
    refuses(from_file("[train]\nbatch_size = 2\n"), &["run.toml", "line 2", "here it is train.micro_batch"]);
    for far in ["frobnicate=3", "train.frobnicate=3", "x=3"] {
        assert!(set(far).unwrap_err().to_string().ends_with(": unknown key"), "{far}");
    }
    refuses(set("train.learning_rate=3"), &["train.learning_rate", "optimizer.learning_rate"]);
    refuses(set("trian.steps=3"), &["trian.steps", "train.steps"]);
    refuses(set("optimiser=3"), &["optimiser", "[optimizer]"]);
    refuses(set("train=3"), &["train", "SECTION.KEY=VALUE"]);
    refuses(set("train.steps"), &["train.steps", "SECTION.KEY=VALUE"]);
    refuses(set("=3"), &["unknown key"]);
    refuses(from_file("[train]\nsteps = 3\nmicrobatch = 2\n"), &["run.toml", "line 3", "train.micro_batch"]);
    refuses(from_file("# x\n[trian]\nsteps = 3\n"), &["run.toml", "line 2", "[train]"]);
    refuses(from_file("steps = 3\n"), &["run.toml", "line 1", "train.steps"]);
    refuses(from_file("train = 3\n"), &["run.toml", "line 1", "[train]"]);
}

#[test]
fn a_value_of_the_wrong_type_is_answered_with_the_right_one() {
    let set = |s: &str| Config::resolve(None, &sets(&[s]));
    refuses(set("train.steps=many"), &["train.steps", "many", "whole number"]);
    refuses(set("train.steps=-1"), &["train.steps", "-1", "whole number"]);
    refuses(set("train.steps=1.5"), &["train.steps", "1.5", "whole number"]);
    refuses(set("optimizer.beta1=high"), &["optimizer.beta1", "high", "a number"]);
    refuses(set("train.overfit=maybe"), &["train.overfit", "maybe", "true or false"]);
    refuses(set("train.precision=f8"), &["train.precision", "f8", "mixed"]);
    refuses(set("optimizer.kind=sgd"), &["optimizer.kind", "sgd", "adamw", "adamw8bit"]);
    refuses(set("train.steps.x=1"), &["train.steps", "whole number"]);
    refuses(set("model.rope_scaling=yarn"), &["model.rope_scaling", "yarn", "expected a table"]);
    refuses(set("model.rope_scaling=['yarn']"), &["model.rope_scaling", "expected a table"]);
    refuses(set("model.rope_scaling.type=yarm"), &["model.rope_scaling.type", "yarm", "`yarn`"]);
    refuses(set("model.rope_scaling.type=3"), &["model.rope_scaling.type", "one of its names"]);
    refuses(set("model.rope_scaling.factr=4"), &["model.rope_scaling.factr", "`factor`"]);
    refuses(set("model.rope_scaling.factor=four"), &["model.rope_scaling.factor", "four", "a number"]);
    refuses(from_file("[train]\n\nsteps = \"3\"\n"), &["run.toml", "line 3", "train.steps", "whole number"]);
    refuses(from_file("train.steps = []\n"), &["run.toml", "line 1", "train.steps", "whole number"]);
}

#[test]
fn a_broken_file_is_named_with_its_line() {
    refuses(from_file("[train]\nsteps 3\n"), &["run.toml", "line 2"]);
    refuses(from_file("[train]\nsteps = 3\nsteps = 4\n"), &["run.toml", "line 3", "duplicate"]);
    refuses(from_file("[train]\nsteps = 99999999999999999999\n"), &["run.toml", "line 2"]);
    refuses(from_file(b"[train]\n# \xff\n"), &["run.toml", "line 2", "UTF-8"]);
    refuses(from_file("\n[train"), &["run.toml", "line 2"]);
    refuses(from_file("preset = \"tyni\"\n"), &["run.toml", "line 1", "tyni", "tiny"]);
    refuses(from_file("\npreset = 3\n"), &["run.toml", "line 2", "preset"]);
    refuses(Config::resolve(Some("no/such.toml"), &[]), &["no/such.toml", "v2-lite"]);
    let folder = tempfile::tempdir().unwrap();
    refuses(Config::resolve(folder.path().to_str(), &[]), &["folder", "config.toml"]);
}

#[test]
fn values_that_no_run_can_have_are_refused() {
    let bad = [
        ("train.steps=0", "at least 1"),
        ("train.micro_batch=0", "at least 1"),
        ("model.rope_scaling={type=\"yarn\"}", "model.rope_scaling.factor: is missing"),
        ("model.rope_scaling={type=\"yarn\",factor=4}", "original_max_position_embeddings: is missing"),
        ("model.rope_scaling={type=\"ntk\",factor=0.5}", "model.rope_scaling.factor: is 0.5"),
        ("model.rope_scaling.factor=4", "no meaning for type \"default\""),
        ("train.accumulation=0", "at least 1"),
        ("train.sequence_length=0", "at least 1"),
        ("train.eval_batches=0", "at least 1"),
        ("train.micro_batch=9000000000000000000", "train.accumulation"),
        ("train.sequence_length=100000", "max_position_embeddings"),
        ("optimizer.learning_rate=0", "positive"),
        ("optimizer.learning_rate=nan", "positive"),
        ("optimizer.learning_rate=inf", "positive"),
        ("optimizer.beta1=1", "below 1"),
        ("optimizer.beta2=-0.1", "at least 0"),
        ("optimizer.epsilon=0", "positive"),
        ("optimizer.weight_decay=-1", "positive"),
        ("optimizer.weight_decay=1e9", "learning_rate"),
        ("optimizer.clip_norm=-1", "0 for no clipping"),
        ("optimizer.block_size=0", "a multiple of 4"),
        ("optimizer.block_size=30", "a multiple of 4"),
        ("optimizer.block_size=4096", "to 2048"),
        ("schedule.min_learning_rate=1", "at most optimizer.learning_rate"),
    ];
    for (set, word) in bad {
        let config = Config::resolve(None, &sets(&[set])).unwrap_or_else(|e| panic!("{set}: {e}"));
        let key = set.split('=').next().unwrap();
        refuses(config.validate().map(|()| config), &[key, word]);
    }
}

#[test]
fn presets_have_the_sizes_that_their_files_state() {
    let model = |name| Config::resolve(Some(name), &[]).unwrap().model;
    assert_eq!(model("seed").total_parameters(), 874_261_504);
    assert_eq!(model("seed-literal").total_parameters(), 874_261_504);
    let millions = |count: u64| (count as f64 / 1e6).round();
    let small = model("small");
    assert_eq!((millions(small.total_parameters()), millions(small.activated_parameters())), (60.0, 31.0));
    let lite = model("v2-lite");
    assert_eq!((millions(lite.total_parameters()), millions(lite.activated_parameters())), (15_706.0, 2_661.0));
}

#[test]
fn a_stage_refuses_settings_of_training_that_its_loss_does_not_have() {
    let seed = ["reward", "dpo", "grpo", "ppo"].map(|stage| (stage, "train.loss_reduction=seed"));
    let overfit = ["grpo", "ppo"].map(|stage| (stage, "train.overfit=true"));
    for (stage, set) in seed.into_iter().chain(overfit) {
        let config = Config::resolve(Some(stage), &sets(&[set])).unwrap();
        refuses(config.validate().map(|()| config), &[set.split('=').next().unwrap(), "must be"]);
    }
    for (stage, set) in [("sft", "train.loss_reduction=seed"), ("dpo", "train.overfit=true")] {
        Config::resolve(Some(stage), &sets(&[set])).unwrap().validate().unwrap();
    }
}
