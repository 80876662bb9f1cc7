//! A reward model as a reward: its scores, and folders that are none.

use super::files::copy;
use super::refusals::fits;
use super::sft::{checkpoint, json};
use super::{SMALL, hadal, refused, succeeds};
use hadal::backend::Device;
use hadal::chat::{Encoded, Encoder, Template};
use hadal::config::Config;
use hadal::config::reward::{RewardConfig, RewardKind};
use hadal::config::sft::SftMask;
use hadal::data::preferences::Preferences;
use hadal::data::questions::Question;
use hadal::reward::model::RewardModel;
use hadal::reward::{Rewards, Sample};
use hadal::tokenizer::Tokenizer;
use hadal::train::journal::read_rows;
use hadal::train::rows::{Numbers, Row};
use std::fs;
use std::path::Path;

const LENGTH: &str = "train.sequence_length=96";

/// A folder with `base`, a model of text, and `judge`, a reward model of it that has learnt for three updates.
fn judged() -> tempfile::TempDir {
    let at = tempfile::tempdir().unwrap();
    let wide = ["--set", "model.max_position_embeddings=96", "--set", "train.sample_interval=0"];
    succeeds(at.path(), &[&["train"], &SMALL[..], &wide, &["--steps", "1", "--out", "base"]].concat());
    let small = ["--set", "train.micro_batch=4", "--set", "train.eval_batches=3", "--set", LENGTH];
    let own = ["--steps", "3", "--out", "judge", "--set", "optimizer.learning_rate=0.02", "--backend", "cpu"];
    succeeds(at.path(), &[&["reward", "--model", "base"], &small[..], &own].concat());
    at
}

/// `grpo` of `base` by the reward model in `folder`.
fn grpo<'a>(folder: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let sets = [
        "train.micro_batch=4",
        LENGTH,
        "rollout.prompts=2",
        "rollout.num_generations=3",
        "rollout.max_completion_length=8",
        "rollout.eval_prompts=5",
        "reward.functions=[\"model\", \"length\"]",
        folder,
    ];
    let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", *set]).collect();
    [&["grpo", "--model", "base", "--steps", "1", "--backend", "cpu"], &sets[..], more].concat()
}

/// The numbers of the last validation of a run.
fn validated(run: &Path) -> Numbers {
    let rows = read_rows(run).unwrap();
    let last =
        rows.into_iter().filter_map(|row| if let Row::Val(row) = row { Some(row.numbers) } else { None }).next_back();
    last.unwrap()
}

/// Prompt and answer up to the token that ends it.
fn sequence(answer: &Encoded) -> &[u32] {
    let last = answer.counted.iter().rposition(|counted| *counted).unwrap();
    &answer.ids[..=last]
}

fn mean(values: &[f32]) -> f64 {
    values.iter().map(|x| f64::from(*x)).sum::<f64>() / values.len() as f64
}

#[test]
fn a_reward_model_says_of_answers_what_it_said_in_its_own_validation() {
    let at = judged();
    let folder = checkpoint(at.path(), "judge");
    let config = Config::resolve(at.path().join("judge/config.toml").to_str(), &[]).unwrap();
    let tokenizer = Tokenizer::load(&folder.join("tokenizer.json").to_string_lossy()).unwrap();
    let encoder = Encoder::new(Template::chatml(&tokenizer).unwrap(), tokenizer.clone(), SftMask::Answers).unwrap();
    let pairs = Preferences::open(&config.data, 0, encoder, config.train.sequence_length, config.train.seed).unwrap();
    let found: Vec<_> = (0..pairs.validated(&config)).map(|i| pairs.val_pair(i)).collect();
    assert_eq!(found.len(), 6);
    let device = Device::Cpu { note: String::new() };
    let model = RewardModel::find(&folder, &config.train, &tokenizer).unwrap();
    let mut scorer = model.open(&config.train, &device).unwrap();
    let chosen: Vec<&[u32]> = found.iter().map(|pair| sequence(&pair.chosen)).collect();
    let rejected: Vec<&[u32]> = found.iter().map(|pair| sequence(&pair.rejected)).collect();
    let [better, worse] = [&chosen, &rejected].map(|answers| scorer.scores(answers).unwrap());
    let said = validated(&at.path().join("judge"));
    for (name, scores) in [("rewards/chosen", &better), ("rewards/rejected", &worse)] {
        assert!((mean(scores) - said[name]).abs() < 1e-5, "{name}: {scores:?} and not {}", said[name]);
    }
    let right = better.iter().zip(&worse).filter(|(better, worse)| better > worse).count();
    assert!((right as f64 / 6.0 - said["rewards/accuracies"]).abs() < 1e-6, "{right} of 6");
    // Another place than the end would be seen.
    let short: Vec<&[u32]> = chosen.iter().map(|ids| &ids[..ids.len() - 1]).collect();
    assert!((mean(&scorer.scores(&short).unwrap()) - said["rewards/chosen"]).abs() > 1e-4);
    // As a run goes on whose device was opened again.
    let by_model = RewardConfig { functions: vec![RewardKind::Model], model: Some(folder), ..RewardConfig::default() };
    let mut rewards = Rewards::open(&by_model, Some(scorer)).unwrap();
    let question = Question { prompt: Vec::new(), reference: None, check: None };
    let samples: Vec<Sample<'_>> =
        chosen.iter().map(|ids| Sample { question: &question, completion: "", tokens: 1, sequence: ids }).collect();
    let expected: Vec<f64> = better.iter().map(|score| f64::from(*score)).collect();
    assert_eq!(rewards.judge(&samples).unwrap().totals, expected);
    rewards.close();
    rewards.renew(model.open(&config.train, &device).unwrap());
    assert_eq!(rewards.judge(&samples).unwrap().totals, expected);
}

