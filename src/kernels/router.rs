//! Softmax over the experts, the selection of some, and their weights.

use super::{Args, Bind, Constants, Kernel, KernelSpec, case::Case, case::uniform, fold, read, write, write_u32};
use crate::reference::{self, Real};
use bytemuck::{Pod, Zeroable};

/// Immediates of a dispatch.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Params {
    /// Number of tokens.
    pub rows: u32,
    /// Number of experts.
    pub experts: u32,
    /// Experts that a token selects, at most `groups_kept * experts / groups`.
    pub selected: u32,
    /// Contiguous groups of experts; divides `experts`. 1 selects among all experts.
    pub groups: u32,
    /// Groups among whose experts a token selects, at least 1.
    pub groups_kept: u32,
    /// 1 divides the weights by the selected probabilities' sum plus `epsilon`, 0 leaves them.
    pub normalise: u32,
    /// Added to the sum that weights are divided by.
    pub epsilon: f32,
    /// Factor on every weight.
    pub scale: f32,
}

/// The row of the kernel table.
pub static KERNEL: Kernel = Kernel::of::<Spec>();

struct Spec;

impl KernelSpec for Spec {
    type Params = Params;
    const STEM: &'static str = "router";
    const SUMMARY: &'static str = "softmax over the experts, the selection of some, and their weights";
    const SHADER: &'static str = include_str!("../../shaders/router.wgsl");
    const BINDS: &'static [Bind] = &[read("logits"), write("probs"), write_u32("chosen"), write("weights")];

    fn constants(p: &Params) -> Constants {
        vec![
            ("EXPERTS", p.experts.into()),
            ("SELECTED", p.selected.into()),
            ("GROUPS", p.groups.into()),
            ("THREADS", threads(p.experts)),
        ]
    }

    fn grid(p: &Params) -> [u32; 3] {
        fold(p.rows as usize) // one workgroup a token
    }

    fn reference<F: Real>(p: &Params, args: Args<'_, F>) {
        let [logits, probs, chosen, weights] = args.all();
        reference::router::router(p, logits.real(), probs.real_mut(), chosen.index_mut(), weights.real_mut());
    }

    fn cases() -> Vec<Case> {
        let case = |(name, p, logits): (&str, Params, Vec<f64>)| {
            Case::new(name, &p)
                .real(logits)
                .output((p.rows * p.experts) as usize)
                .output_index((p.rows * p.selected) as usize)
                .output((p.rows * p.selected) as usize)
        };
        shapes().into_iter().map(case).collect()
    }
}

/// Invocations for one row of experts: a power of two, as the reduction asks.
pub(super) fn threads(experts: u32) -> i64 {
    experts.next_power_of_two().clamp(32, 256).into()
}

/// Parameters and logits of the router's cases, which its backward pass shares.
pub(super) fn shapes() -> Vec<(&'static str, Params, Vec<f64>)> {
    let plain = Params {
        rows: 33,
        experts: 64,
        selected: 6,
        groups: 1,
        groups_kept: 1,
        normalise: 0,
        epsilon: 0.25, // large on purpose: a dropped one must show
        scale: 1.7,
    };
    let normal = Params { normalise: 1, ..plain };
    let shape = |p: Params, rows, experts, selected| Params { rows, experts, selected, ..p };
    let grouped = |p: Params, groups, groups_kept| Params { groups, groups_kept, ..p };
    let random = |name, p: Params, seed| {
        (name, p, uniform(seed, (p.rows * p.experts) as usize).into_iter().map(|x| 4.0 * x).collect())
    };
    // Few distinct values, zeros of both signs among them, so that nearly every choice is a tie.
    let tied = |name, p: Params| {
        let level = |i: u32| [0.5, -0.0, 0.0, 0.5, -1.25][(i * i / 3 % 5) as usize];
        (name, p, (0..p.rows * p.experts).map(level).collect())
    };
    vec![
        random("one token, one expert", shape(plain, 1, 1, 1), 1),
        random("weights as they are", plain, 2),
        random("normalised", normal, 3),
        random("every expert selected, a prime number", shape(normal, 3, 7, 7), 4),
        random("more experts than invocations", shape(normal, 2, 300, 16), 5),
        random("160 experts in 8 groups", grouped(shape(plain, 19, 160, 6), 8, 3), 6),
        random("groups as small as the selection asks", grouped(shape(normal, 5, 12, 6), 4, 2), 7),
        tied("ties", shape(normal, 9, 20, 5)),
        tied("ties between groups", grouped(shape(plain, 9, 20, 5), 5, 2)),
        ("equal logits", shape(normal, 4, 64, 6), vec![-3.5; 256]),
    ]
}
