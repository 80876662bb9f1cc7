//! Pairs of each expert, block by block.

use super::contract::{self, Held, Kept};
use super::{Args, Bind, Constants, Kernel, KernelSpec, case::Case, case::indices, fold, read_u32, write_u32};
use crate::reference::{self, Real};
use bytemuck::{Pod, Zeroable};

/// Pairs of a block: one workgroup counts them and one scatters them.
pub const BLOCK: usize = 256;

/// Immediates of a dispatch.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Params {
    /// Pairs of a token and one of its experts: tokens times selected.
    pub pairs: u32,
    /// Number of experts.
    pub experts: u32,
}

/// The row of the kernel table.
pub static KERNEL: Kernel = Kernel::of::<Spec>();

struct Spec;

impl KernelSpec for Spec {
    type Params = Params;
    const STEM: &'static str = "expert_count";
    const SUMMARY: &'static str = "counts the pairs of each expert in blocks of 256";
    const SHADER: &'static str = include_str!("../../shaders/expert_count.wgsl");
    const BINDS: &'static [Bind] = &[read_u32("chosen"), write_u32("counts")];

    fn constants(p: &Params) -> Constants {
        vec![("EXPERTS", p.experts.into()), ("BLOCK", BLOCK as i64)]
    }

    fn grid(p: &Params) -> [u32; 3] {
        fold((p.pairs as usize).div_ceil(BLOCK))
    }

    fn contract(p: &Params, held: &[Held<'_>]) -> Kept {
        contract::below("chosen", held[0].list(), p.experts as usize)
    }

    fn reference<F: Real>(p: &Params, args: Args<'_, F>) {
        let [chosen, counts] = args.all();
        reference::expert_count::expert_count(p, chosen.index(), counts.index_mut());
    }

    fn cases() -> Vec<Case> {
        let case = |(name, experts, chosen): (&str, u32, Vec<u32>)| {
            let p = Params { pairs: chosen.len() as u32, experts };
            let counts = chosen.len().div_ceil(BLOCK) * experts as usize;
            Case::new(name, &p).index(chosen).output_index(counts)
        };
        choices().into_iter().map(case).collect()
    }
}

/// Name, number of experts and experts of the pairs: the cases of the sort's three kernels.
pub(super) fn choices() -> Vec<(&'static str, u32, Vec<u32>)> {
    let gap = |mut chosen: Vec<u32>, unused: u32, instead: u32| {
        chosen.iter_mut().filter(|e| **e == unused).for_each(|e| *e = instead);
        chosen
    };
    vec![
        ("one pair, one expert", 1, vec![0]),
        ("one full block", 8, indices(1, 256, 8)),
        ("five blocks, the last ragged, 64 experts", 64, indices(2, 1123, 64)),
        ("more blocks than an invocation loads at once", 3, indices(3, 256 * 700 + 1, 3)),
        ("first, middle and last expert without pairs", 7, gap(gap(gap(indices(4, 600, 7), 0, 1), 3, 4), 6, 5)),
        ("every pair on one expert", 5, vec![3; 777]),
        ("more experts than invocations, most unused", 300, indices(5, 517, 300)),
    ]
}
