//! The clipped policy loss of PPO and GRPO, as weights of tokens.

use super::{
    Args, Bind, Kernel, KernelSpec,
    case::{Case, Data, uniform},
    elements, read,
    state::TOKEN_COLUMNS,
    write,
};
use crate::reference::{self, Real};
use bytemuck::{Pod, Zeroable};

/// Immediates of a dispatch.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Params {
    /// Tokens.
    pub tokens: u32,
    /// How far below 1 a ratio of probabilities may fall before it is clipped.
    pub clip_low: f32,
    /// How far above 1 it may rise.
    pub clip_high: f32,
    /// Factor on the divergence from the reference; 0 for none.
    pub beta: f32,
    /// Factor on the entropy, which the loss lowers by it; 0 for none.
    pub entropy_bonus: f32,
}

/// Exponents of probabilities' ratios count as this at most: a ratio beyond all numbers, times an advantage of 0, would
/// be no number. The square of what is left still is one in f32, as the gradient's norm needs. The shader has the same.
pub const MOST_EXPONENT: f32 = 40.0;

/// The row of the kernel table.
pub static KERNEL: Kernel = Kernel::of::<Spec>();

struct Spec;

impl KernelSpec for Spec {
    type Params = Params;
    const STEM: &'static str = "policy_loss";
    const SUMMARY: &'static str = "clipped policy loss of PPO and GRPO, as weights of the tokens";
    const SHADER: &'static str = include_str!("../../shaders/policy_loss.wgsl");
    const BINDS: &'static [Bind] = &[
        read("log_probs"),
        read("entropies"),
        read("old"),
        read("reference"),
        read("advantages"),
        read("factors"),
        write("loss_weights"),
        write("results"),
    ];

    fn grid(p: &Params) -> [u32; 3] {
        elements::grid(p.tokens, 1)
    }

    fn reference<F: Real>(p: &Params, args: Args<'_, F>) {
        let [log_probs, entropies, old, reference, advantages, factors, loss_weights, results] = args.all();
        let inputs = [log_probs, entropies, old, reference, advantages, factors].map(|input| input.real());
        reference::policy_loss::policy_loss(p, inputs, loss_weights.real_mut(), results.real_mut());
    }

    fn cases() -> Vec<Case> {
        vec![
            case("one token", 1, [0.2, 0.2, 0.1, 0.05], 0.5),
            case("both sides clipped", 70, [0.2, 0.28, 0.05, 0.0], 0.6),
            case("no divergence", 257, [0.2, 0.2, 0.0, 0.0], 0.3),
            case("no divergence, entropy", 257, [0.2, 0.2, 0.0, 0.25], 0.3),
            case("far apart", 1031, [0.1, 0.4, 1.0, 0.5], 4.0),
            case("hardly moved", 300, [0.2, 0.2, 0.5, 0.0], 1e-3),
            beyond(),
        ]
    }
}

/// Log-probabilities that differ from those of then and of the reference by up to `apart`; every fifth token has factor
/// 0, the others factors between 0.5 and 1.5.
fn case(name: &str, tokens: u32, [clip_low, clip_high, beta, entropy_bonus]: [f32; 4], apart: f64) -> Case {
    let n = tokens as usize;
    let now: Vec<f64> = uniform(1, n).into_iter().map(|x| 4.0 * x - 4.0).collect();
    let near = |seed| now.iter().zip(uniform(seed, n)).map(|(lp, x)| lp + apart * x).collect::<Vec<f64>>();
    let factors = uniform(6, n).into_iter().enumerate().map(|(i, x)| if i % 5 == 4 { 0.0 } else { 1.0 + 0.5 * x });
    Case::new(name, &Params { tokens, clip_low, clip_high, beta, entropy_bonus })
        .real(now.clone())
        .real(uniform(2, n).into_iter().map(|x| 1.0 + x).collect())
        .real(near(3))
        .real(near(4))
        .uniform(5, n)
        .real(factors.collect())
        .output(n)
        .output(n * TOKEN_COLUMNS)
}

/// Ratios and divergences beyond all numbers, without an advantage.
fn beyond() -> Case {
    let n = 9;
    let mut case = case("ratios beyond all numbers", n as u32, [0.2, 0.2, 0.0, 0.0], 300.0);
    case.data[4] = Data::Real(vec![0.0; n]);
    case
}