#[test]
fn answers_are_judged_by_a_reward_model_and_folders_that_are_none_are_refused() {
    let at = judged();
    let done = succeeds(at.path(), &grpo("reward.model=judge", &["--out", "run", "-v"]));
    assert!(done.err.contains("reward model, beside"), "{}", done.err);
    let said = validated(&at.path().join("run"));
    assert!(said["rewards/model/mean"] != 0.0 && said["rewards/length/mean"] > 0.0, "{said:?}");
    let sum = said["rewards/model/mean"] + said["rewards/length/mean"];
    assert!((said["reward"] - sum).abs() < 1e-6, "{said:?}");
    // The checkpoint is named from anywhere, so that the run goes on after the reward model has learnt more.
    let config = Config::resolve(at.path().join("run/config.toml").to_str(), &[]).unwrap();
    assert_eq!(config.reward.unwrap().model, Some(checkpoint(at.path(), "judge")));
    let resumed = ["grpo", "--resume", "run", "--steps", "2", "--allow-changes", "--backend", "cpu"];
    succeeds(at.path(), &resumed);
    a_plan_counts_it(at.path());
    // A model that writes; none at all; another vocabulary; fewer positions; a plan without room for it.
    let bad = |model: &str, more: &[&str], code: i32, words: &[&str]| {
        refused(at.path(), &grpo(&format!("reward.model={model}"), &[&["--out", "none"], more].concat()), code, words);
        assert!(!at.path().join("none").exists());
    };
    bad("base", &[], 2, &["base", "holds a model that writes"]);
    bad("gone", &[], 2, &["gone", "does not exist"]);
    bad("judge", &["--vram", "1MiB"], 3, &["the plan needs"]);
    copy(&checkpoint(at.path(), "judge"), &at.path().join("other"));
    fs::remove_file(at.path().join("other/manifest.json")).unwrap();
    let config = at.path().join("other/config.json");
    let mut keys = json(&config);
    keys["max_position_embeddings"] = 64.into();
    fs::write(&config, keys.to_string()).unwrap();
    bad("other", &[], 2, &["train.sequence_length: is 96", "takes 64"]);
    fs::write(at.path().join("other/tokenizer.json"), Tokenizer::load("byte").unwrap().json()).unwrap();
    bad("other", &[], 2, &["tokenizer.json", "is not the vocabulary"]);
}

/// Of the memory that is left by a reward model fewer sequences are trained at a time.
fn a_plan_counts_it(at: &Path) {
    let plan = |more: &[&str]| {
        let base = ["plan", "run/config.toml", "--vram", "64MiB", "--set", "train.precision=f32"];
        succeeds(at, &[&base, more].concat()).out
    };
    let (with, without) = (plan(&[]), plan(&["--set", "reward.functions=[\"length\"]"]));
    assert!(with.contains("reward model, beside") && !without.contains("reward model"), "{with}\n{without}");
    assert!(fits(&with) >= 1 && fits(&with) < fits(&without), "{with}\n{without}");
    let set = format!("train.micro_batch={}", fits(&with));
    succeeds(at, &grpo("reward.model=judge", &["--set", &set, "--vram", "64MiB", "--out", "capped"]));
    refused(at, &["plan", "run/config.toml", "--set", "reward.model=base"], 2, &["holds a model that writes"]);
    let beside = |plan: &str| plan.matches("reward model, beside").count();
    assert!(beside(&with) == 2 && with.lines().last().unwrap().contains(" beside, and "), "{with}");
    let done = hadal(at, &["plan", "run/config.toml", "--vram", "8MiB"]);
    assert!(done.code == 3 && done.err.contains(" beside of 8.00 MiB"), "{}", done.err);
    // Planned where its files are not.
    let done = succeeds(at, &["plan", "run/config.toml", "--set", "reward.model=gone"]);
    assert!(
        beside(&done.out) == 0 && done.err.contains("the reward model is not counted: gone is not there"),
        "{}",
        done.err
    );
}
