//! `bias[e] += speed * sign(mean load - load[e])`.

use super::Real;
use crate::kernels::expert_bias::Params;
use crate::kernels::state::RESULT_FINITE;
use std::cmp::Ordering;

/// Moves the bias of every expert of one layer: up by `speed` where it got fewer pairs than the mean, down where it got
/// more. If `result` says that the update was skipped, nothing changes.
///
/// Loads are whole numbers, and they are compared with their mean as such: no rounding decides, so all devices agree.
/// Shapes: loads (rows, experts), one row read; result (8); bias (experts).
/// Source: Wang et al. 2024 (arXiv 2408.15664), algorithm 1.
pub fn expert_bias<F: Real>(p: &Params, loads: &[F], result: &[F], bias: &mut [F]) {
    if result[RESULT_FINITE] != F::one() {
        return;
    }
    let experts = p.experts as usize;
    let loads = &loads[p.row as usize * experts..][..experts];
    let total: u64 = loads.iter().map(|load| load.wide() as u64).sum();
    let (mean, rest) = (total / experts as u64, total % experts as u64);
    let speed = F::of(p.speed.into());
    for (bias, load) in bias.iter_mut().zip(loads) {
        match (load.wide() as u64).cmp(&mean) {
            Ordering::Greater => *bias -= speed,
            Ordering::Less => *bias += speed,
            Ordering::Equal if rest > 0 => *bias += speed, // the mean is between this number and the next
            Ordering::Equal => {}
        }
    }
}
