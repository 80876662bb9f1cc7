//! The judge beside the committed golden files, which `tests/golden/make_golden.py` makes with transformers.

#[path = "common/parity.rs"]
mod parity;

use parity::{Allowed, Case, relative, the_judge_agrees_on};
use std::path::Path;

const CASES: &[&str] = &[
    "lite",
    "qlora",
    "groups",
    "tied",
    "yarn_mscale",
    "yarn_mscale_all_dim",
    "linear",
    "dynamic",
    "router_deepseek",
    "router_seed",
    "router_norm_scale",
    "router_sigmoid",
];

/// Transformers rounds to f32 in a dozen places even in a float64 model, and the files store logits and gradients as
/// f32: 6e-8 each time. The loss averages over some twenty positions.
const ALLOWED: Allowed = Allowed { loss: 1e-7, logits: 1e-6, derivative: 1e-5 };

/// The cases whose files exist.
fn cases() -> Vec<Case> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut found = Vec::new();
    for case in CASES {
        let folder = root.join(case);
        if folder.join("expected.safetensors").is_file() {
            found.push(Case::read(&folder));
        } else {
            panic!("{} holds no golden files; make them with make_golden.py", folder.display());
        }
    }
    found
}

#[test]
fn the_judge_agrees_with_the_golden_files() {
    for case in cases() {
        the_judge_agrees_on(&case, &ALLOWED);
    }
}

#[test]
fn the_first_step_of_a_golden_trajectory_is_that_of_its_gradients() {
    for case in cases() {
        let losses = case.expected("adamw_losses");
        assert_eq!(losses.len(), 10);
        assert!(relative(&losses[..1], case.expected("loss")) < 1e-12, "{}", case.name);
        assert!(losses[9] < losses[0], "{}: ten steps on one batch lower its loss", case.name);
        let squares = case.trained().flat_map(|spec| case.gradient(spec)).map(|g| g * g).sum::<f64>();
        // The gradients are stored as f32, the norm as f64.
        assert!(relative(&[squares.sqrt()], &case.expected("adamw_grad_norms")[..1]) < 1e-6, "{}", case.name);
    }
}

#[test]
fn the_golden_selection_biases_decide_something() {
    let mut case = cases().pop().unwrap();
    let biases = case.params.iter_mut().filter(|(name, _)| name.ends_with("e_score_correction_bias"));
    assert_eq!(biases.map(|(_, bias)| bias.fill(0.0)).count(), 1);
    assert!(relative(&case.logits(), case.expected("logits")) > 1e-3);
}

#[test]
fn the_golden_files_together_stay_below_800_kilobytes() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let files = CASES.iter().filter_map(|case| std::fs::read_dir(root.join(case)).ok()).flatten();
    let total: u64 = files.map(|file| file.unwrap().metadata().unwrap().len()).sum();
    assert!(total < 800_000, "{total} bytes");
}

#[test]
fn a_difference_that_is_not_a_number_is_never_forgotten() {
    assert!(relative(&[f64::NAN, 1.0], &[1.0, 1.0]).is_nan());
    assert_eq!(relative(&[1.0, 1.5], &[1.0, 2.0]), 0.25);
}
