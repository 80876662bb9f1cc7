//! Every knob: its unit, default and paper symbol.

mod counts; // parameters and floating-point operations of a model, in closed form
pub mod hf; // config.json, as transformers reads and writes it
pub mod model;
mod validate; // which sizes no network can have
