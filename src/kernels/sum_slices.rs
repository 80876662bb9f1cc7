//! Sum of the slices of a product.

use super::matmul::{ADD, ADD_TO_RESIDUAL, OVERWRITE};
use super::{Args, Bind, Constants, Kernel, KernelSpec, Overwriting, case::Case, elements, read, update};
use crate::reference::{self, Real};
use bytemuck::{Pod, Zeroable};

/// Immediates of a dispatch.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Params {
    /// Slices to add up, at least 1.
    pub slices: u32,
    /// Rows of a slice and of c.
    pub rows: u32,
    /// Columns of a slice and of c.
    pub columns: u32,
    /// Distance between rows of c and of residual, in elements.
    pub stride: u32,
    /// First element of c and of residual.
    pub offset: u32,
    /// One of [`OVERWRITE`], [`ADD`], [`ADD_TO_RESIDUAL`].
    pub accumulate: u32,
}

impl Params {
    fn sizes(&self) -> [u32; 3] {
        [self.columns, self.stride, self.offset]
    }
}

/// The row of the kernel table.
pub static KERNEL: Kernel = Kernel::of::<Spec>();

struct Spec;

impl KernelSpec for Spec {
    type Params = Params;
    const STEM: &'static str = "sum_slices";
    const SUMMARY: &'static str = "adds up a product's slices, and may add to what is there";
    const SHADER: &'static str = include_str!("../../shaders/sum_slices.wgsl");
    const BINDS: &'static [Bind] =
        &[read("parts"), read("residual").or_half("HALF_RESIDUAL"), update("c").or_half("HALF_C")];
    const OVERWRITING: Option<Overwriting<Params>> = Some(Overwriting {
        params: |p| Params { accumulate: OVERWRITE, ..*p },
        elements: |p| p.rows as usize * p.columns as usize,
    });

    fn constants(p: &Params) -> Constants {
        let accumulate = ("ACCUMULATE", i64::from(p.accumulate));
        elements::constants(&p.sizes()).into_iter().chain([accumulate]).collect()
    }

    fn grid(p: &Params) -> [u32; 3] {
        elements::grid(p.rows * p.columns, elements::lanes(&p.sizes()))
    }

    fn reference<F: Real>(p: &Params, args: Args<'_, F>) {
        let [parts, residual, c] = args.all();
        reference::sum_slices::sum_slices(p, parts.real(), residual.real(), c.real_mut());
    }

    fn cases() -> Vec<Case> {
        let dense = |slices, rows, columns, accumulate| Params {
            slices,
            rows,
            columns,
            stride: columns,
            offset: 0,
            accumulate,
        };
        [
            dense(1, 1, 1, OVERWRITE),
            dense(4, 37, 64, OVERWRITE),
            dense(16, 8, 132, ADD),
            dense(3, 19, 7, ADD_TO_RESIDUAL),
            Params { stride: 20, offset: 8, ..dense(5, 33, 12, ADD_TO_RESIDUAL) },
            Params { stride: 19, offset: 3, ..dense(5, 33, 12, ADD) },
            Params { stride: 13, offset: 1, ..dense(2, 70, 11, OVERWRITE) },
        ]
        .into_iter()
        .map(case)
        .collect()
    }
}

fn case(p: Params) -> Case {
    let c = (p.offset + (p.rows - 1) * p.stride + p.columns) as usize;
    let name = format!("{} slices, {} x {}, accumulate {}", p.slices, p.rows, p.columns, p.accumulate);
    let case = Case::new(name, &p).uniform(1, (p.slices * p.rows * p.columns) as usize);
    let case = if p.accumulate == ADD_TO_RESIDUAL { case.uniform(2, c) } else { case.uniform(2, 4) };
    // Between padded rows stands what no sum may touch; a large filler there would widen the tolerance.
    if p.accumulate == ADD || p.stride > p.columns { case.uniform(3, c) } else { case.output(c) }
}
