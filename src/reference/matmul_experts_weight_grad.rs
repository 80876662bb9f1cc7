//! `c[e] += a_e^T b_e`, or `c[e] = a_e^T b_e`, over every expert's rows.

use super::Real;
use super::gemm::{Product, View, gemm};
use crate::kernels::matmul::{ADD, OVERWRITE};
use crate::kernels::matmul_experts_weight_grad::Params;
use rayon::prelude::*;

/// Gradients of the experts' weights: `c[e - first_expert, i, j] += sum_s a[s, i] b[s, j]` over s in
/// `offsets[e]..offsets[e + 1]` and i in `first_row..first_row + row_count`, or `=` with accumulate 0: zeros for an
/// expert without rows.
///
/// Shapes: a (pairs, m); b (pairs, n); offsets (experts + 1); c (expert_count, m, n).
pub fn matmul_experts_weight_grad<F: Real>(p: &Params, a: &[F], b: &[F], offsets: &[u32], c: &mut [F]) {
    let (m, n) = (p.m as usize, p.n as usize);
    c.par_chunks_mut(m * n).enumerate().for_each(|(own, c)| {
        let c = &mut c[p.first_row as usize * n..][..p.row_count as usize * n];
        let expert = p.first_expert as usize + own;
        let (first, end) = (offsets[expert] as usize, offsets[expert + 1] as usize);
        if first == end {
            if p.accumulate == OVERWRITE {
                c.fill(F::zero());
            }
            return;
        }
        let product = Product {
            m: p.row_count as usize,
            n,
            k: end - first,
            alpha: F::one(),
            a: View::transposed(&a[first * m + p.first_row as usize..], m),
            b: View::rows(&b[first * n..], n),
            beta: if p.accumulate == ADD { F::one() } else { F::zero() },
            c_stride: n,
        };
        gemm(product, c);
    });
}
