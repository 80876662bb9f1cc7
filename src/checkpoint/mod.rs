//! Weights on disk: safetensors files that transformers opens too. What is read is hostile until checked; what is
//! written replaces the old file as a whole or not at all.

pub mod disk; // whole-file replacement and bounded JSON
