//! The loss of a reward model on pairs, and its gradient in the scores.

use super::contract::{self, Held, Kept};
use super::{
    Args, Bind, Kernel, KernelSpec,
    case::{Case, Data, indices, uniform},
    fold, read, read_u32,
    state::{IGNORED, SCORED_PAIR_COLUMNS, STATE_INVERSE_PAIRS, STATE_WORDS, first_result},
    write,
};
use crate::reference::{self, Real};
use bytemuck::{Pod, Zeroable};

/// Immediates of a dispatch.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Params {
    /// Pairs of sequences.
    pub pairs: u32,
    /// Tokens of a sequence.
    pub length: u32,
    /// Weight of the square of a pair's sum of rewards, which keeps rewards around 0.
    pub centring: f32,
}

/// The row of the kernel table.
pub static KERNEL: Kernel = Kernel::of::<Spec>();

struct Spec;

impl KernelSpec for Spec {
    type Params = Params;
    const STEM: &'static str = "pair_loss";
    const SUMMARY: &'static str = "Bradley-Terry loss of pairs of scores, and its gradient in the scores";
    const SHADER: &'static str = include_str!("../../shaders/pair_loss.wgsl");
    const BINDS: &'static [Bind] = &[
        read("scores"),
        read_u32("ends"),
        read("margins"),
        read_u32("state"),
        read("result"),
        write("d_scores"),
        write("results"),
    ];

    fn grid(p: &Params) -> [u32; 3] {
        fold(p.pairs as usize) // one workgroup a pair
    }

    fn contract(p: &Params, held: &[Held<'_>]) -> Kept {
        let ends: Vec<u32> = held[1].list().iter().copied().filter(|&end| end != IGNORED).collect();
        contract::below("ends", &ends, p.length as usize)
    }

    fn reference<F: Real>(p: &Params, args: Args<'_, F>) {
        let [scores, ends, margins, state, result, d_scores, results] = args.all();
        let window = (state.index(), result.real());
        let (scores, ends, margins) = (scores.real(), ends.index(), margins.real());
        reference::pair_loss::pair_loss(p, (scores, ends, margins), window, d_scores.real_mut(), results.real_mut());
    }

    fn cases() -> Vec<Case> {
        vec![
            case("one token a sequence", [1, 1], 0.0, 1.0),
            case("three pairs, the second is padding", [3, 9], 0.25, 1.0),
            case("long sequences", [7, 300], 0.01, 3.0),
            case("saturated", [5, 4], 0.0, 60.0),
            corners(),
        ]
    }
}

/// Scores up to `scale`. The second pair has one end, the fourth none.
fn case(name: &str, [pairs, length]: [u32; 2], centring: f32, scale: f64) -> Case {
    let n = (2 * pairs * length) as usize;
    let ends = indices(2, 2 * pairs as usize, length).into_iter().enumerate();
    let ends = ends.map(|(sequence, end)| if [2, 6, 7].contains(&sequence) { IGNORED } else { end });
    let mut words = vec![9; STATE_WORDS]; // of which only one may matter
    words[STATE_INVERSE_PAIRS] = 0.125f32.to_bits();
    Case::new(name, &Params { pairs, length, centring })
        .real(uniform(1, n).into_iter().map(|x| x * scale).collect())
        .index(ends.collect())
        .uniform(3, pairs as usize)
        .index(words)
        .real(first_result(4.0).map(f64::from).to_vec())
        .output(n)
        .output(pairs as usize * SCORED_PAIR_COLUMNS)
}

/// Pairs whose answers end at the first and at the last place of their rows.
fn corners() -> Case {
    let mut case = case("ends at both edges of a row", [2, 9], 0.25, 1.0);
    case.data[1] = Data::Index(vec![0, 8, 8, 0]);
    case
}
