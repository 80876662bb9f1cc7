//! Sums over what a loss leaves of each pair or token.

use super::{Args, Bind, Kernel, KernelSpec, case::Case, read, update};
use crate::reference::{self, Real};
use bytemuck::{Pod, Zeroable};

/// Immediates of a dispatch.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Params {
    /// Pairs or tokens.
    pub rows: u32,
    /// Numbers of each: `kernels::state` names them.
    pub columns: u32,
}

/// The row of the kernel table.
pub static KERNEL: Kernel = Kernel::of::<Spec>();

struct Spec;

impl KernelSpec for Spec {
    type Params = Params;
    const STEM: &'static str = "metric_sum";
    const SUMMARY: &'static str = "adds the results of pairs or tokens to metrics, column by column";
    const SHADER: &'static str = include_str!("../../shaders/metric_sum.wgsl");
    const BINDS: &'static [Bind] = &[read("results"), update("metrics")];

    fn grid(_: &Params) -> [u32; 3] {
        [1, 1, 1]
    }

    fn reference<F: Real>(p: &Params, args: Args<'_, F>) {
        let [results, metrics] = args.all();
        reference::metric_sum::metric_sum(p, results.real(), metrics.real_mut());
    }

    fn cases() -> Vec<Case> {
        let case = |(rows, columns): (u32, u32)| {
            Case::new(format!("{rows} rows of {columns}"), &Params { rows, columns })
                .uniform(1, (rows * columns) as usize)
                .uniform(2, columns as usize)
        };
        [(1, 4), (3, 5), (256, 8), (1031, 8), (9000, 4)].map(case).into()
    }
}
