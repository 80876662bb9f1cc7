//! `hadal eval` of preference training: what the last validation of a run said, and the same of other files.

use super::alignment::{STAGES, folder, learnt, stage};
use super::lora::RANK;
use super::{refused, succeeds};
use hadal::train::rows::{Numbers, Row, ValRow};
use std::fs;
use std::path::Path;

/// What `hadal eval` prints, by name.
fn evaluated(at: &Path, args: &[&str]) -> Numbers {
    let out = succeeds(at, &[&["eval", "--backend", "cpu"], args].concat()).out;
    let number = |line: &str| line.split_once(' ').map(|(name, value)| (name.to_owned(), value.parse().unwrap()));
    out.lines().map(|line| number(line).unwrap()).collect()
}

/// The last validation of a run.
fn validated(at: &Path, run: &str) -> ValRow {
    let of = |row: Row| if let Row::Val(row) = row { Some(row) } else { None };
    learnt(at, run).into_iter().filter_map(of).next_back().unwrap()
}

/// Whether every number of a validation is what an evaluation found: to the six decimals that it prints, and to what
/// sums in f32 lose where an evaluation merges adapters that training keeps apart.
fn agrees(found: &Numbers, row: &ValRow) -> bool {
    let loss = row.loss.is_finite().then(|| ("loss".to_owned(), row.loss));
    let mut all = row.numbers.clone().into_iter().chain(loss);
    all.all(|(name, value)| found.get(&name).is_some_and(|x| (x - value).abs() <= 1e-6 + 1e-5 * value.abs()))
}

#[test]
fn a_run_is_worth_what_its_last_validation_said() {
    let at = folder();
    let mut moved = 0;
    for (kind, draws) in STAGES {
        for (adapters, sets) in [(false, &[][..]), (true, &RANK[..])] {
            if adapters && matches!(kind, "reward" | "ppo") {
                continue;
            }
            let run = format!("{kind}-{adapters}");
            let more = ["--steps", "3", "--out", &run, "--set", "train.eval_interval=3"];
            // Rows as long as the model takes.
            let own = ["--set", "optimizer.learning_rate=0.02", "--set", "train.sequence_length=64"];
            succeeds(at.path(), &stage(kind, &[draws, sets, &more, &own].concat()));
            let (found, row) = (evaluated(at.path(), &[&run]), validated(at.path(), &run));
            assert!(agrees(&found, &row), "{run}: {found:?} beside {row:?}");
            assert_eq!(found[if draws.is_empty() { "pairs" } else { "questions" }], 2.0, "{run}");
            // Other weights would be seen.
            let first = learnt(at.path(), &run).into_iter().next().unwrap();
            assert!(matches!(&first, Row::Val(first) if first.step == 0), "{first:?}");
            moved += usize::from(matches!(first, Row::Val(first) if !agrees(&found, &first)));
        }
    }
    // Greedy answers of a run may stay what they were.
    assert!(moved > 3, "{moved} of 6 runs have other numbers than their first weights");
}

