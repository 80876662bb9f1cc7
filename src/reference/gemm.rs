//! The one matrix product of the references: strided, row-parallel, on the `matrixmultiply` crate.
#![allow(unsafe_code, reason = "matrixmultiply takes raw pointers; `gemm_serial` checks every bound before it calls")]

use super::Real;
use rayon::prelude::*;

/// A read-only matrix view: element (i, j) stands at `data[i * row_stride + j * column_stride]`.
#[derive(Clone, Copy, Debug)]
pub struct View<'a, F> {
    /// Backing slice, starting at element (0, 0).
    pub data: &'a [F],
    /// Distance between rows, in elements.
    pub row_stride: usize,
    /// Distance between columns, in elements.
    pub column_stride: usize,
}

impl<'a, F> View<'a, F> {
    /// Row-major rows of `stride` elements.
    pub fn rows(data: &'a [F], stride: usize) -> Self {
        View { data, row_stride: stride, column_stride: 1 }
    }

    /// The transpose of row-major rows of `stride` elements.
    pub fn transposed(data: &'a [F], stride: usize) -> Self {
        View { data, row_stride: 1, column_stride: stride }
    }

    fn last(&self, rows: usize, columns: usize) -> usize {
        (rows - 1) * self.row_stride + (columns - 1) * self.column_stride
    }
}

/// A product `C[m, n] = alpha * A[m, k] * B[k, n] + beta * C` with row-major C of row stride `c_stride`.
#[derive(Clone, Copy, Debug)]
pub struct Product<'a, F> {
    /// Rows of A and C.
    pub m: usize,
    /// Columns of B and C.
    pub n: usize,
    /// Columns of A, rows of B.
    pub k: usize,
    /// Factor on the product.
    pub alpha: F,
    /// Left factor.
    pub a: View<'a, F>,
    /// Right factor.
    pub b: View<'a, F>,
    /// Factor on the old C; 0 overwrites without reading.
    pub beta: F,
    /// Distance between rows of C, in elements.
    pub c_stride: usize,
}

/// Computes `g` into `c`, rows in parallel. The result does not depend on the number of threads.
///
/// Panics if a matrix reaches past its slice: a broken invariant of the caller.
pub fn gemm<F: Real>(g: Product<'_, F>, c: &mut [F]) {
    // Below this many multiply-adds a second thread costs more than it brings.
    if g.m * g.n * g.k <= 1 << 17 || g.m < 16 {
        return gemm_serial(g, c);
    }
    assert!((g.m - 1) * g.c_stride + g.n <= c.len(), "gemm: C reaches past its slice");
    let threads = rayon::current_num_threads();
    let rows = g.m.div_ceil(threads).next_multiple_of(8);
    c.par_chunks_mut(rows * g.c_stride).enumerate().for_each(|(part, c)| {
        let first = part * rows;
        if first < g.m {
            let a = View { data: &g.a.data[first * g.a.row_stride..], ..g.a };
            gemm_serial(Product { m: rows.min(g.m - first), a, ..g }, c);
        }
    });
}

/// Computes `g` into `c` on this thread, for callers whose own loop is parallel already.
///
/// Panics if a matrix reaches past its slice: a broken invariant of the caller.
pub fn gemm_serial<F: Real>(g: Product<'_, F>, c: &mut [F]) {
    if g.m == 0 || g.n == 0 {
        return;
    }
    assert!((g.m - 1) * g.c_stride + g.n <= c.len(), "gemm: C reaches past its slice");
    assert!(g.n <= g.c_stride || g.m == 1, "gemm: rows of C overlap");
    if g.k == 0 {
        for row in c.chunks_mut(g.c_stride).take(g.m) {
            row[..g.n].iter_mut().for_each(|x| *x = if g.beta == F::zero() { F::zero() } else { *x * g.beta });
        }
        return;
    }
    assert!(g.a.last(g.m, g.k) < g.a.data.len(), "gemm: A reaches past its slice");
    assert!(g.b.last(g.k, g.n) < g.b.data.len(), "gemm: B reaches past its slice");
    F::gemm_unchecked(&g, c);
}

macro_rules! real {
    ($t:ty, $gemm:path, $exp:path) => {
        impl Real for $t {
            fn of(x: f64) -> Self {
                x as $t
            }
            fn wide(self) -> f64 {
                self as f64
            }
            fn exp_all(values: &mut [Self]) {
                $exp(values);
            }
            fn gemm_unchecked(g: &Product<'_, Self>, c: &mut [Self]) {
                let (a, b) = (g.a, g.b);
                // SAFETY: only `gemm_serial` above calls this. It has checked that the last element of A, B and C lies
                // inside its slice, strides are non-negative and the rows of C do not overlap.
                unsafe {
                    $gemm(
                        g.m,
                        g.k,
                        g.n,
                        g.alpha,
                        a.data.as_ptr(),
                        a.row_stride as isize,
                        a.column_stride as isize,
                        b.data.as_ptr(),
                        b.row_stride as isize,
                        b.column_stride as isize,
                        g.beta,
                        c.as_mut_ptr(),
                        g.c_stride as isize,
                        1,
                    );
                }
            }
        }
    };
}

real!(f32, matrixmultiply::sgemm, super::vector::exp_f32);
real!(f64, matrixmultiply::dgemm, super::vector::exp_f64);
