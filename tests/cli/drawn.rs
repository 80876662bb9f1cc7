//! Answers that a run draws, judges and learns from: GRPO and PPO.

use super::alignment::{GROUPS, SINGLE, UPDATES, end, folder, learnt, numbers, resume, stage};
use super::files::{CHECKPOINT, edit};
use super::pairs::apart;
use super::sft::checkpoint;
use super::{refused, shared, succeeds};
use hadal::checkpoint::tensors::read_tensors;
use hadal::train::rows::{Row, TrainRow};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

/// Two answers fit in a row, and a pass takes two rows: an update of eight answers makes two passes.
const PACKED: [&str; 4] = ["--set", "train.sequence_length=64", "--set", "train.micro_batch=2"];
/// Rewards that are all alike: no answer of so few tokens ends.
const EQUAL: [&str; 4] = ["--set", "reward.functions=[\"length\"]", "--set", "reward.max_length=6"];
/// No other loss than that of the answers.
const ALONE: [&str; 4] = ["--set", "model.aux_loss_alpha=0", "--set", "optimizer.weight_decay=0"];

fn updates(at: &Path, run: &str) -> Vec<TrainRow> {
    learnt(at, run).into_iter().filter_map(|row| if let Row::Train(row) = row { Some(row) } else { None }).collect()
}

#[test]
fn of_equal_rewards_nothing_is_learnt_but_what_the_divergence_says() {
    let at = folder();
    let run = |out: &str, beta: &str| {
        let more = ["--steps", "4", "--out", out, "--set", beta, "--set", "rollout.num_iterations=4"];
        succeeds(at.path(), &stage("grpo", &[&GROUPS[..], &EQUAL, &ALONE, &more].concat()));
        updates(at.path(), out)
    };
    for row in run("free", "grpo.beta=0") {
        assert_eq!((row.loss, row.grad_norm, row.numbers["frac_reward_zero_std"]), (0.0, 0.0, 1.0), "{row:?}");
    }
    let [first, last] = [shared().join(CHECKPOINT), checkpoint(at.path(), "free")]
        .map(|folder| read_tensors(&folder.join("model.safetensors")).unwrap());
    assert!(first == last, "not a weight has changed");
    // Of weights that are the reference's the divergence has no gradient either: it is at its least.
    for row in run("held", "grpo.beta=0.5") {
        assert_eq!((row.loss, row.numbers["kl"]), (0.0, 0.0), "{row:?}");
        assert!(row.grad_norm < 1e-6, "{row:?}");
    }
}

#[test]
fn of_equal_rewards_a_bonus_on_entropy_makes_answers_more_various() {
    let at = folder();
    let run = |kind: &str, draws: &[&str], sets: [&str; 2]| {
        let more = ["--steps", "12", "--out", kind, "--set", sets[0], "--set", sets[1]];
        succeeds(at.path(), &stage(kind, &[draws, &EQUAL, &ALONE, &more].concat()));
        updates(at.path(), kind)
    };
    let rows = run("grpo", &GROUPS, ["grpo.ent_coef=0.1", "grpo.beta=0"]);
    let (first, last) = (rows[0].numbers["entropy"], rows[11].numbers["entropy"]);
    let most = 1024f64.ln(); // of the vocabulary
    assert!(most - last < 0.75 * (most - first), "{first} {last}");
    let share = rows[0].loss / first;
    assert!((share + 0.1).abs() < 1e-5, "the loss is minus the bonus: {share}");
    // PPO's loss of the policy is without it.
    let rows = run("ppo", &SINGLE, ["ppo.ent_coef=0.1", "ppo.kl_coef=0"]);
    let all = rows[0].loss - 0.1 * rows[0].numbers["loss/value_avg"];
    let policy = rows[0].numbers["loss/policy_avg"] - 0.1 * rows[0].numbers["entropy"];
    assert!((all - policy).abs() < 1e-5, "{all} {policy}");
}

