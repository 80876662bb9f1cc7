//! Where the text comes from and how it becomes tokens.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// `[data]`: the source of training text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DataConfig {
    /// Files and folders of text, JSONL or token shards; empty for the embedded world.
    pub path: Vec<PathBuf>,
    /// `world`, `byte`, `gpt2`, `cl100k`, or the path of a `tokenizer.json`.
    pub tokenizer: String,
    /// Share of the data held out for validation, in [0, 1).
    pub val_fraction: f64,
    /// Whether windows are visited in a seeded random order.
    pub shuffle: bool,
}

impl Default for DataConfig {
    fn default() -> Self {
        DataConfig { path: Vec::new(), tokenizer: "world".to_owned(), val_fraction: 0.1, shuffle: true }
    }
}
