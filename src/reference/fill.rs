//! `y = value`.

use super::{CHUNK, Real};
use crate::kernels::fill::Params;
use rayon::prelude::*;

/// Sets the first `count` elements to `value`.
pub fn fill<F: Real>(p: &Params, y: &mut [F]) {
    let value = F::of(f64::from(p.value));
    y[..p.count as usize].par_chunks_mut(CHUNK).for_each(|y| y.fill(value));
}