#[test]
fn the_divergence_alone_pulls_back_what_rewards_have_moved() {
    let at = folder();
    // Rewards for one batch, none that differ after it: an empty pattern suits every answer.
    let more = ["--steps", "2", "--out", "run", "--set", "grpo.beta=0.5", "--set", "train.checkpoint_interval=2"];
    succeeds(at.path(), &stage("grpo", &[&GROUPS[..], &ALONE, &more].concat()));
    let alike = ["--steps", "4", "--allow-changes", "--set", "reward.pattern=", "--set", "reward.weights=[0]"];
    succeeds(at.path(), &resume("grpo", "run", &alike));
    let rows = updates(at.path(), "run");
    assert_eq!(rows[2].numbers["frac_reward_zero_std"], 1.0);
    assert!(rows[2].numbers["kl"] > 0.0 && rows[2].loss > 0.0 && rows[2].grad_norm > 1e-6, "{:?}", rows[2]);
    let share = rows[2].loss / rows[2].numbers["kl"];
    assert!((share - 0.5).abs() < 1e-5, "the loss is beta times the divergence: {share}");
}

#[test]
fn the_penalty_of_ppo_keeps_the_divergence_below_its_bound() {
    let at = folder();
    let run = |out: &str, coefficient: &str| {
        let more = ["--steps", "24", "--out", out, "--set", coefficient, "--set", "optimizer.learning_rate=2e-2"];
        succeeds(at.path(), &stage("ppo", &[&SINGLE[..], &more].concat()));
        let rows = updates(at.path(), out);
        let mean = |name: &str, rows: &[TrainRow]| rows.iter().map(|row| row.numbers[name]).sum::<f64>() / 8.0;
        let [first, last] = [&rows[..8], &rows[16..]].map(|rows| mean("reward", rows));
        (last - first, mean("objective/kl", &rows[16..]))
    };
    // Rewards lie in 0 to 1. Of a policy that gains more by the reward than it pays, the divergence is below 1 / beta.
    let bound = 1.0 / 0.25;
    let ((free, far), (held, near)) = (run("free", "ppo.kl_coef=1e-6"), run("held", "ppo.kl_coef=0.25"));
    println!("free: reward {free:+.3}, divergence {far:.3}; held: {held:+.3}, {near:.3}");
    assert!(near < bound && bound < far, "{near} {far}");
    assert!(free > 0.0, "{free}");
}

#[test]
fn a_validation_finds_the_same_however_many_questions_are_asked_at_a_time() {
    let at = folder();
    let found = |prompts: &str| {
        let set = format!("rollout.prompts={prompts}");
        let sets = ["--set", &set, "--set", "rollout.num_generations=1", "--steps", "1", "--out", prompts];
        succeeds(at.path(), &stage("ppo", &sets));
        let written = fs::read_to_string(at.path().join(prompts).join("samples/step-0.txt")).unwrap();
        (numbers(at.path(), prompts, 1)[0].clone(), written)
    };
    let (one, all) = (found("1"), found("8"));
    assert!(all.1.contains("Say 4.") && all.1.contains("Say 5."), "{}", all.1);
    assert_eq!(one, all);
}

#[test]
fn in_the_first_update_of_a_batch_the_ratio_is_exactly_1() {
    let at = folder();
    let kl = ["--set", "grpo.beta=0.1"];
    for (kind, draws) in [("grpo", [&GROUPS[..], &kl].concat()), ("ppo", SINGLE.to_vec())] {
        for (name, rows) in [("packed", &PACKED[..]), ("plain", &[])] {
            let run = format!("{kind}-{name}");
            let more = ["--steps", "4", "--out", &run, "--set", "rollout.num_iterations=2"];
            succeeds(at.path(), &stage(kind, &[&draws, rows, &more].concat()));
            let rows = updates(at.path(), &run);
            // Two batches of two updates each.
            let first: Vec<bool> = rows.iter().map(|row| unmoved(kind, row)).collect();
            assert_eq!(first, [true, false, true, false], "{run}: {rows:?}");
            if kind == "grpo" {
                assert_eq!(rows[0].numbers["kl"], 0.0);
                assert!(rows[2].numbers["kl"] > 0.0, "the reference stays behind: {rows:?}");
            }
        }
    }
}

