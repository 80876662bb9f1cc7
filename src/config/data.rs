//! Where the training text comes from and how it is cut into windows: `[data]` in TOML.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The data of a run: the embedded world, or the user's files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DataConfig {
    /// UTF-8 text files, or folders that are searched for them; empty for the embedded world.
    pub path: Vec<PathBuf>,
    /// `world`, `byte`, `gpt2`, `cl100k`, or the path of a `tokenizer.json`.
    pub tokenizer: String,
    /// Share of the token stream, at its end, that is held out (files only); at least 0, below 1.
    pub val_fraction: f64,
    /// Whether each epoch visits the windows in a new seeded order (files only).
    pub shuffle: bool,
    /// Seed of the embedded world's stories.
    pub world_seed: u64,
}

impl Default for DataConfig {
    fn default() -> Self {
        DataConfig { path: Vec::new(), tokenizer: "world".into(), val_fraction: 0.1, shuffle: true, world_seed: 1 }
    }
}
