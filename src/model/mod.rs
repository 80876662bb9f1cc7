//! The network, as the paper writes it.

pub mod params; // the table of named parameters: shape, start values, decay, names on disk
