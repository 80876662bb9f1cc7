//! `partials[first + i] = sum of gradient^2` over the i-th share.

use super::{Real, sum::pairwise};
use crate::kernels::grad_norm::Params;
use rayon::prelude::*;

/// Sums the squares of each of the gradient's shares.
///
/// Shapes: gradient (count); partials, of which `partials` from `first_partial` on are written.
pub fn grad_norm<F: Real>(p: &Params, gradient: &[F], partials: &mut [F]) {
    let (count, share) = (p.count as usize, p.share());
    let sums = &mut partials[p.first_partial as usize..][..p.partials as usize];
    sums.par_iter_mut().enumerate().for_each(|(i, sum)| {
        let part = (i * share).min(count)..((i + 1) * share).min(count);
        *sum = pairwise(&gradient[part], |g| g * g);
    });
}
