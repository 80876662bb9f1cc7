//! Direct preference optimisation: the loss of pairs of sequences, as weights of their tokens.

use super::{
    Args, Bind, Kernel, KernelSpec,
    case::{Case, indices, uniform},
    fold, read, read_u32,
    state::{IGNORED, PAIR_COLUMNS, STATE_INVERSE_PAIRS, STATE_WORDS},
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
    /// Factor on differences of log-probabilities.
    pub beta: f32,
    /// Share of pairs that is taken to be the wrong way round.
    pub smoothing: f32,
}

/// The row of the kernel table.
pub static KERNEL: Kernel = Kernel::of::<Spec>();

struct Spec;

impl KernelSpec for Spec {
    type Params = Params;
    const STEM: &'static str = "preference_loss";
    const SUMMARY: &'static str = "loss of pairs of sequences by DPO, as weights of the tokens";
    const SHADER: &'static str = include_str!("../../shaders/preference_loss.wgsl");
    const BINDS: &'static [Bind] = &[
        read("log_probs"),
        read("entropies"),
        read_u32("targets"),
        read("reference"),
        read_u32("state"),
        write("loss_weights"),
        write("results"),
    ];

    fn grid(p: &Params) -> [u32; 3] {
        fold(p.pairs as usize) // one workgroup a pair
    }

    fn reference<F: Real>(p: &Params, args: Args<'_, F>) {
        let [log_probs, entropies, targets, sums, state, loss_weights, results] = args.all();
        let tokens = (log_probs.real(), entropies.real(), targets.index());
        let (sums, state) = (sums.real(), state.index());
        reference::preference_loss::preference_loss(
            p,
            tokens,
            sums,
            state,
            loss_weights.real_mut(),
            results.real_mut(),
        );
    }

    fn cases() -> Vec<Case> {
        vec![
            case("one token a sequence", [1, 1], [0.5, 0.0], 1.0),
            case("three pairs", [3, 7], [0.25, 0.0], 1.0),
            case("smoothed, the second pair is padding", [5, 300], [0.125, 0.25], 1.0),
            case("saturated", [4, 40], [2.0, 0.125], 20.0),
        ]
    }
}

/// Log-probabilities down to `-2 scale`, some ignored. The second pair has no counted target, the third a chosen
/// sequence without one.
fn case(name: &str, [pairs, length]: [u32; 2], [beta, smoothing]: [f32; 2], scale: f64) -> Case {
    let n = (2 * pairs * length) as usize;
    let padding = |i: usize| {
        let sequence = i / length as usize;
        length > 1 && (i.is_multiple_of(5) || [2, 3].contains(&sequence) || pairs > 3 && sequence == 4)
    };
    let targets = indices(1, n, 9).into_iter().enumerate().map(|(i, y)| if padding(i) { IGNORED } else { y });
    let log_probs = uniform(2, n).into_iter().map(|x| (x - 1.0) * scale).collect();
    let reference = uniform(4, 2 * pairs as usize).into_iter().map(|x| (0.2 * x - 0.8) * scale * f64::from(length));
    let mut words = vec![9; STATE_WORDS]; // of which only one may matter
    words[STATE_INVERSE_PAIRS] = 0.125f32.to_bits();
    Case::new(name, &Params { pairs, length, beta, smoothing })
        .real(log_probs)
        .real(uniform(3, n).into_iter().map(|x| 1.0 + x).collect())
        .index(targets.collect())
        .real(reference.collect())
        .index(words)
        .output(n)
        .output(pairs as usize * PAIR_COLUMNS)
}
