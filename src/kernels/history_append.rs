//! The tokens of sequences that are generated.

use super::contract::{self, Held, Kept};
use super::latent_attention::places;
use super::{Args, Bind, Kernel, KernelSpec, case, case::Case, elements, read_u32, update_u32};
use crate::reference::{self, Real};
use bytemuck::{Pod, Zeroable};

/// Immediates of a dispatch.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Params {
    /// Number of tokens.
    pub rows: u32,
    /// Positions of a slot.
    pub capacity: u32,
}

/// The row of the kernel table.
pub static KERNEL: Kernel = Kernel::of::<Spec>();

struct Spec;

impl KernelSpec for Spec {
    type Params = Params;
    const STEM: &'static str = "history_append";
    const SUMMARY: &'static str = "keeps the tokens of prompts, which a repetition penalty asks for";
    const SHADER: &'static str = include_str!("../../shaders/history_append.wgsl");
    const BINDS: &'static [Bind] = &[read_u32("ids"), read_u32("slots"), read_u32("positions"), update_u32("history")];

    fn grid(p: &Params) -> [u32; 3] {
        elements::grid(p.rows, 1)
    }

    fn contract(p: &Params, held: &[Held<'_>]) -> Kept {
        let [slots, positions] = [1, 2].map(|i| held[i].list());
        contract::places(slots, positions, p.capacity as usize, held[3].len())?;
        contract::places_apart(slots, positions)
    }

    fn reference<F: Real>(p: &Params, args: Args<'_, F>) {
        let [ids, slots, positions, history] = args.all();
        reference::history_append::history_append(
            p,
            ids.index(),
            [slots.index(), positions.index()],
            history.index_mut(),
        );
    }

    fn cases() -> Vec<Case> {
        let case = |(name, rows, capacity)| {
            let p = Params { rows, capacity };
            let sizes =
                super::latent_attention::Params { capacity, ..super::latent_attention::Params::sizes(rows, 1, [1; 4]) };
            let (slots, positions) = places(&sizes, 3);
            Case::new(name, &p)
                .index(case::indices(1, rows as usize, 1000))
                .index(slots)
                .index(positions)
                .index(case::indices(2, 3 * capacity as usize, 1000))
        };
        [("one token", 1, 1), ("a row without a slot", 5, 150), ("a few", 7, 90)].into_iter().map(case).collect()
    }
}
