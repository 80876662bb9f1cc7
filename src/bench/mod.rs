//! Measurements of `hadal bench`: medians after a warm-up, the device idle before and after.

pub mod cost; // operations and bytes of a dispatch
pub mod decode; // generation
pub mod gemm; // matrix products
pub mod ladder; // the product kernels' history, from the simplest on
pub mod report; // what repeated samples say
pub mod step; // whole updates

use crate::gpu::device::Gpu;

/// Seconds of work after which the clock of a card that was idle has settled. A processor's needs none here.
pub fn settling(gpu: &Gpu) -> f64 {
    if gpu.summary.is_software() { 0.0 } else { 1.0 }
}
