//! The network as the paper writes it. Talks to the tape alone; knows nothing of devices.
//!
//! Equation numbers refer to DeepSeek-V2 (arXiv 2405.04434).

pub mod normal;
pub mod params; // the table of named parameters
pub mod lora; // adapters in it
pub mod weights; // their tensors
pub mod inputs; // what the host writes
pub mod positions; // rotation and the scale of scores
pub mod attention; // MLA, one line an equation
pub mod feed_forward; // SwiGLU
pub mod moe; // router, shared and routed experts
pub mod block; // one block
pub mod transformer; // the whole
pub mod few; // the whole again, for a few tokens of generation
pub mod moments; // what the optimizer keeps of them
pub mod goal; // what updates lower
pub mod learning; // what a stage makes of a program
pub mod program; // tensors and recordings of training
pub mod decoder; // those of generation
