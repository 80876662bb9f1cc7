//! How many pairs of a token and an expert each expert got, padding left out.

use super::contract::{self, Held, Kept};
use super::{Args, Bind, Constants, Kernel, KernelSpec, case::Case, case::indices, fold, read_u32, update};
use crate::reference::{self, Real};
use bytemuck::{Pod, Zeroable};

/// Immediates of a dispatch.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Params {
    /// Row of `loads` that is added to: one a layer with experts.
    pub row: u32,
    /// Number of experts.
    pub experts: u32,
    /// Number of tokens, padding included.
    pub tokens: u32,
    /// Experts that a token selects.
    pub selected: u32,
}

/// The row of the kernel table.
pub static KERNEL: Kernel = Kernel::of::<Spec>();

struct Spec;

impl KernelSpec for Spec {
    type Params = Params;
    const STEM: &'static str = "expert_load";
    const SUMMARY: &'static str = "adds each expert's number of pairs, padding left out, to the loads of a layer";
    const SHADER: &'static str = include_str!("../../shaders/expert_load.wgsl");
    const BINDS: &'static [Bind] = &[read_u32("chosen"), read_u32("real"), update("loads")];

    fn constants(p: &Params) -> Constants {
        vec![("SELECTED", p.selected.into())]
    }

    fn grid(p: &Params) -> [u32; 3] {
        fold(p.experts as usize) // one workgroup an expert
    }

    fn contract(p: &Params, held: &[Held<'_>]) -> Kept {
        contract::below("chosen", held[0].list(), p.experts as usize)
    }

    fn reference<F: Real>(p: &Params, args: Args<'_, F>) {
        let [chosen, real, loads] = args.all();
        reference::expert_load::expert_load(p, chosen.index(), real.index(), loads.real_mut());
    }

    fn cases() -> Vec<Case> {
        // Rows before and after the own one must stay. Of every nine tokens the last `padding` are none, and so is the
        // last token of all.
        let case = |([row, rows, experts], [tokens, selected], padding): ([u32; 3], [u32; 2], u32)| {
            let real = |token: u32| token % 9 < 9 - padding && (padding == 0 || token + 1 < tokens);
            let name = format!("{tokens} tokens, {selected} of {experts} experts, {padding} of 9 padding");
            Case::new(name, &Params { row, experts, tokens, selected })
                .index(indices(1, (tokens * selected) as usize, experts))
                .index((0..tokens).map(|token| real(token).into()).collect())
                .real(indices(2, (rows * experts) as usize, 5000).into_iter().map(f64::from).collect())
        };
        [
            ([0, 1, 1], [1, 1], 0),
            ([1, 3, 7], [300, 2], 0),
            ([0, 2, 64], [2311, 6], 4),
            ([2, 3, 257], [1031, 8], 1),
            ([0, 1, 5], [9, 3], 9),
        ]
        .map(case)
        .into()
    }
}
