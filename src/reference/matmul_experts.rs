//! `c = a W`, every expert's rows with its own weight.

use super::Real;
use super::gemm::{Product, View, gemm};
use crate::kernels::matmul::{ADD, NT};
use crate::kernels::matmul_experts::Params;
use rayon::prelude::*;

/// Multiplies rows with the weights of their experts: `c[s] = a[s] W_e` for s in `offsets[e]..offsets[e + 1]`.
///
/// Shapes: a (rows, k); b (expert_count, n, k) in form 0, `W_e = b[e - first_expert]^T`, or (expert_count, k, n) in
/// form 1; offsets (experts + 1); c (rows, n). Accumulate 1 adds to c. Rows of experts without a weight in b keep their
/// values. The table of tiles only cuts these ranges for the shader.
pub fn matmul_experts<F: Real>(p: &Params, a: &[F], b: &[F], _tiles: &[u32], offsets: &[u32], c: &mut [F]) {
    let (n, k, first) = (p.n as usize, p.k as usize, p.first_expert as usize);
    let ranges = &offsets[first..=first + p.expert_count as usize];
    let mut rest = &mut c[ranges[0] as usize * n..];
    let mut parts = Vec::with_capacity(ranges.len());
    for range in ranges.windows(2) {
        let (part, after) = rest.split_at_mut((range[1] - range[0]) as usize * n);
        parts.push((range[0] as usize, part));
        rest = after;
    }
    parts.into_par_iter().enumerate().for_each(|(expert, (row, c))| {
        let weight = &b[expert * n * k..(expert + 1) * n * k];
        let product = Product {
            m: c.len() / n,
            n,
            k,
            alpha: F::one(),
            a: View::rows(&a[row * k..], k),
            b: if p.form == NT { View::transposed(weight, k) } else { View::rows(weight, n) },
            beta: if p.accumulate == ADD { F::one() } else { F::zero() },
            c_stride: n,
        };
        gemm(product, c);
    });
}
