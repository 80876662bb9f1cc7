//! `hadal` trains DeepSeek-V2-style language models on any GPU through wgpu: no CUDA, no Python.
//!
//! In reading order:

pub mod error; // what can go wrong, and the exit code of each
pub mod stop; // signals that ask a run to stop
pub mod terminal; // what is said on standard output and standard error
pub mod quiet; // panics of libraries as errors
pub mod input; // files that others wrote, read as hostile
mod cache; // files that can be made again
pub mod config; // every knob, its unit and default
pub mod reference; // the formula of every kernel on the CPU, and the independent judge
pub mod kernels; // the table of kernels: parameters, bindings, sizes, test inputs
pub mod gpu; // the only folder that names wgpu
pub mod graph; // tensors and operations to a list of dispatches; its two executors
pub mod model; // the network, as the paper writes it
pub mod backend; // which device runs a program
pub mod checkpoint; // weights on disk: safetensors, read as hostile, replaced as a whole
pub mod tokenizer; // text to token numbers and back
pub mod data; // the embedded world, files, batches
pub mod chat; // conversations as tokens
pub mod reward; // how good a completion is
pub mod train; // the loop, the run folder, the schedule
pub mod rl; // advantages and factors of preference training
pub mod generate; // continuing sequences, and texts
pub mod serve; // a model behind HTTP
pub mod plot; // the loss as a picture
pub mod bench; // measurements of products and whole updates
pub mod check; // a GPU's results beside the reference's
pub mod cli; // the command line
