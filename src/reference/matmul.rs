//! `c = A B`, optionally added to c or to a residual.

use super::Real;
use super::gemm::{Product, View, gemm};
use crate::kernels::matmul::{ADD, ADD_TO_RESIDUAL, NT, Params, TN};

/// Multiplies two matrices: `C[i, j] = sum_k A[i, k] B[k, j]`.
///
/// Form 0 (nt): a (m, k), b (n, k); 1 (nn): a (m, k), b (k, n); 2 (tn): a (k, m), b (k, n); c and residual (m, n).
/// Accumulate 0: `c = C`; 1: `c += C`; 2: `c = residual + C`. Elements of c between its rows stay as they are. Slices
/// of k each get their own c, one behind the other.
pub fn matmul<F: Real>(p: &Params, a: &[F], b: &[F], residual: &[F], c: &mut [F]) {
    let (n, c_stride) = (p.n as usize, p.ldc as usize);
    let (a, b, c) = (&a[p.a_offset as usize..], &b[p.b_offset as usize..], &mut c[p.c_offset as usize..]);
    if p.accumulate == ADD_TO_RESIDUAL {
        let old = residual[p.c_offset as usize..].chunks(c_stride);
        for (c, old) in c.chunks_mut(c_stride).zip(old).take(p.m as usize) {
            c[..n].copy_from_slice(&old[..n]);
        }
    }
    let (lda, ldb) = (p.lda as usize, p.ldb as usize);
    let (k, slice) = (p.k as usize, p.slice as usize);
    for (number, first) in (0..k).step_by(slice).enumerate() {
        let a = &a[first * if p.form == TN { lda } else { 1 }..];
        let b = &b[first * if p.form == NT { 1 } else { ldb }..];
        let product = Product {
            m: p.m as usize,
            n,
            k: slice.min(k - first),
            alpha: F::one(),
            a: if p.form == TN { View::transposed(a, lda) } else { View::rows(a, lda) },
            b: if p.form == NT { View::transposed(b, ldb) } else { View::rows(b, ldb) },
            beta: if p.accumulate == ADD || p.accumulate == ADD_TO_RESIDUAL { F::one() } else { F::zero() },
            c_stride,
        };
        gemm(product, &mut c[number * p.m as usize * c_stride..]);
    }
}
