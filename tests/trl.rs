//! Objectives beside what TRL's trainers computed: `tests/golden/make_trl.py` made the file, and names the version.

use hadal::kernels::state::{
    self, IGNORED, PAIR_COLUMNS, RESULT_LOSS_SCALE, SCORED_PAIR_COLUMNS, STATE_INVERSE_PAIRS, TOKEN_COLUMNS,
};
use hadal::kernels::{log_probs, pair_loss, policy_loss, preference_loss};
use hadal::reference;
use hadal::rl::advantage::{Spread, group_advantages};
use hadal::rl::normalise::{Normaliser, factors};
use serde_json::Value;

/// TRL's losses and gradients are in f64; it sums metrics of indicators in f32.
const EXACT: f64 = 1e-12;
const SINGLE: f64 = 1e-7;

fn file() -> Value {
    serde_json::from_str(include_str!("golden/trl/objectives.json")).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

/// An error beyond `share` of the largest expected value, or none.
fn compare(what: &str, found: &[f64], expected: &[f64], share: f64) -> Result<(), String> {
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(0.0f64, |m, x| m.max(x.abs()));
    let near = |(f, e): (&f64, &f64)| (f - e).abs() <= share * largest; // which a NaN is not
    match found.iter().zip(expected).position(|pair| !near(pair)) {
        None => Ok(()),
        Some(i) => Err(format!("{what}[{i}] is {}, expected {}", found[i], expected[i])),
    }
}

/// What the log-probabilities belong to.
struct Tokens {
    lengths: Vec<usize>,
    length: usize,
    targets: Vec<u32>,
    log_probs: Vec<f64>,
    entropies: Vec<f64>,
}

impl Tokens {
    /// Log-probabilities and entropies by the kernel's reference.
    fn read(file: &Value) -> Tokens {
        let lengths: Vec<usize> = numbers(&file["lengths"]).into_iter().map(|x| x as usize).collect();
        let targets = numbers(&file["targets"]);
        let (n, length) = (targets.len(), targets.len() / lengths.len());
        let counted = |t: usize| t % length < lengths[t / length];
        let target = |(t, y): (usize, f64)| if counted(t) { y as u32 } else { IGNORED };
        let targets: Vec<u32> = targets.into_iter().enumerate().map(target).collect();
        let classes = file["classes"].as_u64().unwrap() as u32;
        let p = log_probs::Params { rows: n as u32, classes, first_row: 0 };
        let (mut log_probs, mut entropies) = (vec![9.0; n], vec![9.0; n]);
        let logits = numbers(&file["logits"]);
        reference::log_probs::log_probs(&p, &logits, &targets, &mut log_probs, &mut entropies);
        Tokens { lengths, length, targets, log_probs, entropies }
    }

    fn preference(&self, case: &Value, sums: &[f64]) -> (Vec<f64>, [f64; PAIR_COLUMNS]) {
        let [beta, smoothing] = ["beta", "smoothing"].map(|name| case[name].as_f64().unwrap() as f32);
        let pairs = self.lengths.len() / 2;
        let p = preference_loss::Params { pairs: pairs as u32, length: self.length as u32, beta, smoothing };
        let mut state = [0; 8];
        state[STATE_INVERSE_PAIRS] = (1.0 / pairs as f32).to_bits();
        let (mut weights, mut rows) = (vec![9.0; self.log_probs.len()], vec![9.0; pairs * PAIR_COLUMNS]);
        let tokens = (&self.log_probs[..], &self.entropies[..], &self.targets[..]);
        reference::preference_loss::preference_loss(&p, tokens, sums, &state, &mut weights, &mut rows);
        (weights, sum(&rows))
    }

    fn policy(&self, case: &Value, given: &Value) -> (Vec<f64>, [f64; TOKEN_COLUMNS]) {
        let normaliser = match case["normaliser"].as_str().unwrap() {
            "grpo" => Normaliser::Grpo,
            "dapo" => Normaliser::Dapo,
            "dr_grpo" => Normaliser::DrGrpo,
            other => panic!("{other}"),
        };
        let by_sequence = factors(normaliser, &self.lengths, given["maximum"].as_u64().unwrap() as usize);
        let n = self.log_probs.len();
        let factor = |t: usize| if self.targets[t] == IGNORED { 0.0 } else { by_sequence[t / self.length] };
        let factors: Vec<f64> = (0..n).map(factor).collect();
        let advantages = numbers(&given["advantages"]);
        let advantages: Vec<f64> = (0..n).map(|t| advantages[t / self.length]).collect();
        let [old, reference] = ["old", "reference"].map(|name| numbers(&given[name]));
        let [clip_low, clip_high] = [0, 1].map(|i| given["clip"][i].as_f64().unwrap() as f32);
        let beta = case["beta"].as_f64().unwrap() as f32;
        let p = policy_loss::Params { tokens: n as u32, clip_low, clip_high, beta, entropy_bonus: 0.0 };
        let (mut weights, mut rows) = (vec![9.0; n], vec![9.0; n * TOKEN_COLUMNS]);
        let inputs = [&self.log_probs[..], &self.entropies, &old, &reference, &advantages, &factors];
        reference::policy_loss::policy_loss(&p, inputs, &mut weights, &mut rows);
        (weights, sum(&rows))
    }
}

fn sum<const COLUMNS: usize>(rows: &[f64]) -> [f64; COLUMNS] {
    let mut sums = [0.0; COLUMNS];
    rows.iter().enumerate().for_each(|(i, x)| sums[i % COLUMNS] += x);
    sums
}

/// Compares loss, gradient and metrics, each with TRL's.
fn agree(case: &Value, loss: f64, gradient: &[f64], metrics: &[(&str, f64)], share: f64) -> Result<(), String> {
    let what: String = case.to_string().chars().take(60).collect();
    compare(&format!("{what}: loss"), &[loss], &[case["loss"].as_f64().unwrap()], share)?;
    compare(&format!("{what}: gradient"), gradient, &numbers(&case["gradient"]), share)?;
    let known = case["metrics"].as_object().unwrap();
    assert!(known.keys().all(|name| metrics.iter().any(|(own, _)| own == name)), "{known:?}");
    for (name, found) in metrics.iter().filter(|(name, _)| known.contains_key(*name)) {
        compare(&format!("{what}: {name}"), &[*found], &[known[*name].as_f64().unwrap()], SINGLE)?;
    }
    Ok(())
}

#[test]
fn log_probabilities_and_entropies_are_those_of_trl() {
    let file = file();
    assert_eq!(file["trl"], "1.16.0");
    let tokens = Tokens::read(&file);
    compare("log_probs", &tokens.log_probs, &numbers(&file["log_probs"]), EXACT).unwrap();
    compare("entropies", &tokens.entropies, &numbers(&file["entropies"]), EXACT).unwrap();
}

#[test]
fn preferences_are_those_of_trl() {
    let file = file();
    let (tokens, given) = (Tokens::read(&file), &file["preference"]);
    let mut smoothed = 0;
    for case in given["cases"].as_array().unwrap() {
        let (weights, sums) = tokens.preference(case, &numbers(&given["reference"]));
        let judge = |weights: &[f64], sums: [f64; PAIR_COLUMNS]| {
            let mean = |column: usize| sums[column] / sums[state::PAIR_COUNTED];
            let gradient: Vec<f64> = weights.iter().map(|w| -w).collect();
            let metrics = [
                ("rewards/chosen", mean(state::PAIR_CHOSEN)),
                ("rewards/rejected", mean(state::PAIR_REJECTED)),
                ("rewards/margins", mean(state::PAIR_CHOSEN) - mean(state::PAIR_REJECTED)),
                ("rewards/accuracies", mean(state::PAIR_ACCURACY)),
                ("logps/chosen", mean(state::PAIR_CHOSEN_LOG_PROB)),
                ("logps/rejected", mean(state::PAIR_REJECTED_LOG_PROB)),
            ];
            agree(case, mean(state::PAIR_LOSS), &gradient, &metrics, EXACT)
        };
        judge(&weights, sums).unwrap();
        smoothed += usize::from(case["smoothing"] != 0.0);
        // A planted error in any of them is seen.
        let mut off = weights.clone();
        off[7] *= 1.0 + 1e-9;
        assert!(judge(&off, sums).is_err());
        for column in (0..PAIR_COLUMNS).filter(|&column| column != state::PAIR_ENTROPY) {
            let mut off = sums;
            off[column] *= 1.0 + 1e-5;
            assert!(judge(&weights, off).is_err(), "{column}");
        }
    }
    assert_eq!(smoothed, 1);
}

#[test]
fn policies_are_those_of_trl() {
    let file = file();
    let (tokens, given) = (Tokens::read(&file), &file["policy"]);
    let cases = given["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 6);
    for case in cases {
        let (weights, sums) = tokens.policy(case, given);
        let judge = |weights: &[f64], sums: [f64; TOKEN_COLUMNS]| {
            let mean = |column: usize| sums[column] / sums[state::TOKEN_COUNTED];
            let gradient: Vec<f64> = weights.iter().map(|w| -w).collect();
            let metrics = [
                ("kl", mean(state::TOKEN_KL)),
                ("entropy", mean(state::TOKEN_ENTROPY)),
                ("clip_ratio/low_mean", mean(state::TOKEN_CLIPPED_LOW)),
                ("clip_ratio/high_mean", mean(state::TOKEN_CLIPPED_HIGH)),
            ];
            agree(case, sums[state::TOKEN_LOSS], &gradient, &metrics, EXACT)
        };
        judge(&weights, sums).unwrap();
        let mut off = weights.clone();
        off[1] += 1e-9;
        assert!(judge(&off, sums).is_err());
        for column in [state::TOKEN_LOSS, state::TOKEN_ENTROPY, state::TOKEN_CLIPPED_LOW, state::TOKEN_CLIPPED_HIGH] {
            let mut off = sums;
            off[column] *= 1.0 + 1e-5;
            assert!(judge(&weights, off).is_err(), "{column}");
        }
    }
}

#[test]
fn rewards_are_those_of_trl() {
    let file = file();
    let given = &file["reward"];
    let scores = numbers(&given["scores"]);
    let pairs = scores.len() / 2;
    for case in given["cases"].as_array().unwrap() {
        let centring = case["centring"].as_f64().unwrap() as f32;
        let p = pair_loss::Params { pairs: pairs as u32, length: 1, centring };
        let (mut words, mut result) = ([0; 8], [0.0; 8]);
        (words[STATE_INVERSE_PAIRS], result[RESULT_LOSS_SCALE]) = ((1.0 / pairs as f32).to_bits(), 1.0);
        let (mut gradient, mut rows) = (vec![9.0; scores.len()], vec![9.0; pairs * SCORED_PAIR_COLUMNS]);
        let inputs = (&scores[..], &vec![0; scores.len()][..], &numbers(&given["margins"])[..]);
        reference::pair_loss::pair_loss(&p, inputs, (&words, &result), &mut gradient, &mut rows);
        let sums: [f64; SCORED_PAIR_COLUMNS] = sum(&rows);
        let mean = |column: usize| sums[column] / sums[state::PAIR_COUNTED];
        let (chosen, rejected) = (mean(state::PAIR_CHOSEN), mean(state::PAIR_REJECTED));
        let metrics = [
            ("accuracy", mean(state::PAIR_ACCURACY)),
            ("margin", chosen - rejected),
            ("mean_reward", (chosen + rejected) / 2.0),
        ];
        agree(case, mean(state::PAIR_LOSS), &gradient, &metrics, EXACT).unwrap();
        gradient[0] *= 1.0 + 1e-9;
        assert!(agree(case, mean(state::PAIR_LOSS), &gradient, &metrics, EXACT).is_err());
    }
}

#[test]
fn advantages_are_those_of_trl() {
    let given = &file()["advantages"];
    let (rewards, size) = (numbers(&given["rewards"]), given["size"].as_u64().unwrap() as usize);
    for (name, spread) in [("group", Spread::Group), ("batch", Spread::Batch), ("none", Spread::None)] {
        let found = group_advantages(&rewards, size, spread);
        compare(name, &found, &numbers(&given[name]), EXACT).unwrap();
        assert!(compare(name, &found, &numbers(&given["rewards"]), EXACT).is_err());
    }
}