#[test]
fn other_files_are_judged_as_a_whole() {
    let at = folder();
    let text = fs::read_to_string(at.path().join("pairs.jsonl")).unwrap();
    let swapped = text.replace("chosen", "other").replace("rejected", "chosen").replace("other", "rejected");
    fs::write(at.path().join("swapped.jsonl"), swapped).unwrap();
    for (kind, draws) in [STAGES[0], STAGES[2]] {
        let more = ["--steps", "6", "--out", kind, "--set", "optimizer.learning_rate=0.02"];
        succeeds(at.path(), &stage(kind, &[draws, &more].concat()));
    }
    let [right, wrong] = ["pairs.jsonl", "swapped.jsonl"].map(|file| evaluated(at.path(), &["reward", "--data", file]));
    assert_eq!((right["pairs"], wrong["pairs"]), (20.0, 20.0));
    assert!(right["rewards/accuracies"] > 0.6, "{right:?}");
    assert!((right["rewards/accuracies"] + wrong["rewards/accuracies"] - 1.0).abs() < 1e-6, "{right:?} {wrong:?}");
    assert!((right["rewards/margins"] + wrong["rewards/margins"]).abs() < 2e-6);
    assert_eq!(evaluated(at.path(), &["grpo", "--data", "asked.jsonl"])["questions"], 20.0);
    refused(at.path(), &["eval", "grpo", "--data", "pairs.jsonl", "--backend", "cpu"], 2, &["line 1 has two answers"]);
    fs::write(at.path().join("question.jsonl"), r#"{"prompt": "Why?", "answer": "So"}"#).unwrap();
    let wrong = ["eval", "reward", "--data", "question.jsonl", "--backend", "cpu"];
    refused(at.path(), &wrong, 2, &["line 1 has no \"chosen\""]);
}

#[test]
fn answers_are_judged_as_the_run_says_or_the_arguments() {
    let at = folder();
    succeeds(at.path(), &stage("reward", &["--steps", "2", "--out", "judge"]));
    let model = ["--set", "reward.functions=[\"model\", \"format\"]", "--set", "reward.model=judge"];
    // Two questions make a batch: twenty are asked in ten.
    let more = ["--steps", "1", "--out", "run", "--set", "train.eval_interval=1", "--set", "rollout.prompts=2"];
    let single = ["--set", "rollout.num_generations=1"];
    succeeds(at.path(), &stage("ppo", &[&model[..], &more, &single].concat()));
    assert!(agrees(&evaluated(at.path(), &["run"]), &validated(at.path(), "run")));
    let asked = ["run", "--data", "asked.jsonl"];
    let all = evaluated(at.path(), &asked);
    assert_eq!(all["questions"], 20.0);
    let other = evaluated(at.path(), &[&asked[..], &["--set", "reward.functions=[\"format\"]"]].concat());
    assert!(!other.contains_key("rewards/model/mean"));
    assert_eq!(other["rewards/format/mean"], all["rewards/format/mean"]);
    fs::write(at.path().join("odd.jsonl"), "{\"prompt\": \"Why?\"}\n{\"nothing\": 1}\n").unwrap();
    let odd = ["run", "--data", "odd.jsonl", "--backend", "cpu"];
    refused(at.path(), &[&["eval"], &odd[..]].concat(), 2, &["line 2"]);
    assert_eq!(evaluated(at.path(), &[&odd[..3], &["--max-bad-lines", "1"]].concat())["questions"], 1.0);
}

#[test]
fn what_cannot_be_judged_is_refused() {
    let at = folder();
    succeeds(at.path(), &stage("dpo", &["--steps", "2", "--out", "dpo"]));
    let eval = ["eval", "dpo", "--backend", "cpu"];
    refused(at.path(), &[&eval[..], &["--data", "pairs.jsonl"]].concat(), 2, &["--data", "is not known"]);
    fs::remove_file(at.path().join("dpo/reference_logps.safetensors")).unwrap();
    refused(at.path(), &eval, 2, &["dpo", "lacks what the weights that it began with think"]);
    // Files of a run that somebody wrote on.
    for (kind, draws) in [STAGES[0], STAGES[2]] {
        let run = format!("{kind}-run");
        succeeds(at.path(), &stage(kind, &[draws, &["--steps", "1", "--out", &run]].concat()));
        let file = at.path().join(&run).join("config.toml");
        let config = fs::read_to_string(&file).unwrap();
        let eval = ["eval", &run, "--backend", "cpu"];
        for (from, to, words) in [
            ("micro_batch = 4", "micro_batch = 0", "train.micro_batch"),
            ("sequence_length = 48", "sequence_length = 65", "train.sequence_length: is 65"),
            ("eval_prompts = 2", "eval_prompts = 9000000000000000000", "rollout.eval_prompts"),
            ("\nprompts = 2", "\nprompts = 0", "rollout.prompts: is 0"),
        ] {
            if config.contains(from) {
                fs::write(&file, config.replace(from, to)).unwrap();
                refused(at.path(), &eval, 2, &[words]);
            }
        }
        assert!(config.contains("micro_batch = 4") && config.contains("eval_prompts = 2") != draws.is_empty());
        fs::write(&file, config).unwrap();
        for size in ["--length", "--batch", "--batches"] {
            refused(at.path(), &[&eval[..], &[size, "4"]].concat(), 2, &[size, "is for text"]);
        }
        fs::write(super::sft::checkpoint(at.path(), &run).join("model.safetensors"), "nothing").unwrap();
        refused(at.path(), &eval, 2, &["model.safetensors"]);
    }
    // Also of a run of text.
    let text = super::shared().join("run");
    let eval = ["eval", &text.to_string_lossy(), "--backend", "cpu", "--set"];
    refused(at.path(), &[&eval[..], &["train.sequence_length=0"]].concat(), 2, &["train.sequence_length"]);
    refused(at.path(), &[&eval[..], &["train.micro_batches=4"]].concat(), 2, &["train.micro_batches", "micro_batch"]);
    for idle in ["optimizer.learning_rate=1e-4", "model.rope_theta=1", "train.steps=3", "train.micro_batch=4"] {
        let key = idle.split('=').next().unwrap();
        refused(at.path(), &[&eval[..], &[idle]].concat(), 2, &[key, "has no effect in `hadal eval`"]);
    }
    refused(at.path(), &["plan", "tiny", "--set", "lora.alpha=8"], 2, &["lora.alpha", "while lora.rank is 0"]);
    let folder = super::sft::checkpoint(at.path(), "dpo");
    let set = ["eval", &folder.to_string_lossy(), "--data", "asked.jsonl", "--set", "dpo.beta=1"];
    refused(at.path(), &set, 2, &["--set", "MODEL is none"]);
}
