//! `y = factor x`.

use super::{CHUNK, Real};
use crate::kernels::scale::Params;
use rayon::prelude::*;

/// Multiplies the first `count` elements of a tensor.
pub fn scale<F: Real>(p: &Params, x: &[F], y: &mut [F]) {
    let (n, factor) = (p.count as usize, F::of(p.factor.into()));
    y[..n].par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).for_each(|(y, x)| {
        for (y, &x) in y.iter_mut().zip(x) {
            *y = factor * x;
        }
    });
}
