//! `y = a + b`.

use super::{CHUNK, Real};
use crate::kernels::add::Params;
use rayon::prelude::*;

/// Adds the first `count` elements of two tensors.
pub fn add<F: Real>(p: &Params, a: &[F], b: &[F], y: &mut [F]) {
    let n = p.count as usize;
    y[..n].par_chunks_mut(CHUNK).zip(a.par_chunks(CHUNK)).zip(b.par_chunks(CHUNK)).for_each(|((y, a), b)| {
        for ((y, &a), &b) in y.iter_mut().zip(a).zip(b) {
            *y = a + b;
        }
    });
}
