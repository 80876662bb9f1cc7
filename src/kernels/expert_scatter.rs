//! The stable sort of pairs by expert, both ways.

use super::contract::{self, Held, Kept};
use super::{Args, Bind, Constants, Kernel, KernelSpec, case::Case, expert_count, expert_scan, fold};
use super::{read_u32, write_u32};
use crate::reference::{self, Real};
use bytemuck::{Pod, Zeroable};

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
    const STEM: &'static str = "expert_scatter";
    const SUMMARY: &'static str = "sorts pairs of token and expert by expert, stably";
    const SHADER: &'static str = include_str!("../../shaders/expert_scatter.wgsl");
    const BINDS: &'static [Bind] =
        &[read_u32("chosen"), read_u32("starts"), write_u32("slot_pair"), write_u32("pair_slot")];

    fn constants(p: &Params) -> Constants {
        vec![("EXPERTS", p.experts.into()), ("BLOCK", expert_count::BLOCK as i64)]
    }

    fn grid(p: &Params) -> [u32; 3] {
        fold((p.pairs as usize).div_ceil(expert_count::BLOCK))
    }

    fn contract(p: &Params, held: &[Held<'_>]) -> Kept {
        let [chosen, starts] = [0, 1].map(|i| held[i].list());
        contract::below("chosen", chosen, p.experts as usize)?;
        let kept = starts == Sorted::new(chosen, p.experts).starts;
        contract::require(kept, || "starts are not the places of the blocks' first pairs".to_owned())
    }

    fn reference<F: Real>(p: &Params, args: Args<'_, F>) {
        let [chosen, starts, slot_pair, pair_slot] = args.all();
        let (chosen, starts) = (chosen.index(), starts.index());
        reference::expert_scatter::expert_scatter(p, chosen, starts, slot_pair.index_mut(), pair_slot.index_mut());
    }

    fn cases() -> Vec<Case> {
        let case = |(name, experts, chosen): (&str, u32, Vec<u32>)| {
            let (pairs, n) = (chosen.len() as u32, chosen.len());
            let starts = Sorted::new(&chosen, experts).starts;
            Case::new(name, &Params { pairs, experts }).index(chosen).index(starts).output_index(n).output_index(n)
        };
        expert_count::choices().into_iter().map(case).collect()
    }
}

/// What the sort's references make of a choice of experts: inputs of the cases of the kernels that follow the sort.
pub(super) struct Sorted {
    /// Slot of each block's first pair of each expert.
    pub starts: Vec<u32>,
    /// Pair in each slot.
    pub slot_pair: Vec<u32>,
    /// Slot of each pair.
    pub pair_slot: Vec<u32>,
}

impl Sorted {
    /// Sorts pairs by the experts that they have `chosen`.
    pub fn new(chosen: &[u32], experts: u32) -> Self {
        let (pairs, tile_rows) = (chosen.len() as u32, 1);
        let tiles = expert_scan::tiles(pairs, experts, tile_rows);
        let mut starts = vec![0; chosen.len().div_ceil(expert_count::BLOCK) * experts as usize];
        let (mut slot_pair, mut pair_slot) = (vec![0; chosen.len()], vec![0; chosen.len()]);
        reference::expert_count::expert_count(&expert_count::Params { pairs, experts }, chosen, &mut starts);
        let scan = expert_scan::Params { pairs, experts, tile_rows, tiles };
        let (mut offsets, mut unused) = (vec![0; experts as usize + 1], vec![0; 2 * tiles as usize]);
        reference::expert_scan::expert_scan(&scan, &mut starts, &mut offsets, &mut unused);
        let p = Params { pairs, experts };
        reference::expert_scatter::expert_scatter(&p, chosen, &starts, &mut slot_pair, &mut pair_slot);
        Sorted { starts, slot_pair, pair_slot }
    }
}
