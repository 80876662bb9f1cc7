//! Sizes of elementwise kernels, as `shared/elements.wgsl` expects them.

use super::{Constants, fold};

/// Invocations of a workgroup; `THREADS` of `shared/elements.wgsl`.
const THREADS: u32 = 256;

/// Floats of an invocation: four, moved as one vector, where `sizes` are all multiples of four; else one.
pub(super) fn lanes(sizes: &[u32]) -> u32 {
    if sizes.iter().all(|size| size.is_multiple_of(4)) { 4 } else { 1 }
}

/// Constants of a kernel whose counts, strides and offsets are `sizes`.
pub(super) fn constants(sizes: &[u32]) -> Constants {
    vec![("LANES", i64::from(lanes(sizes)))]
}

/// Workgroups for `count` elements in the `lanes` of [`constants`].
pub(super) fn grid(count: u32, lanes: u32) -> [u32; 3] {
    fold((count / lanes).div_ceil(THREADS) as usize)
}
