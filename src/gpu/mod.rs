//! Everything that names wgpu: adapters, buffers, pipelines and the replay of recordings.

pub mod device;
pub mod once;
pub mod pipeline;
pub mod preprocess;
