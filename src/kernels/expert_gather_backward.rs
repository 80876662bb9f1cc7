//! Gradient of tokens from the copies in the order sorted by expert.

use super::contract::{self, Held, Kept};
use super::expert_gather::{routings, row_constants};
use super::{
    Args, Bind, Constants, Kernel, KernelSpec, case::Case, elements, expert_scatter::Sorted, read, read_u32, write,
};
use crate::reference::{self, Real};
use bytemuck::{Pod, Zeroable};

/// Immediates of a dispatch.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Params {
    /// Number of tokens.
    pub tokens: u32,
    /// Experts that a token selects.
    pub selected: u32,
    /// Elements of a token.
    pub width: u32,
}

/// The row of the kernel table.
pub static KERNEL: Kernel = Kernel::of::<Spec>();

struct Spec;

impl KernelSpec for Spec {
    type Params = Params;
    const STEM: &'static str = "expert_gather_backward";
    const SUMMARY: &'static str = "adds up the gradients of a token's copies";
    const SHADER: &'static str = include_str!("../../shaders/expert_gather_backward.wgsl");
    const BINDS: &'static [Bind] =
        &[read("d_y").or_half("HALF_D_Y"), read_u32("pair_slot"), write("d_x").or_half("HALF_D_X")];

    fn constants(p: &Params) -> Constants {
        row_constants(p.selected, p.width)
    }

    fn grid(p: &Params) -> [u32; 3] {
        elements::grid(p.tokens * p.width, elements::lanes(&[p.width]))
    }

    fn contract(_: &Params, held: &[Held<'_>]) -> Kept {
        contract::permutation("pair_slot", held[1].list())
    }

    fn reference<F: Real>(p: &Params, args: Args<'_, F>) {
        let [d_y, pair_slot, d_x] = args.all();
        let (d_y, pair_slot) = (d_y.real(), pair_slot.index());
        reference::expert_gather_backward::expert_gather_backward(p, d_y, pair_slot, d_x.real_mut());
    }

    fn cases() -> Vec<Case> {
        let case = |(name, [tokens, selected, width], sorted): (String, [u32; 3], Sorted)| {
            Case::new(name, &Params { tokens, selected, width })
                .uniform(1, (tokens * selected * width) as usize)
                .index(sorted.pair_slot)
                .output((tokens * width) as usize)
        };
        routings().into_iter().map(case).collect()
    }
}
