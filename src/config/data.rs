//! Where the training text comes from and how it is cut into windows: `[data]` in TOML.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The data of a run: the embedded world, or the user's files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DataConfig {
    /// Files of UTF-8 text, JSON lines or tokens, or folders that are searched for them; empty for the embedded world.
    /// Relative paths are from the current folder ([`super::paths`]).
    pub path: Vec<PathBuf>,
    /// Files or folders that validate, and are not trained on even where `path` holds them; empty to hold out a share
    /// of `path`.
    pub val_path: Vec<PathBuf>,
    /// `world`, `byte`, `gpt2`, `cl100k`, or the path of a `tokenizer.json`.
    pub tokenizer: String,
    /// Share of the tokens of each of `path`, at its end, that is held out where no `val_path` is; at least 0, below 1.
    pub val_fraction: f64,
    /// Key of the text in a JSON line, or `auto` to tell by the keys of a file's first line which shape its lines have
    /// ([`crate::data::record`]); default `auto`.
    pub text_field: String,
    /// Numbers in `.bin` files without a header: `u16`, `u32`, or `auto` to tell by the file; default `auto`.
    pub token_type: TokenType,
    /// Whether each epoch visits the windows in a new seeded order (files only).
    pub shuffle: bool,
    /// Seed of the embedded world's stories.
    pub world_seed: u64,
}

/// The `text_field` that leaves the shape of JSON lines to their keys.
pub const AUTO: &str = "auto";

/// Unsigned numbers of a headerless token file, lowest byte first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Default, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum TokenType {
    /// `u16` if that can hold the vocabulary and not every second number is 0, else `u32`, or 64 bits where that holds
    /// of every second one of those.
    #[default]
    Auto,
    /// 16 bits.
    U16,
    /// 32 bits.
    U32,
}

impl Default for DataConfig {
    fn default() -> Self {
        DataConfig {
            path: Vec::new(),
            val_path: Vec::new(),
            tokenizer: "world".into(),
            val_fraction: 0.1,
            text_field: AUTO.into(),
            token_type: TokenType::Auto,
            shuffle: true,
            world_seed: 1,
        }
    }
}
