//! Gradients of the experts' outputs and of their weights.

use super::contract::{self, Held, Kept};
use super::expert_gather::{routings, row_constants};
use super::{
    Args, Bind, Constants, Kernel, KernelSpec, case::Case, expert_scatter::Sorted, fold, read, read_u32, write,
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
    const STEM: &'static str = "expert_combine_backward";
    const SUMMARY: &'static str = "gradients of the experts' outputs and of their weights";
    const SHADER: &'static str = include_str!("../../shaders/expert_combine_backward.wgsl");
    const BINDS: &'static [Bind] = &[
        read("d_y").or_half("HALF_D_Y"),
        read("o").or_half("HALF_O"),
        read("weights"),
        read_u32("slot_pair"),
        write("d_o").or_half("HALF_D_O"),
        write("d_weights"),
    ];

    fn constants(p: &Params) -> Constants {
        row_constants(p.selected, p.width)
    }

    fn grid(p: &Params) -> [u32; 3] {
        fold(p.tokens as usize * p.selected as usize) // one workgroup a slot
    }

    fn contract(_: &Params, held: &[Held<'_>]) -> Kept {
        contract::permutation("slot_pair", held[3].list())
    }

    fn reference<F: Real>(p: &Params, args: Args<'_, F>) {
        let [d_y, o, weights, slot_pair, d_o, d_weights] = args.all();
        reference::expert_combine_backward::expert_combine_backward(
            p,
            d_y.real(),
            o.real(),
            weights.real(),
            slot_pair.index(),
            d_o.real_mut(),
            d_weights.real_mut(),
        );
    }

    fn cases() -> Vec<Case> {
        let case = |(name, [tokens, selected, width], sorted): (String, [u32; 3], Sorted)| {
            let pairs = (tokens * selected) as usize;
            Case::new(name, &Params { tokens, selected, width })
                .uniform(1, (tokens * width) as usize)
                .uniform(2, pairs * width as usize)
                .uniform(3, pairs)
                .index(sorted.slot_pair)
                .output(pairs * width as usize)
                .output(pairs)
        };
        routings().into_iter().map(case).collect()
    }
}
