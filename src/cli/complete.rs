//! What shells offer for arguments: presets, keys, run folders.

use crate::config::layers::{PRESETS, keys};
use crate::train::journal::CONFIG;
use clap_complete::engine::{CompletionCandidate, PathCompleter, ValueCompleter};
use std::ffi::OsStr;
use std::path::Path;

/// Where run folders are made.
pub(super) const RUNS: &str = "runs";

/// Those of `words` that begin with what was typed.
fn beginning(typed: &OsStr, words: impl Iterator<Item = String>) -> Vec<CompletionCandidate> {
    let typed = typed.to_string_lossy();
    words.filter(|word| word.starts_with(&*typed)).map(CompletionCandidate::new).collect()
}

/// Presets, and TOML files.
pub(super) fn configurations(typed: &OsStr) -> Vec<CompletionCandidate> {
    let mut found = beginning(typed, PRESETS.iter().map(|(name, _)| (*name).to_owned()));
    let is_toml = |path: &Path| path.extension().is_some_and(|ending| ending == "toml");
    found.extend(PathCompleter::file().filter(is_toml).complete(typed));
    found
}

/// Keys for `--set`, up to the value.
pub(super) fn settings(typed: &OsStr) -> Vec<CompletionCandidate> {
    beginning(typed, keys().map(|key| key + "="))
}

/// Run folders under `runs`, and every folder.
pub(super) fn run_folders(typed: &OsStr) -> Vec<CompletionCandidate> {
    let entries = std::fs::read_dir(RUNS).into_iter().flatten().flatten();
    let runs = entries.map(|entry| entry.path()).filter(|path| path.join(CONFIG).is_file());
    let mut runs: Vec<String> = runs.map(|path| path.to_string_lossy().into_owned()).collect();
    runs.sort();
    let mut found = beginning(typed, runs.into_iter());
    if found.is_empty() {
        found = PathCompleter::dir().complete(typed);
    }
    found
}
