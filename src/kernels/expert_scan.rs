//! Places of the experts' pairs in the sorted order, and its tiles.

use super::contract::{self, Held, Kept};
use super::{Args, Bind, Constants, Kernel, KernelSpec, case::Case, expert_count, update_u32, write_u32};
use crate::reference::{self, Real};
use bytemuck::{Pod, Zeroable};

/// The expert of a tile that covers nothing.
pub const UNUSED_TILE: u32 = u32::MAX;

/// Immediates of a dispatch.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Params {
    /// Pairs of a token and one of its experts: tokens times selected.
    pub pairs: u32,
    /// Number of experts.
    pub experts: u32,
    /// Slots that a tile covers at most; tiles do not cross from one expert to the next.
    pub tile_rows: u32,
    /// Tiles that there is room for: [`tiles`] of the other three.
    pub tiles: u32,
}

/// An upper bound on the tiles of `tile_rows` slots, whatever the experts' shares of the pairs.
pub fn tiles(pairs: u32, experts: u32, tile_rows: u32) -> u32 {
    pairs / tile_rows + experts
}

/// The row of the kernel table.
pub static KERNEL: Kernel = Kernel::of::<Spec>();

struct Spec;

impl KernelSpec for Spec {
    type Params = Params;
    const STEM: &'static str = "expert_scan";
    const SUMMARY: &'static str =
        "turns the experts' counts into places in the sorted order, and divides it into tiles";
    const SHADER: &'static str = include_str!("../../shaders/expert_scan.wgsl");
    const BINDS: &'static [Bind] = &[update_u32("counts"), write_u32("offsets"), write_u32("tiles")];

    fn constants(p: &Params) -> Constants {
        vec![
            ("EXPERTS", p.experts.into()),
            ("BLOCK", expert_count::BLOCK as i64),
            ("COLUMNS", p.experts.next_power_of_two().min(256).into()),
        ]
    }

    fn grid(_params: &Params) -> [u32; 3] {
        [1, 1, 1]
    }

    fn contract(p: &Params, held: &[Held<'_>]) -> Kept {
        let counted: u64 = held[0].list().iter().map(|&count| u64::from(count)).sum();
        contract::require(counted == u64::from(p.pairs), || format!("counts hold {counted} pairs, not {}", p.pairs))
    }

    fn reference<F: Real>(p: &Params, args: Args<'_, F>) {
        let [counts, offsets, tiles] = args.all();
        reference::expert_scan::expert_scan(p, counts.index_mut(), offsets.index_mut(), tiles.index_mut());
    }

    fn cases() -> Vec<Case> {
        let case = |((name, experts, chosen), tile_rows): ((&str, u32, Vec<u32>), u32)| {
            let pairs = chosen.len() as u32;
            let p = Params { pairs, experts, tile_rows, tiles: tiles(pairs, experts, tile_rows) };
            let mut counts = vec![0; chosen.len().div_ceil(expert_count::BLOCK) * experts as usize];
            reference::expert_count::expert_count(&expert_count::Params { pairs, experts }, &chosen, &mut counts);
            Case::new(format!("{name}, tiles of {tile_rows}"), &p)
                .index(counts)
                .output_index(experts as usize + 1)
                .output_index(2 * p.tiles as usize)
        };
        expert_count::choices().into_iter().zip([64, 32, 16, 128, 7, 64, 1]).map(case).collect()
    }
}
