//! Pipelines: their runs, picture and table, and going on with one.

use super::files::{copy, edit};
use super::resume::parameters;
use super::sft::chats;
use super::{SMALL, misused, refused, succeeds};
use hadal::config::{Config, Kind};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::sync::OnceLock;
use tempfile::TempDir;

const STAGES: [&str; 5] = ["pretrain", "sft", "reward", "dpo", "grpo"];
/// Makes every stage one of a second.
const SETS: [&str; 13] = [
    "train.steps=2",
    "train.checkpoint_interval=1",
    "train.sample_interval=0",
    "model.max_position_embeddings=96",
    "sft:train.sequence_length=96",
    "reward:train.sequence_length=96",
    "dpo:train.sequence_length=96",
    "dpo:optimizer.learning_rate=0.01",
    "grpo:train.sequence_length=96",
    "grpo:rollout.prompts=2",
    "grpo:rollout.max_completion_length=6",
    "grpo:rollout.eval_prompts=4",
    "grpo:reward.functions=[\"model\"]",
];

/// A folder with the finished pipeline `whole` and its table as printed; only to be read.
fn whole() -> &'static (TempDir, String) {
    static WHOLE: OnceLock<(TempDir, String)> = OnceLock::new();
    WHOLE.get_or_init(|| {
        let at = chats();
        let folder = at.path().display();
        let own =
            [format!("grpo:reward.model={folder}/whole/reward"), format!("sft:data.path=[\"{folder}/chats.jsonl\"]")];
        let sets: Vec<&str> = SETS.into_iter().chain(own.iter().map(String::as_str)).collect();
        let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", *set]).collect();
        let stages = STAGES.join(",");
        let own = ["--stages", &stages, "--out", "whole"];
        let done = succeeds(at.path(), &[&["pipeline"], &SMALL[..], &sets, &own].concat());
        (at, done.out)
    })
}

/// The cells of the table's rows but the time.
fn cells(table: &str) -> Vec<Vec<&str>> {
    let rows = table.lines().filter(|line| STAGES.iter().any(|stage| line.starts_with(&format!("| {stage} |"))));
    let mut cells: Vec<Vec<&str>> = rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect()).collect();
    for row in &mut cells {
        row.remove(2);
    }
    cells
}

#[test]
fn a_pipeline_leaves_a_run_for_each_stage_from_the_policy_before_a_picture_and_the_table_that_it_prints() {
    let (at, printed) = whole();
    let out = at.path().join("whole");
    assert!(image::open(out.join("pipeline.png")).unwrap().width() > 100);
    let table = fs::read_to_string(out.join("pipeline.md")).unwrap();
    let rows = cells(&table);
    assert_eq!(rows, cells(printed));
    assert_eq!(rows.iter().map(|row| row[0]).collect::<Vec<_>>(), STAGES);
    for (row, what) in rows.iter().zip(["loss", "loss", "pairs", "pairs", "reward"]) {
        assert!(row[1] == "2" && row[2].starts_with(what) && row[3] != "-" && row[4] != "-", "{row:?}");
    }
    // Of the world's chats, or what came after them, there is an exam.
    assert_eq!(rows.iter().map(|row| row[5] != "-").collect::<Vec<_>>(), [false, false, false, true, true]);
    assert!(table.contains("s in all") && table.contains("has an entropy of 0."), "{table}");
    let of = |stage: &str| Config::resolve(out.join(stage).join("config.toml").to_str(), &[]).unwrap();
    for (stage, kind, before) in [
        ("sft", Kind::Sft, "pretrain"),
        ("reward", Kind::Reward, "sft"),
        ("dpo", Kind::Dpo, "sft"),
        ("grpo", Kind::Grpo, "dpo"),
    ] {
        let config = of(stage);
        assert_eq!(config.kind(), kind);
        assert_eq!(config.train.model, Some(out.join(before).join("checkpoints/step-00000002")), "{stage}");
    }
    assert_eq!((of("dpo").optimizer.learning_rate, of("reward").optimizer.learning_rate), (0.01, 4e-4));
}

