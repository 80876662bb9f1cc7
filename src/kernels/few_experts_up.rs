//! The gated first half of a feed-forward layer on a few tokens: of the experts that each token has, and of the shared
//! one.

use super::contract::{self, Held, Kept};
use super::few_linear::{TEAMS, lanes};
use super::{Args, Bind, Constants, Kernel, KernelSpec, case, case::Case, fold, read, read_u32, write};
use crate::reference::{self, Real};
use bytemuck::{Pod, Zeroable};

/// Immediates of a dispatch, and of those of `few_experts_down`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Params {
    /// Number of tokens.
    pub rows: u32,
    /// Width of a token.
    pub width: u32,
    /// Experts of a token; 0 in a layer without.
    pub selected: u32,
    /// Hidden width of an expert.
    pub expert: u32,
    /// Hidden width of what every token has; 0 for nothing.
    pub dense: u32,
    /// Added to the mean square before the root.
    pub epsilon: f32,
}

impl Params {
    /// Hidden numbers of a token: those of its experts in order, then those of what is shared.
    pub fn hidden(&self) -> u32 {
        self.selected * self.expert + self.dense
    }
}

/// The row of the kernel table.
pub static KERNEL: Kernel = Kernel::of::<Spec>();

struct Spec;

impl KernelSpec for Spec {
    type Params = Params;
    const STEM: &'static str = "few_experts_up";
    const SUMMARY: &'static str = "normalises a few rows and makes their experts' and shared gated hidden numbers";
    const SHADER: &'static str = include_str!("../../shaders/few_experts_up.wgsl");
    const BINDS: &'static [Bind] = &[
        read("x"),
        read("norm"),
        read_u32("chosen"),
        read("gate").or_half("HALF_GATE"),
        read("up").or_half("HALF_UP"),
        read("shared_gate").or_half("HALF_SHARED_GATE"),
        read("shared_up").or_half("HALF_SHARED_UP"),
        write("h"),
    ];

    fn constants(p: &Params) -> Constants {
        vec![("LANES", lanes(&[p.width]))]
    }

    fn grid(p: &Params) -> [u32; 3] {
        fold((p.rows * p.hidden().div_ceil(TEAMS)) as usize)
    }

    fn contract(p: &Params, held: &[Held<'_>]) -> Kept {
        let experts = held[3].len() / (p.expert.max(1) * p.width) as usize;
        contract::below("chosen", &held[2].list()[..(p.rows * p.selected) as usize], experts)
    }

    fn reference<F: Real>(p: &Params, args: Args<'_, F>) {
        let [x, norm, chosen, gate, up, shared_gate, shared_up, h] = args.all();
        let weights = [gate, up, shared_gate, shared_up].map(|weight| weight.real());
        reference::few_experts_up::few_experts_up(p, [x.real(), norm.real()], chosen.index(), weights, h.real_mut());
    }

    fn cases() -> Vec<Case> {
        let case = |(name, p): (&str, Params)| {
            let (experts, matrix) = (5, p.expert.max(1) * p.width);
            Case::new(name, &p)
                .uniform(1, (p.rows * p.width) as usize)
                .uniform(2, p.width as usize)
                .index(case::indices(3, (p.rows * p.selected).max(1) as usize, experts))
                .uniform(4, (experts * matrix) as usize)
                .uniform(5, (experts * matrix) as usize)
                .uniform(6, (p.dense.max(1) * p.width) as usize)
                .uniform(7, (p.dense.max(1) * p.width) as usize)
                .output((p.rows * p.hidden()) as usize)
        };
        shapes().into_iter().map(case).collect()
    }
}

/// The cases' sizes, which the second half shares.
pub(super) fn shapes() -> Vec<(&'static str, Params)> {
    let p = |rows, width, selected, expert, dense| Params { rows, width, selected, expert, dense, epsilon: 0.25 };
    vec![
        ("one of each", p(1, 1, 1, 1, 1)),
        ("experts and shared", p(2, 36, 3, 20, 28)),
        ("odd sizes", p(3, 37, 2, 11, 13)),
        ("no experts", p(2, 64, 0, 8, 40)),
        ("nothing shared", p(8, 20, 2, 24, 0)),
        ("wide", Params { epsilon: 1e-6, ..p(1, 512, 2, 64, 128) }),
    ]
}
