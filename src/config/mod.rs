//! Every knob: its unit, default and paper symbol.

pub mod model;