#[test]
fn a_stopped_pipeline_goes_on_and_ends_like_one_without_a_stop() {
    let (finished, table) = whole();
    let at = tempfile::tempdir().unwrap();
    let [out, whole] = [at.path().join("stopped"), finished.path().join("whole")];
    // As a stop in the fourth stage, after its first update, leaves it.
    for stage in &STAGES[..4] {
        copy(&whole.join(stage), &out.join(stage));
    }
    fs::remove_dir_all(out.join("dpo/checkpoints/step-00000002")).unwrap();
    fs::write(out.join("dpo/checkpoints/latest"), "step-00000001\n").unwrap();
    fs::copy(whole.join("pipeline.json"), out.join("pipeline.json")).unwrap();
    edit(&out.join("pipeline.json"), |text| {
        let mut state: Value = serde_json::from_str(&text).unwrap();
        let stays = state["stays"].as_array_mut().unwrap();
        assert_eq!(stays.len(), STAGES.len());
        stays.truncate(4);
        (stays[3]["finished"], stays[3]["exam"]) = (json!(false), Value::Null);
        state.to_string()
    });
    let done = succeeds(at.path(), &["pipeline", "--out", "stopped", "--resume", "--backend", "cpu"]);
    assert!(done.err.contains("dpo/checkpoints/step-00000001 at step 1"), "{}", done.err);
    assert!(!done.err.contains("stage 3 of 5") && done.err.contains("stage 5 of 5: grpo"), "{}", done.err);
    // The policy is that of the folder it was in.
    assert_eq!(cells(&done.out), cells(table));
    for stage in &STAGES[3..] {
        assert!(parameters(&out, stage) == parameters(&whole, stage), "{stage}");
    }
    assert!(same_picture(&out, &whole));
    // What is done is not done again.
    let again = succeeds(at.path(), &["pipeline", "--out", "stopped", "--resume", "--backend", "cpu"]);
    assert!(!again.err.contains("stage ") && done.out.ends_with(&again.out), "{}", again.err);
}

fn same_picture(a: &Path, b: &Path) -> bool {
    let [a, b] = [a, b].map(|out| fs::read(out.join("pipeline.png")).unwrap());
    a == b
}

#[test]
fn bad_pipelines_are_refused_before_anything_begins() {
    let at = tempfile::tempdir().unwrap();
    misused(at.path(), &["pipeline", "--resume"], "--out");
    misused(at.path(), &["pipeline", "--stages", "pretrain,rlhf"], "pretrain, sft, reward, dpo, grpo, ppo");
    let bad = |more: &[&str], words: &[&str]| {
        refused(at.path(), &[&["pipeline", "--out", "out"], more].concat(), 2, words);
        assert!(!at.path().join("out").exists(), "{more:?}");
    };
    bad(&["--stages", "sft,dpo"], &["must begin with pretrain"]);
    bad(&["--stages", "pretrain,sft,sft"], &["a stage twice"]);
    bad(&["--set", "dpo:train.stpes=2"], &["train.stpes", "train.steps"]);
    bad(&["--set", "ppo:train.steps=2"], &["--set ppo:train.steps=2", "none of the stages"]);
    bad(&["missing.toml"], &["missing.toml", "tiny, small"]);
    let whole = whole().0.path();
    refused(whole, &["pipeline", "--out", "whole"], 2, &["not empty", "--resume"]);
    let other = ["pipeline", "--out", "whole", "--resume", "--stages", "pretrain,sft"];
    refused(whole, &other, 2, &["pretrain,sft,reward,dpo,grpo", "leave --stages out"]);
    refused(
        at.path(),
        &["pipeline", "--out", "typo", "--resume"],
        2,
        &["typo", "holds no pipeline", "without --resume"],
    );
    fs::create_dir(at.path().join("odd")).unwrap();
    fs::write(at.path().join("odd/pipeline.json"), "{\"stages\": 5}").unwrap();
    refused(at.path(), &["pipeline", "--out", "odd", "--resume"], 2, &["pipeline.json", "is no pipeline's state"]);
}
