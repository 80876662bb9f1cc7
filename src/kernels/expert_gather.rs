//! Tokens in the order sorted by expert.

use super::contract::{self, Held, Kept};
use super::{Args, Bind, Constants, Kernel, KernelSpec, read, read_u32, write};
use super::{case::Case, case::indices, elements, expert_scatter::Sorted};
use crate::reference::{self, Real};
use bytemuck::{Pod, Zeroable};

/// Immediates of a dispatch.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Params {
    /// Pairs of a token and one of its experts: tokens times `selected`.
    pub pairs: u32,
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
    const STEM: &'static str = "expert_gather";
    const SUMMARY: &'static str = "copies tokens into the order sorted by expert";
    const SHADER: &'static str = include_str!("../../shaders/expert_gather.wgsl");
    const BINDS: &'static [Bind] = &[read("x").or_half("HALF_X"), read_u32("slot_pair"), write("y").or_half("HALF_Y")];

    fn constants(p: &Params) -> Constants {
        row_constants(p.selected, p.width)
    }

    fn grid(p: &Params) -> [u32; 3] {
        elements::grid(p.pairs * p.width, elements::lanes(&[p.width]))
    }

    fn contract(_: &Params, held: &[Held<'_>]) -> Kept {
        contract::permutation("slot_pair", held[1].list())
    }

    fn reference<F: Real>(p: &Params, args: Args<'_, F>) {
        let [x, slot_pair, y] = args.all();
        reference::expert_gather::expert_gather(p, x.real(), slot_pair.index(), y.real_mut());
    }

    fn cases() -> Vec<Case> {
        let case = |(name, [tokens, selected, width], sorted): (String, [u32; 3], Sorted)| {
            let pairs = tokens * selected;
            Case::new(name, &Params { pairs, selected, width })
                .uniform(1, (tokens * width) as usize)
                .index(sorted.slot_pair)
                .output((pairs * width) as usize)
        };
        routings().into_iter().map(case).collect()
    }
}

/// Constants of the kernels that move whole rows of tokens.
pub(super) fn row_constants(selected: u32, width: u32) -> Constants {
    let lanes = elements::lanes(&[width]);
    vec![("LANES", lanes.into()), ("COLUMNS", (width / lanes).into()), ("SELECTED", selected.into())]
}

/// Name, `[tokens, selected, width]` and sort of the cases of the kernels between tokens and experts.
pub(super) fn routings() -> Vec<(String, [u32; 3], Sorted)> {
    [(1, 1, 1, 1), (3, 4, 4, 4), (29, 2, 64, 8), (37, 3, 33, 7), (11, 6, 1032, 64), (263, 2, 10, 5)]
        .into_iter()
        .map(|(tokens, selected, width, experts)| {
            let name = format!("{tokens} tokens of {width}, {selected} of {experts} experts");
            // Choices may repeat here: only their order matters. The last expert of five or more stays without tokens.
            let used = if experts > 4 { experts - 1 } else { experts };
            let chosen = indices(9, (tokens * selected) as usize, used);
            (name, [tokens, selected, width], Sorted::new(&chosen, experts))
        })
        .collect()
}
