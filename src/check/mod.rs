//! A GPU's results beside the reference's: what `hadal check` runs and the tests share.

pub mod compare; // the one comparison, and what it reports
pub mod ops; // every kernel on its own cases
pub mod model; // every step of a model's recordings, and the whole

pub use compare::{Mismatch, compare_dispatch, compare_indices, compare_reals};

/// Outcome of one comparison.
#[derive(Clone, Debug)]
pub struct Finding {
    /// Kernel and case, or step, or tensor.
    pub what: String,
    /// Share of the allowed error that was used, or what was wrong.
    pub outcome: Result<f64, String>,
}