/// Whether the policy is to the bit the one that drew the answers. Advantages of a group add up to 0, and so does the
/// loss of answers of one length while no ratio has moved.
fn unmoved(kind: &str, row: &TrainRow) -> bool {
    let number = |name: &str| row.numbers[name];
    match kind {
        "ppo" => {
            let unclipped = number("policy/clipfrac_avg") == 0.0 && number("val/clipfrac_avg") == 0.0;
            number("val/ratio") == 1.0 && number("policy/approxkl_avg") == 0.0 && unclipped
        }
        _ => number("clip_ratio/region_mean") == 0.0 && (row.loss - 0.1 * number("kl")).abs() < 1e-7,
    }
}

#[test]
fn rows_of_a_pass_change_nothing_but_roundings() {
    let at = folder();
    for (kind, draws) in [("grpo", [&GROUPS[..], &["--set", "grpo.beta=0.1"]].concat()), ("ppo", SINGLE.to_vec())] {
        let run = |rows: &str, steps: &str| {
            let (name, set) = (format!("{kind}-{rows}-{steps}"), format!("train.micro_batch={rows}"));
            let more = ["--steps", steps, "--out", &name, "--set", &set, "--set", "rollout.num_iterations=3"];
            succeeds(at.path(), &stage(kind, &[&draws, &ALONE[..], &more].concat()));
            name
        };
        let (one, many, fewer) = (run("1", "3"), run("8", "3"), run("8", "2"));
        let [same, other] = [&many, &fewer].map(|run| apart(at.path(), &one, run));
        println!("{kind}: {same:.1e} of the way apart, {other:.1e} without the last update");
        assert!(same < 1e-4 && other > 0.1, "{kind}: {same} {other}");
    }
}

/// The numbers of updates after which a run of eight stops for good: within both batches, between them, and twice.
const STOPS: [&[&str]; 3] = [&["1"], &["4", "6"], &["3", "7"]];

#[test]
fn a_run_that_stops_amid_a_batch_ends_in_the_bytes_of_one_that_does_not() {
    let at = folder();
    for (kind, draws) in [("grpo", [&GROUPS[..], &["--set", "grpo.beta=0.1"]].concat()), ("ppo", SINGLE.to_vec())] {
        let run = |out: &str, steps: &str| {
            let more = ["--steps", steps, "--out", out, "--set", "train.checkpoint_interval=1"];
            succeeds(at.path(), &stage(kind, &[&draws, &UPDATES[..], &more].concat()));
        };
        let whole = format!("{kind}-whole");
        run(&whole, "8");
        let train = |run: &str| updates(at.path(), run);
        for stops in STOPS {
            let part = format!("{kind}-{}", stops.concat());
            run(&part, stops[0]);
            for steps in stops[1..].iter().chain(&["8"]) {
                succeeds(at.path(), &resume(kind, &part, &["--steps", steps]));
            }
            assert!(end(at.path(), &part) == end(at.path(), &whole), "{part}");
            assert_eq!(train(&part), train(&whole), "{part}");
        }
        // The comparison sees a batch that is drawn anew in the middle.
        let again = format!("{kind}-again");
        run(&again, "2");
        forget(&checkpoint(at.path(), &again), |state| drop(state.as_object_mut().unwrap().remove("rollout")));
        succeeds(at.path(), &resume(kind, &again, &["--steps", "8"]));
        assert!(end(at.path(), &again) != end(at.path(), &whole), "{kind}");
    }
}

/// Changes what a checkpoint says of the run, and lets go of what would give it away.
fn forget(folder: &Path, change: impl FnOnce(&mut Value)) {
    let _ = fs::remove_file(folder.join("manifest.json"));
    edit(&folder.join("trainer_state.json"), |text| {
        let mut state: Value = serde_json::from_str(&text).unwrap();
        change(&mut state);
        state.to_string()
    });
}

/// Sets a key of the answers of these numbers.
fn set(state: &mut Value, numbers: std::ops::Range<usize>, key: &str, value: Value) {
    for number in numbers {
        state["rollout"]["answers"][number][key] = value.clone();
    }
}

