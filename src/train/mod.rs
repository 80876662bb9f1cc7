//! Training: the loop and what it writes. Nothing here knows of WGSL.

pub mod journal; // the run folder: metrics, log, samples, lock
pub mod progress; // the bar or the lines on standard error
pub mod schedule; // the learning rate of an update
