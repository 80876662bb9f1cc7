//! Sum over heads of some of their columns.

use super::{Args, Bind, Kernel, KernelSpec, case::Case, fold, read, write};
use crate::reference::{self, Real};
use bytemuck::{Pod, Zeroable};

/// Immediates of a dispatch.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Params {
    /// Number of tokens.
    pub rows: u32,
    /// Heads of a token.
    pub heads: u32,
    /// Columns that are summed.
    pub width: u32,
    /// Elements of a head in the source.
    pub stride: u32,
    /// First summed column of a head.
    pub offset: u32,
}

/// The row of the kernel table.
pub static KERNEL: Kernel = Kernel::of::<Spec>();

struct Spec;

impl KernelSpec for Spec {
    type Params = Params;
    const STEM: &'static str = "sum_heads";
    const SUMMARY: &'static str = "sums some columns over the heads of a token";
    const SHADER: &'static str = include_str!("../../shaders/sum_heads.wgsl");
    const BINDS: &'static [Bind] = &[read("source").or_half("HALF_SOURCE"), write("y").or_half("HALF_Y")];

    fn grid(p: &Params) -> [u32; 3] {
        fold((p.rows as usize * p.width as usize).div_ceil(256)) // 256 elements a workgroup
    }

    fn reference<F: Real>(p: &Params, args: Args<'_, F>) {
        let [source, y] = args.all();
        reference::sum_heads::sum_heads(p, source.real(), y.real_mut());
    }

    fn cases() -> Vec<Case> {
        [[1, 1, 1, 1, 0], [5, 3, 7, 17, 4], [33, 16, 64, 130, 66], [70, 2, 8, 8, 0]]
            .into_iter()
            .map(|[rows, heads, width, stride, offset]| {
                let name = format!("{rows} x {heads} heads, {width} of {stride} columns");
                Case::new(name, &Params { rows, heads, width, stride, offset })
                    .uniform(1, (rows * heads * stride) as usize)
                    .output((rows * width) as usize)
            })
            .collect()
    }
}
