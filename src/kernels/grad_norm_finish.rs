//! Norm of the whole gradient, its clip factor, and whether it is finite.

use super::{
    Args, Bind, Kernel, KernelSpec,
    case::{Case, Data, uniform},
    read,
    state::{
        LARGEST_LOSS_SCALE, METRIC_SPIKE, METRIC_WORDS, RESULT_CLEAN, RESULT_LOSS_SCALE, RESULT_SKIPPED, RESULT_WORDS,
    },
    update,
};
use crate::reference::{self, Real};
use bytemuck::{Pod, Zeroable};

/// Immediates of a dispatch.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Params {
    /// Number of sums of squares.
    pub partials: u32,
    /// Largest norm that passes unchanged; 0 never clips.
    pub clip_norm: f32,
    /// Decay of AdamW's mean of gradients.
    pub beta1: f32,
    /// Decay of AdamW's mean of squared gradients.
    pub beta2: f32,
    /// Finite gradients in a row after which the loss scale doubles; 0 keeps it as it is.
    pub growth_interval: u32,
}

/// Added to the norm before the clip norm is divided by it, so that a zero gradient has a factor.
pub const CLIP_EPSILON: f64 = 1e-6;

/// The row of the kernel table.
pub static KERNEL: Kernel = Kernel::of::<Spec>();

struct Spec;

impl KernelSpec for Spec {
    type Params = Params;
    const STEM: &'static str = "grad_norm_finish";
    const SUMMARY: &'static str =
        "gradient norm, clip factor and finite flag; moves loss scale and bias corrections on";
    const SHADER: &'static str = include_str!("../../shaders/grad_norm_finish.wgsl");
    const BINDS: &'static [Bind] = &[read("partials"), read("metrics"), update("result")];

    fn grid(_: &Params) -> [u32; 3] {
        [1, 1, 1]
    }

    fn reference<F: Real>(p: &Params, args: Args<'_, F>) {
        let [partials, metrics, result] = args.all();
        reference::grad_norm_finish::grad_norm_finish(p, partials.real(), metrics.real(), result.real_mut());
    }

    fn cases() -> Vec<Case> {
        // sums, their size, clip norm: above, below and without a limit, a tiny gradient, a zero one
        let sums =
            [(1, 1.0, 10.0), (7, 0.1, 0.25), (300, 1.0, 0.0), (1031, 1e-3, 0.5), (5, 1e-14, 1e-7), (3, 0.0, 1.0)];
        let fixed = sums.map(|(partials, scale, clip_norm)| case(partials, scale, clip_norm, 0, [1.0, 7.0, 0.0]));
        let moving = [
            case(9, 1.0, 0.5, 3, [256.0, 1.0, 1.0]),
            case(9, 1.0, 0.5, 3, [256.0, 2.0, 1.0]),
            case(9, 1.0, 0.5, 3, [f64::from(LARGEST_LOSS_SCALE), 2.0, 1.0]),
            spike(case(9, 1.0, 0.5, 3, [256.0, 1.0, 1.0])),
        ];
        fixed.into_iter().chain(moving).collect()
    }
}

/// Sums of squares up to `size`, and a result with a loss scale, clean updates and skipped ones. What happens to a sum
/// that is not finite is compared in `tests/non_finite.rs`: as a number it compares with nothing.
fn case(partials: u32, size: f64, clip_norm: f32, growth_interval: u32, [scale, clean, skipped]: [f64; 3]) -> Case {
    let squares = uniform(1, partials as usize).into_iter().map(|x| x * x * size);
    let name = format!("{partials} sums, limit {clip_norm}, scale {scale}, {clean} clean");
    let mut result = uniform(2, RESULT_WORDS);
    (result[RESULT_LOSS_SCALE], result[RESULT_CLEAN], result[RESULT_SKIPPED]) = (scale, clean, skipped);
    Case::new(name, &Params { partials, clip_norm, beta1: 0.75, beta2: 0.875, growth_interval })
        .real(squares.collect())
        .real(vec![0.25; METRIC_WORDS])
        .real(result)
}

/// The same where the loss is a spike.
fn spike(mut case: Case) -> Case {
    case.name += ", a spike";
    if let Data::Real(metrics) = &mut case.data[1] {
        metrics[METRIC_SPIKE] = 1.0;
    }
    case
}
