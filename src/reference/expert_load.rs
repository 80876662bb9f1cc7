//! `loads[row] += pairs of each expert`.

use super::Real;
use crate::kernels::expert_load::Params;

/// Adds the number of pairs of each expert, as sorting left their places, to one row.
///
/// Shapes: offsets (experts + 1); loads (rows, experts), one row updated. Whole numbers below 2^24 are exact in f32.
pub fn expert_load<F: Real>(p: &Params, offsets: &[u32], loads: &mut [F]) {
    let experts = p.experts as usize;
    let own = &mut loads[p.row as usize * experts..][..experts];
    for (load, places) in own.iter_mut().zip(offsets.windows(2)) {
        *load += F::of(f64::from(places[1] - places[0]));
    }
}
