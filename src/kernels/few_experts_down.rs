//! The second half of a feed-forward layer on a few tokens.

use super::contract::{self, Held, Kept};
use super::few_experts_up::shapes;
use super::few_linear::lanes;
use super::{Args, Bind, Constants, Kernel, KernelSpec, case, case::Case, fold, read, read_u32, write};
use crate::reference::{self, Real};

pub use super::few_experts_up::Params;

/// The row of the kernel table.
pub static KERNEL: Kernel = Kernel::of::<Spec>();

struct Spec;

/// Outputs of a workgroup: each sum is long, so many invocations share it.
const OUTPUTS: u32 = 2;

impl KernelSpec for Spec {
    type Params = Params;
    const STEM: &'static str = "few_experts_down";
    const SUMMARY: &'static str = "adds a few rows' experts, by their weights, and what is shared to the residual";
    const SHADER: &'static str = include_str!("../../shaders/few_experts_down.wgsl");
    const BINDS: &'static [Bind] = &[
        read("h"),
        read_u32("chosen"),
        read("weights"),
        read("down").or_half("HALF_DOWN"),
        read("shared_down").or_half("HALF_SHARED_DOWN"),
        read("residual"),
        write("y"),
    ];

    fn constants(p: &Params) -> Constants {
        vec![("LANES", lanes(&[p.expert, p.dense]))]
    }

    fn grid(p: &Params) -> [u32; 3] {
        fold((p.rows * p.width.div_ceil(OUTPUTS)) as usize)
    }

    fn contract(p: &Params, held: &[Held<'_>]) -> Kept {
        let experts = held[3].len() / (p.expert.max(1) * p.width) as usize;
        contract::below("chosen", &held[1].list()[..(p.rows * p.selected) as usize], experts)
    }

    fn reference<F: Real>(p: &Params, args: Args<'_, F>) {
        let [h, chosen, weights, down, shared_down, residual, y] = args.all();
        let read = [h, weights, down, shared_down, residual].map(|x| x.real());
        reference::few_experts_down::few_experts_down(p, read, chosen.index(), y.real_mut());
    }

    fn cases() -> Vec<Case> {
        let case = |(name, p): (&str, Params)| {
            let experts = 5;
            Case::new(name, &p)
                .uniform(1, (p.rows * p.hidden()) as usize)
                .index(case::indices(2, (p.rows * p.selected).max(1) as usize, experts))
                .uniform(3, (p.rows * p.selected).max(1) as usize)
                .uniform(4, (experts * p.width * p.expert) as usize)
                .uniform(5, (p.width * p.dense.max(1)) as usize)
                .uniform(6, (p.rows * p.width) as usize)
                .output((p.rows * p.width) as usize)
        };
        shapes().into_iter().map(case).collect()
    }
}
