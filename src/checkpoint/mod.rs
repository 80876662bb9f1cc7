//! Weights on disk: safetensors files that transformers opens too. What is read is hostile until checked; what is
//! written replaces the old file as a whole or not at all.

pub mod adapters; // what learns beside frozen weights
pub mod container; // the safetensors format: header, byte ranges, streaming writer
pub mod disk; // whole-file replacement
pub mod copy; // weights from one folder into another
pub mod draft; // a new folder that appears complete, with a manifest
pub mod folder; // which files of a folder are read, and new folders
mod fused; // experts that are one tensor on disk
pub mod index; // which files a folder's weights are in
pub mod manifest; // sizes and hashes of a folder's files
mod mmap; // the one place that maps files
pub mod tensors; // small files of named tensors, for parity and tests
pub mod weights; // a model's weights: checked, loaded, written
