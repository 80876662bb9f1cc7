//! Sums of a micro-step's losses.

use super::{
    Args, Bind, Kernel, KernelSpec,
    case::{Case, indices, uniform},
    read, read_u32,
    state::{IGNORED, METRIC_WORDS},
    update,
};
use crate::reference::{self, Real};
use bytemuck::{Pod, Zeroable};

/// Immediates of a dispatch.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Params {
    /// Number of tokens.
    pub rows: u32,
}

/// The row of the kernel table.
pub static KERNEL: Kernel = Kernel::of::<Spec>();

struct Spec;

impl KernelSpec for Spec {
    type Params = Params;
    const STEM: &'static str = "loss_sum";
    const SUMMARY: &'static str = "adds losses, hits and counted targets to the metrics";
    const SHADER: &'static str = include_str!("../../shaders/loss_sum.wgsl");
    const BINDS: &'static [Bind] = &[read("losses"), read("correct"), read_u32("targets"), update("metrics")];

    fn grid(_: &Params) -> [u32; 3] {
        [1, 1, 1]
    }

    fn reference<F: Real>(p: &Params, args: Args<'_, F>) {
        let [losses, correct, targets, metrics] = args.all();
        reference::loss_sum::loss_sum(p, losses.real(), correct.real(), targets.index(), metrics.real_mut());
    }

    fn cases() -> Vec<Case> {
        let case = |rows: u32| {
            let n = rows as usize;
            let targets = indices(1, n, 5).into_iter().map(|y| if y == 4 { IGNORED } else { y });
            Case::new(format!("{rows} tokens"), &Params { rows })
                .real(uniform(2, n).into_iter().map(|x| 5.0 + x).collect())
                .real(indices(3, n, 2).into_iter().map(f64::from).collect())
                .index(targets.collect())
                .uniform(4, METRIC_WORDS)
        };
        [1, 7, 256, 1031, 9000].map(case).into()
    }
}
