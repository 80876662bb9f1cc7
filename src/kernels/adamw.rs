//! One AdamW update of one parameter.

use super::{
    Args, Bind, Constants, Kernel, KernelSpec,
    case::{Case, uniform},
    elements, read, read_u32, state, update,
};
use crate::reference::{self, Real};
use bytemuck::{Pod, Zeroable};

/// Immediates of a dispatch. What changes from step to step is in `state`, so that a recording can be replayed.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Params {
    /// Number of elements.
    pub count: u32,
    /// Decay of the mean of gradients.
    pub beta1: f32,
    /// Decay of the mean of squared gradients.
    pub beta2: f32,
    /// Added to the root of the mean square, after its bias correction.
    pub epsilon: f32,
    /// Share of the parameter, times the learning rate, that a step takes away.
    pub weight_decay: f32,
    /// 1: the parameter also goes to `copy`.
    pub copied: u32,
    /// 1: the gradient becomes zeros; 0: it stays, for a micro-step that overwrites it.
    pub zeroed: u32,
}

/// The row of the kernel table.
pub static KERNEL: Kernel = Kernel::of::<Spec>();

struct Spec;

impl KernelSpec for Spec {
    type Params = Params;
    const STEM: &'static str = "adamw";
    const SUMMARY: &'static str = "AdamW update, which zeroes the gradient where it is added to";
    const SHADER: &'static str = include_str!("../../shaders/adamw.wgsl");
    const BINDS: &'static [Bind] = &[
        read_u32("state"),
        read("result"),
        update("parameter"),
        update("gradient"),
        update("m"),
        update("v"),
        update("copy").or_half("HALF_COPY"),
    ];

    fn constants(p: &Params) -> Constants {
        elements::constants(&[p.count])
    }

    fn grid(p: &Params) -> [u32; 3] {
        elements::grid(p.count, elements::lanes(&[p.count]))
    }

    fn reference<F: Real>(p: &Params, args: Args<'_, F>) {
        let [state, result, parameter, gradient, m, v, copy] = args.all();
        let (parameter, gradient) = (parameter.real_mut(), gradient.real_mut());
        let moments = [m.real_mut(), v.real_mut()];
        reference::adamw::adamw(p, state.index(), result.real(), parameter, gradient, moments, copy.real_mut());
    }

    fn cases() -> Vec<Case> {
        let p =
            Params { count: 1, beta1: 0.75, beta2: 0.875, epsilon: 0.125, weight_decay: 0.25, copied: 1, zeroed: 1 };
        let usual =
            Params { count: 2048, beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weight_decay: 0.1, copied: 1, zeroed: 1 };
        vec![
            case("one element", p, 0.5, 0.25, 1.0),
            case("clipped, with decay", Params { count: 1021, ..p }, 0.25, 0.125, 1.0),
            case("usual numbers", usual, 0.01, 1.0, 1.0),
            case("without decay", Params { count: 37, weight_decay: 0.0, copied: 0, ..usual }, 0.1, 0.5, 1.0),
            case("not finite", Params { count: 256, ..p }, 0.5, 0.25, 0.0),
            case("gradient kept", Params { count: 1021, zeroed: 0, ..p }, 0.25, 0.125, 1.0),
            case("not finite, gradient kept", Params { count: 256, zeroed: 0, ..p }, 0.5, 0.25, 0.0),
        ]
    }
}

/// The third update of moments that exist; `result` says `clip` and whether the gradient is `finite`.
fn case(name: &str, p: Params, learning_rate: f32, clip: f64, finite: f64) -> Case {
    let n = p.count as usize;
    let mut words = vec![0; state::STATE_WORDS];
    words[state::STATE_LEARNING_RATE] = learning_rate.to_bits();
    let mut result = vec![0.0; state::RESULT_WORDS];
    (result[state::RESULT_CLIP], result[state::RESULT_FINITE]) = (clip, finite);
    result[state::RESULT_CORRECTION1] = f64::from(1.0 - p.beta1.powi(3));
    result[state::RESULT_CORRECTION2] = f64::from(1.0 - p.beta2.powi(3));
    Case::new(name, &p)
        .index(words)
        .real(result)
        .uniform(1, n)
        .uniform(2, n)
        .uniform(3, n)
        .real(uniform(4, n).into_iter().map(|x| x * x).collect())
        .uniform(5, n)
}
