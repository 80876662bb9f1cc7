//! The judge beside transformers: loss, logits and gradients of small random models in float64.
//!
//! The folders are not part of the repository. They are sought in `../shared/oracle` or where `HADAL_ORACLE` says.

#[path = "common/parity.rs"]
mod parity;

use parity::{Allowed, Case, the_judge_agrees_on};
use std::path::PathBuf;

/// Even in a float64 model transformers rounds norms, rotated columns, attention and router probabilities to f32: 6e-8
/// each time, some dozen times on the way to a logit; a loss averages over positions. Measured at most: 3.6e-9 in the
/// loss, 2.8e-7 in logits, 1.1e-6 in derivatives.
const ALLOWED: Allowed = Allowed { loss: 1e-8, logits: 1e-6, derivative: 1e-5 };

fn folder(case: &str) -> Option<PathBuf> {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/oracle");
    let root = std::env::var_os("HADAL_ORACLE").map_or_else(|| PathBuf::from(default), PathBuf::from);
    let folder = root.join(case);
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!("SKIPPED: {} is absent; set HADAL_ORACLE to the folder of the reference vectors", folder.display());
    None
}

fn judge(case: &str) {
    if let Some(folder) = folder(case) {
        the_judge_agrees_on(&Case::read(&folder), &ALLOWED);
    }
}

#[test]
fn the_judge_agrees_with_transformers_on_lite() {
    judge("lite");
}

#[test]
fn the_judge_agrees_with_transformers_on_a_query_latent() {
    judge("qlora");
}

#[test]
fn the_judge_agrees_with_transformers_on_groups_of_experts() {
    judge("groups");
}

#[test]
fn the_judge_agrees_with_transformers_on_norm_topk_prob_which_has_no_effect_there() {
    judge("normtopk");
}

#[test]
fn the_judge_agrees_with_transformers_on_yarn() {
    judge("yarn");
}

#[test]
fn the_judge_agrees_with_transformers_on_a_shared_embedding() {
    judge("tied");
}
