//! Reward models and direct preference optimisation.

use super::alignment::{end, folder, learnt, numbers, resume, stage};
use super::sft::checkpoint;
use super::{refused, succeeds};
use hadal::checkpoint::tensors::{Tensor, Values, read_tensors, write_tensors};
use hadal::train::references::REFERENCES;
use hadal::train::rows::Row;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Updates of two passes of one pair each.
const PASSES: [&str; 4] = ["--set", "train.micro_batch=2", "--set", "train.accumulation=2"];

#[test]
fn of_weights_that_have_not_changed_the_loss_is_ln_2_and_no_answer_is_better() {
    let at = folder();
    for (kind, passes) in [("dpo", &PASSES[..]), ("dpo", &[]), ("reward", &PASSES), ("reward", &[])] {
        let run = format!("{kind}-{}", passes.len());
        succeeds(at.path(), &stage(kind, &[passes, &["--steps", "2", "--out", &run]].concat()));
        let rows = learnt(at.path(), &run);
        let losses: Vec<f64> = rows
            .iter()
            .map(|row| match row {
                Row::Val(row) => row.loss,
                Row::Train(row) => row.loss,
            })
            .collect();
        let ln_2 = f64::from(std::f32::consts::LN_2);
        assert!((losses[0] - ln_2).abs() < 2e-7 && (losses[1] - ln_2).abs() < 2e-7, "{kind}: {losses:?}");
        for numbers in numbers(at.path(), &run, 1) {
            for name in ["rewards/chosen", "rewards/rejected", "rewards/margins"] {
                assert_eq!(numbers[name], 0.0, "{kind}: {name}");
            }
        }
        // After one update they do differ.
        assert!(losses[2] != losses[1] && numbers(at.path(), &run, 2)[1]["rewards/margins"] != 0.0, "{losses:?}");
    }
}

fn reals(tensors: &BTreeMap<String, Tensor>) -> BTreeMap<&str, &[f64]> {
    let mut found = BTreeMap::new();
    for (name, tensor) in tensors {
        if let Values::Real(values) = &tensor.values {
            found.insert(name.as_str(), values.as_slice());
        }
    }
    found
}

/// How far apart two runs ended, as a share of the way of the first from the weights that it began with; heads that
/// those lack began as zeros.
pub fn apart(at: &Path, a: &str, b: &str) -> f64 {
    let [from, a, b] = [super::shared().join(super::files::CHECKPOINT), checkpoint(at, a), checkpoint(at, b)]
        .map(|folder| read_tensors(&folder.join("model.safetensors")).unwrap());
    let [from, a, b] = [&from, &a, &b].map(reals);
    let (mut apart, mut way) = (0.0, 0.0);
    for (name, a) in &a {
        for (i, (a, b)) in a.iter().zip(b[name]).enumerate() {
            let first = from.get(name).map_or(0.0, |values| values[i]);
            (apart, way) = (apart + (a - b).powi(2), way + (a - first).powi(2));
        }
    }
    assert!(way > 0.0, "nothing was learnt");
    (apart / way).sqrt()
}

#[test]
fn two_passes_of_a_pair_are_one_of_two() {
    let at = folder();
    for kind in ["dpo", "reward"] {
        let run = |out: &str, sets: &[&str]| {
            let name = format!("{kind}-{out}");
            succeeds(at.path(), &stage(kind, &[sets, &["--steps", "3", "--out", &name]].concat()));
            name
        };
        let whole = run("whole", &["--set", "train.micro_batch=4"]);
        let (passes, half) = (run("passes", &PASSES), run("half", &PASSES[..2]));
        let [same, other] = [&passes, &half].map(|run| apart(at.path(), &whole, run));
        println!("{kind}: {same:.1e} of the way apart, {other:.1e} with half of the pairs");
        assert!(same < 1e-4 && other > 0.1, "{kind}: {same} {other}");
    }
}

