//! Measurements that `hadal bench` and `benches/` share: medians after a warm-up, the device idle before and after.

pub mod gemm;
pub mod report;
pub mod step;