/// What is done to a checkpoint's answers, and words of the refusal.
type Hostile = (fn(&mut Value), &'static str);

const HOSTILE: [Hostile; 13] = [
    (|s| s["rollout"]["answers"] = json!([]), "answers that are 0, too few"),
    (|s| s["rollout"]["answers"].as_array_mut().unwrap().truncate(1), "answers that are 1, too few"),
    (|s| set(s, 7..8, "tokens", json!("1024 1 1 1 1 1")), "a token in number 7 that the vocabulary of 1024 lacks"),
    (|s| set(s, 0..1, "prompt", json!("4294967295")), "the vocabulary of 1024 lacks"),
    (|s| set(s, 0..1, "prompt", json!("1 ".repeat(99))), "does not fit in a row of 48"),
    (|s| set(s, 3..4, "tokens", json!("")), "number 3, that does not fit"),
    (|s| set(s, 3..4, "old", json!("-1 -1")), "do not belong to its 6 tokens"),
    (|s| set(s, 3..4, "advantages", json!("NaN 0 0 0 0 0")), "numbers in number 3 that do not belong"),
    (|s| set(s, 3..4, "returns", json!("0 0 0 0 0 inf")), "numbers in number 3 that do not belong"),
    (|s| set(s, 0..1, "reference", json!("")), "lack log-probabilities by the reference"),
    (|s| set(s, 1..8, "reference", json!("")), "lack log-probabilities by the reference"),
    (|s| set(s, 0..1, "tokens", json!("1 -1")), "numbers with spaces between them"),
    (|s| s["rollout"]["answers"][0]["counts"] = json!(2), "trainer_state.json"),
];

#[test]
fn drawn_answers_that_no_run_left_are_refused_in_one_line() {
    let at = folder();
    for (kind, draws) in [("grpo", [&GROUPS[..], &["--set", "grpo.beta=0.1"]].concat()), ("ppo", SINGLE.to_vec())] {
        let run = [&draws, &UPDATES[..], &["--steps", "1", "--out", kind]].concat();
        succeeds(at.path(), &stage(kind, &run));
        let folder = checkpoint(at.path(), kind);
        let before = fs::read_to_string(folder.join("trainer_state.json")).unwrap();
        let go_on = resume(kind, kind, &["--steps", "2"]);
        let mut hostile = HOSTILE.to_vec();
        if kind == "ppo" {
            let valueless: [Hostile; 2] = [
                (|s| ["values", "returns"].iter().for_each(|key| set(s, 0..1, key, json!(""))), "lack values"),
                (|s| ["values", "returns"].iter().for_each(|key| set(s, 0..8, key, json!(""))), "lack values"),
            ];
            hostile.extend(valueless);
        } else {
            hostile.push((|s| set(s, 0..8, "reference", json!("")), "lack log-probabilities by the reference"));
        }
        for (change, words) in hostile {
            forget(&folder, change);
            refused(at.path(), &go_on, 2, &[words]);
            fs::write(folder.join("trainer_state.json"), &before).unwrap();
        }
        // A batch with another number is not the one that is due, and is drawn anew.
        forget(&folder, |state| state["rollout"]["number"] = json!(u64::MAX));
        succeeds(at.path(), &go_on);
    }
}

#[test]
fn a_divergence_that_is_asked_for_amid_a_batch_needs_its_numbers() {
    let at = folder();
    let more = ["--steps", "1", "--out", "run", "--set", "grpo.beta=0"];
    succeeds(at.path(), &stage("grpo", &[&GROUPS[..], &UPDATES, &more].concat()));
    let later = ["--steps", "6", "--allow-changes", "--set", "grpo.beta=0.1"];
    let words = ["lack log-probabilities by the reference", "go on with the settings"];
    refused(at.path(), &resume("grpo", "run", &later), 2, &words);
    succeeds(at.path(), &resume("grpo", "run", &["--steps", "4"]));
    succeeds(at.path(), &resume("grpo", "run", &later));
    assert!(numbers(at.path(), "run", 5)[1]["kl"] > 0.0);
}

#[test]
fn a_prompt_that_leaves_no_room_is_refused_before_there_is_a_run() {
    let at = folder();
    let line = |words: usize| format!("{{\"prompt\": \"{}\", \"answer\": \"b\"}}\n", "a word or ".repeat(words));
    fs::write(at.path().join("long.jsonl"), line(1).repeat(20) + &line(60)).unwrap();
    let run = stage("grpo", &[&GROUPS[..], &["--data", "long.jsonl", "--out", "none"]].concat());
    refused(at.path(), &run, 2, &["train.sequence_length: is 48, and a prompt has", "tokens"]);
    assert!(!at.path().join("none").exists());
}
