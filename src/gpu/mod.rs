//! Everything that names wgpu: adapters, buffers, pipelines and the replay of recordings.

pub mod cache;
pub mod device;
pub mod executor;
pub mod once;
pub mod pipeline;
pub mod preprocess;
pub mod profile;
pub mod self_test;
pub mod timing;
pub mod transfer;
pub mod tune;
pub mod tuned;
pub mod wait;
