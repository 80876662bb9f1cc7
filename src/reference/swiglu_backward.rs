//! `d_gate` and `d_up` of `h = silu(gate) * up`.

use super::{CHUNK, Real};
use crate::kernels::swiglu_backward::Params;
use rayon::prelude::*;

/// With `s = 1 / (1 + exp(-gate))`: `d_up = d_h * gate * s`, `d_gate = d_h * up * s * (1 + gate * (1 - s))`.
///
/// Shapes: all (count).
pub fn swiglu_backward<F: Real>(p: &Params, d_h: &[F], gate: &[F], up: &[F], d_gate: &mut [F], d_up: &mut [F]) {
    let n = p.count as usize;
    let inputs = d_h[..n].par_chunks(CHUNK).zip(gate.par_chunks(CHUNK)).zip(up.par_chunks(CHUNK));
    let outputs = d_gate.par_chunks_mut(CHUNK).zip(d_up.par_chunks_mut(CHUNK));
    inputs.zip(outputs).for_each(|(((d_h, gate), up), (d_gate, d_up))| {
        for ((((&d, &a), &b), d_gate), d_up) in d_h.iter().zip(gate).zip(up).zip(d_gate).zip(d_up) {
            let s = (F::one() + (-a).exp()).recip();
            *d_up = d * a * s;
            *d_gate = d * b * s * (F::one() + a * (F::one() - s));
        }
    });
}