#[test]
fn a_run_without_its_reference_s_numbers_makes_them_anew_and_ends_in_the_same_bytes() {
    let at = folder();
    let more = |steps, out| stage("dpo", &["--steps", steps, "--out", out, "--set", "train.checkpoint_interval=1"]);
    succeeds(at.path(), &more("4", "whole"));
    succeeds(at.path(), &more("2", "part"));
    let file = at.path().join("part").join(REFERENCES);
    let (known, go_on) = (fs::read(&file).unwrap(), resume("dpo", "part", &["--steps", "4"]));
    // What is no file of them is refused, and nothing is lost.
    let before = end(at.path(), "part");
    for broken in [&b"garbage of more than eight bytes"[..], b"", &known[..known.len() - 4]] {
        fs::write(&file, broken).unwrap();
        refused(at.path(), &go_on, 2, &[REFERENCES]);
    }
    write_tensors(&file, &[("train".to_owned(), vec![4], vec![0.0; 4])]).unwrap();
    refused(at.path(), &go_on, 2, &[REFERENCES, "3 numbers a pair", "remove it"]);
    assert!(end(at.path(), "part") == before);
    // One that has too few of them, those of other pairs, or such as are no numbers, is made anew, as is one that is
    // gone.
    let rows = |value: f32, pairs: usize| vec![value; 3 * pairs];
    let short = |value, pairs| ["train", "val"].map(|name| (name.to_owned(), vec![pairs, 3], rows(value, pairs)));
    let aside = at.path().join("aside");
    super::files::copy(&at.path().join("part"), &aside);
    for wrong in [None, Some((0.0, 1)), Some((0.0, 20)), Some((f32::NAN, 20))] {
        let _ = fs::remove_dir_all(at.path().join("part"));
        super::files::copy(&aside, &at.path().join("part"));
        match wrong {
            None => fs::remove_file(&file).unwrap(),
            Some((value, pairs)) => write_tensors(&file, &short(value, pairs)).unwrap(),
        }
        let done = succeeds(at.path(), &go_on);
        assert!(done.err.contains("log-probabilities by the first weights go to"), "{}", done.err);
        assert!(end(at.path(), "part") == end(at.path(), "whole"), "{wrong:?}");
        assert!(fs::read(&file).unwrap() == fs::read(at.path().join("whole").join(REFERENCES)).unwrap(), "{wrong:?}");
    }
}

#[test]
fn numbers_of_pairs_that_were_replaced_are_made_anew() {
    let at = folder();
    let text = fs::read_to_string(at.path().join("pairs.jsonl")).unwrap();
    // Every update comes to all of the 18 training pairs.
    let all = ["--set", "train.micro_batch=36"];
    succeeds(at.path(), &stage("dpo", &[&all[..], &["--steps", "1", "--out", "run"]].concat()));
    let before = fs::read(at.path().join("run").join(REFERENCES)).unwrap();
    // As many pairs of the same file, each with its answers the other way round.
    let turned = text.replace("chosen", "other").replace("rejected", "chosen").replace("other", "rejected");
    fs::write(at.path().join("pairs.jsonl"), turned).unwrap();
    let made = "log-probabilities by the first weights go to";
    refused(at.path(), &resume("dpo", "run", &["--steps", "2"]), 2, &["with other data", "--allow-changes"]);
    let done = succeeds(at.path(), &resume("dpo", "run", &["--steps", "2", "--allow-changes"]));
    assert!(done.err.contains(made), "{}", done.err);
    assert!(!succeeds(at.path(), &resume("dpo", "run", &["--steps", "3"])).err.contains(made), "they are those of it");
    assert!(fs::read(at.path().join("run").join(REFERENCES)).unwrap() != before);
    // As are those of another file, once that is allowed.
    fs::write(at.path().join("more.jsonl"), text).unwrap();
    let more = ["--steps", "4", "--data", "more.jsonl"];
    refused(at.path(), &resume("dpo", "run", &more), 2, &["data.path from", "--allow-changes"]);
    succeeds(at.path(), &resume("dpo", "run", &[&more[..], &["--allow-changes"]].concat()));
    assert!(fs::read(at.path().join("run").join(REFERENCES)).unwrap() == before);
}
