//! The network as the paper writes it. Talks to the tape alone; knows nothing of devices.
//!
//! Equation numbers refer to DeepSeek-V2 (arXiv 2405.04434).

pub mod attention;
pub mod block;
pub mod feed_forward;
pub mod inputs;
pub mod moe;
pub mod params;
pub mod program;
pub mod rope;
pub mod transformer;
pub mod weights;
