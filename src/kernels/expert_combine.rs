//! The weighted sum of a token's experts, on top of its residual.

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
    const STEM: &'static str = "expert_combine";
    const SUMMARY: &'static str = "adds the weighted outputs of a token's experts to its residual";
    const SHADER: &'static str = include_str!("../../shaders/expert_combine.wgsl");
    const BINDS: &'static [Bind] =
        &[read("residual"), read("o").or_half("HALF_O"), read("weights"), read_u32("pair_slot"), write("y")];

    fn constants(p: &Params) -> Constants {
        row_constants(p.selected, p.width)
    }

    fn grid(p: &Params) -> [u32; 3] {
        elements::grid(p.tokens * p.width, elements::lanes(&[p.width]))
    }

    fn contract(_: &Params, held: &[Held<'_>]) -> Kept {
        contract::permutation("pair_slot", held[3].list())
    }

    fn reference<F: Real>(p: &Params, args: Args<'_, F>) {
        let [residual, o, weights, pair_slot, y] = args.all();
        let (residual, o, weights) = (residual.real(), o.real(), weights.real());
        reference::expert_combine::expert_combine(p, residual, o, weights, pair_slot.index(), y.real_mut());
    }

    fn cases() -> Vec<Case> {
        let case = |(name, [tokens, selected, width], sorted): (String, [u32; 3], Sorted)| {
            Case::new(name, &Params { tokens, selected, width })
                .uniform(1, (tokens * width) as usize)
                .uniform(2, (tokens * selected * width) as usize)
                .uniform(3, (tokens * selected) as usize)
                .index(sorted.pair_slot)
                .output((tokens * width) as usize)
        };
        routings().into_iter().map(case).collect()
    }
}
