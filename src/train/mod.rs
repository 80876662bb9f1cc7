//! Training: the loop and what it writes. Nothing here knows of WGSL.

pub mod session; // a program on a device
pub mod trainer; // the loop
pub mod start; // where it begins and goes on
pub mod lessons; // what a run learns from
pub mod micro; // one micro-batch with all that its loss needs
pub mod references; // what the first weights think of pairs
mod results; // what comes back of updates
pub mod numbers; // of preference training
pub mod rollout; // a batch of drawn answers
pub mod answers; // how they are drawn and judged
mod judged; // and what they are worth
mod faults; // devices that fail, updates that are not finite
pub mod diagnosis; // what went bad first
pub mod window; // the rows of each update
pub mod schedule; // the learning rate of an update
pub mod moments; // the optimizer's state on the host and on disk
pub mod checkpoint; // folders that transformers opens, and resumption
pub mod recorded; // the configuration that they were made with
pub mod outline; // what such a folder is to hold
pub mod saving; // its writing, beside training
mod room; // the memory that takes
pub mod spare; // and where it comes from
mod saves; // when, and what if the disk fails
pub mod rotation; // which checkpoints stay
pub mod place; // the run folder: who may write there
pub mod journal; // and what a run records there: metrics, log, samples
mod appender; // files that grow, on a disk that may be full
mod history; // metrics.jsonl as it is found
pub mod rows; // what metrics.jsonl holds
pub mod events; // the same for TensorBoard
mod clock; // when rows are written
mod pace; // tokens a second
pub mod progress; // the bar or the lines on standard error
