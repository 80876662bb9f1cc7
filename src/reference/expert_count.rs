//! Pairs of each expert, block by block: the first step of a stable counting sort.

use crate::kernels::expert_count::{BLOCK, Params};
use rayon::prelude::*;

/// `counts[block, e]` = pairs of expert `e` among the block's 256 pairs.
///
/// Shapes: chosen (pairs), each below `experts`; counts (pairs / 256 rounded up, experts).
pub fn expert_count(p: &Params, chosen: &[u32], counts: &mut [u32]) {
    let blocks = counts.par_chunks_mut(p.experts as usize).zip(chosen.par_chunks(BLOCK));
    blocks.with_min_len(64).for_each(|(counts, chosen)| {
        counts.fill(0);
        chosen.iter().for_each(|&e| counts[e as usize] += 1);
    });
}
