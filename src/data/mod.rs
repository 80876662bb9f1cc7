//! Text to batches.

pub mod batch;
pub mod world;

pub use batch::{Batch, IGNORED};
