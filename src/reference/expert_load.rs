//! `loads[row] += pairs of each expert`, padding left out.

use super::Real;
use crate::kernels::expert_load::Params;

/// Adds how often each expert was chosen by tokens that are no padding to one row.
///
/// Shapes: chosen (tokens, selected); real (tokens), 0 for padding; loads (rows, experts), one row updated. Whole
/// numbers below 2^24 are exact in f32.
/// Source: Wang et al. 2024 (arXiv 2408.15664), algorithm 1, whose tokens are all text.
pub fn expert_load<F: Real>(p: &Params, chosen: &[u32], real: &[u32], loads: &mut [F]) {
    let experts = p.experts as usize;
    let own = &mut loads[p.row as usize * experts..][..experts];
    let mut counts = vec![0u32; experts];
    let text = chosen.chunks(p.selected as usize).zip(real).filter(|(_, real)| **real != 0);
    text.flat_map(|(chosen, _)| chosen).for_each(|&e| counts[e as usize] += 1);
    own.iter_mut().zip(counts).for_each(|(load, count)| *load += F::of(count.into()));
}
