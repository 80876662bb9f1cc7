//! How many pairs of a token and an expert each expert got.

use super::{Args, Bind, Kernel, KernelSpec, case::Case, case::indices, read_u32, update};
use crate::reference::{self, Real};
use bytemuck::{Pod, Zeroable};

/// Immediates of a dispatch.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Params {
    /// Row of `loads` that is added to: one a layer with experts.
    pub row: u32,
    /// Number of experts.
    pub experts: u32,
}

/// Invocations of a workgroup, as in the shader.
const THREADS: u32 = 64;

/// The row of the kernel table.
pub static KERNEL: Kernel = Kernel::of::<Spec>();

struct Spec;

impl KernelSpec for Spec {
    type Params = Params;
    const STEM: &'static str = "expert_load";
    const SUMMARY: &'static str = "adds each expert's number of pairs to the loads of a layer";
    const SHADER: &'static str = include_str!("../../shaders/expert_load.wgsl");
    const BINDS: &'static [Bind] = &[read_u32("offsets"), update("loads")];

    fn grid(p: &Params) -> [u32; 3] {
        [p.experts.div_ceil(THREADS), 1, 1]
    }

    fn reference<F: Real>(p: &Params, args: Args<'_, F>) {
        let [offsets, loads] = args.all();
        reference::expert_load::expert_load(p, offsets.index(), loads.real_mut());
    }

    fn cases() -> Vec<Case> {
        // Rows before and after the own one must stay.
        let case = |(row, rows, experts): (u32, u32, u32)| {
            let counts = indices(1, experts as usize, 1000).into_iter().map(|count| count.saturating_sub(200));
            let ends = counts.scan(0, |end, count| {
                *end += count;
                Some(*end)
            });
            let loads = indices(2, (rows * experts) as usize, 5000).into_iter().map(f64::from).collect();
            Case::new(format!("row {row} of {rows}, {experts} experts"), &Params { row, experts })
                .index([0].into_iter().chain(ends).collect())
                .real(loads)
        };
        [(0, 1, 1), (1, 3, 7), (0, 2, 64), (25, 26, 160), (2, 3, 257)].map(case).into()
    }
}
