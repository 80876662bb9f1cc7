//! What the backward passes of attention need of each row of probabilities.

use super::{Args, Bind, Kernel, KernelSpec, case::Case, fold, read, write};
use crate::reference::{self, Real};
use bytemuck::{Pod, Zeroable};

/// Immediates of a dispatch.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Params {
    /// Number of sequences.
    pub batch: u32,
    /// Tokens of a sequence.
    pub length: u32,
    /// Heads of a token.
    pub heads: u32,
    /// Columns of a value.
    pub value: u32,
}

/// The row of the kernel table.
pub static KERNEL: Kernel = Kernel::of::<Spec>();

struct Spec;

impl KernelSpec for Spec {
    type Params = Params;
    const STEM: &'static str = "attention_delta";
    const SUMMARY: &'static str = "pairs each query's log sum with the product of its output and its gradient";
    const SHADER: &'static str = include_str!("../../shaders/attention_delta.wgsl");
    const BINDS: &'static [Bind] =
        &[read("d_out").or_half("HALF_D_OUT"), read("out").or_half("HALF_OUT"), read("lse"), write("row_stats")];

    fn grid(p: &Params) -> [u32; 3] {
        fold((p.batch as usize * p.length as usize * p.heads as usize).div_ceil(16)) // 16 rows a workgroup
    }

    fn reference<F: Real>(p: &Params, args: Args<'_, F>) {
        let [d_out, out, lse, row_stats] = args.all();
        reference::attention_delta::attention_delta(p, d_out.real(), out.real(), lse.real(), row_stats.real_mut());
    }

    fn cases() -> Vec<Case> {
        [[1, 1, 1, 1], [2, 7, 3, 5], [1, 33, 2, 128], [3, 70, 4, 17]]
            .into_iter()
            .map(|[batch, length, heads, value]| {
                let rows = (batch * length * heads) as usize;
                let name = format!("{batch} x {length}, {heads} heads of {value}");
                Case::new(name, &Params { batch, length, heads, value })
                    .uniform(1, rows * value as usize)
                    .uniform(2, rows * value as usize)
                    .uniform(3, rows)
                    .output(2 * rows)
            })
            .collect()
    }
}
