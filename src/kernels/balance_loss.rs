//! The sequence-level balance loss and its slope.

use super::contract::{self, Held, Kept};
use super::{Args, Bind, Constants, Kernel, KernelSpec, read, read_u32, update, write};
use super::{case::Case, case::indices, case::uniform, elements, state};
use crate::reference::{self, Real};
use bytemuck::{Pod, Zeroable};

/// Immediates of a dispatch.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Params {
    /// Sequences in this micro-step.
    pub sequences: u32,
    /// Tokens in a sequence, padding included.
    pub length: u32,
    /// Number of experts.
    pub experts: u32,
    /// Experts that a token selects.
    pub selected: u32,
    /// Factor on the loss.
    pub alpha: f32,
}

/// The row of the kernel table.
pub static KERNEL: Kernel = Kernel::of::<Spec>();

struct Spec;

impl KernelSpec for Spec {
    type Params = Params;
    const STEM: &'static str = "balance_loss";
    const SUMMARY: &'static str = "sequence-level balance loss and its slope in the probabilities";
    const SHADER: &'static str = include_str!("../../shaders/balance_loss.wgsl");
    const BINDS: &'static [Bind] = &[
        read("probs"),
        read_u32("chosen"),
        read_u32("real"),
        read_u32("state"),
        read("result"),
        write("slope"),
        update("metrics"),
    ];

    fn constants(p: &Params) -> Constants {
        let lanes = elements::lanes(&[p.experts]);
        let columns = (p.experts / lanes).next_power_of_two().min(256);
        vec![
            ("EXPERTS", p.experts.into()),
            ("SELECTED", p.selected.into()),
            ("LANES", lanes.into()),
            ("COLUMNS", columns.into()),
        ]
    }

    fn grid(_params: &Params) -> [u32; 3] {
        [1, 1, 1]
    }

    fn contract(p: &Params, held: &[Held<'_>]) -> Kept {
        contract::below("chosen", held[1].list(), p.experts as usize)
    }

    fn reference<F: Real>(p: &Params, args: Args<'_, F>) {
        let [probs, chosen, real, state, result, slope, metrics] = args.all();
        let (chosen, real) = (chosen.index(), real.index());
        let window = (state.index(), result.real());
        reference::balance_loss::balance_loss(
            p,
            probs.real(),
            chosen,
            real,
            window,
            slope.real_mut(),
            metrics.real_mut(),
        );
    }

    fn cases() -> Vec<Case> {
        let ones = |b: u32, t: u32| vec![1; (b * t) as usize];
        // The second sequence is padding throughout, the others after a ragged length.
        let padded = |b: u32, t: u32| {
            let real = |i: u32| i / t != 1 && i % t < t - 3 * (i / t + 1);
            (0..b * t).map(|i| real(i).into()).collect()
        };
        vec![
            case("one token, one expert", [1, 1, 1, 1], ones(1, 1)),
            case("three sequences without padding", [3, 70, 8, 2], ones(3, 70)),
            case("padding", [4, 29, 12, 3], padded(4, 29)),
            case("padding amid the text", [4, 29, 12, 3], (0..4 * 29).map(|i| u32::from(i % 5 > 1)).collect()),
            case("an odd number of experts, padding", [3, 131, 7, 7], padded(3, 131)),
            case("one long sequence", [1, 700, 64, 6], ones(1, 700)),
            case("more experts than invocations", [2, 11, 258, 16], ones(2, 11)),
        ]
    }
}

/// Choices of a token need not be distinct nor probabilities sum to 1 for this kernel.
fn case(name: &str, [sequences, length, experts, selected]: [u32; 4], real: Vec<u32>) -> Case {
    let p = Params { sequences, length, experts, selected, alpha: 0.75 };
    let tokens = (sequences * length) as usize;
    let probs = uniform(1, tokens * experts as usize).into_iter().map(|x| 0.5 + 0.5 * x).collect();
    let mut words = vec![9; state::STATE_WORDS]; // of which only one may matter
    words[state::STATE_INVERSE_SEQUENCES] = 0.125f32.to_bits();
    let mut result = vec![9.0; state::RESULT_WORDS];
    result[state::RESULT_LOSS_SCALE] = 4.0;
    Case::new(name, &p)
        .real(probs)
        .index(indices(2, tokens * selected as usize, experts))
        .index(real)
        .index(words)
        .real(result)
        .output((sequences * experts) as usize)
        .uniform(3, state::METRIC_WORDS)
}
