//! `h = silu(gate) * up`.

use super::{CHUNK, Real};
use crate::kernels::swiglu::Params;
use rayon::prelude::*;

/// Gated activation: `silu(a) = a / (1 + exp(-a))`, `h = silu(gate) * up`, element by element.
///
/// Shapes: all (count). An overflowing exponential gives the right limit, -0.
/// Source: Shazeer 2020, "GLU Variants Improve Transformer".
pub fn swiglu<F: Real>(p: &Params, gate: &[F], up: &[F], h: &mut [F]) {
    let n = p.count as usize;
    h[..n].par_chunks_mut(CHUNK).zip(gate.par_chunks(CHUNK)).zip(up.par_chunks(CHUNK)).for_each(|((h, gate), up)| {
        for ((h, &a), &b) in h.iter_mut().zip(gate).zip(up) {
            *h = a / (F::one() + (-a).exp()) * b;
        }
    });
}
