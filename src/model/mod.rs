//! The network as the paper writes it. Talks to the tape alone; knows nothing of devices.
//!
//! Equation numbers refer to DeepSeek-V2 (arXiv 2405.04434).

pub mod params;
