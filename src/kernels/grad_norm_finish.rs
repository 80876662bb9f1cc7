//! Norm of the whole gradient, its clip factor, and whether it is finite.

use super::{
    Args, Bind, Kernel, KernelSpec,
    case::{Case, uniform},
    read,
    state::RESULT_WORDS,
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
}

/// Added to the norm before the clip norm is divided by it, so that a zero gradient has a factor.
pub const CLIP_EPSILON: f64 = 1e-6;

/// The row of the kernel table.
pub static KERNEL: Kernel = Kernel::of::<Spec>();

struct Spec;

impl KernelSpec for Spec {
    type Params = Params;
    const STEM: &'static str = "grad_norm_finish";
    const SUMMARY: &'static str = "gradient norm, clip factor and finite flag from the sums of squares";
    const SHADER: &'static str = include_str!("../../shaders/grad_norm_finish.wgsl");
    const BINDS: &'static [Bind] = &[read("partials"), update("result")];

    fn grid(_: &Params) -> [u32; 3] {
        [1, 1, 1]
    }

    fn reference<F: Real>(p: &Params, args: Args<'_, F>) {
        let [partials, result] = args.all();
        reference::grad_norm_finish::grad_norm_finish(p, partials.real(), result.real_mut());
    }

    fn cases() -> Vec<Case> {
        // sums, their size, clip norm: above, below and without a limit, a tiny gradient, a zero one
        [(1, 1.0, 10.0), (7, 0.1, 0.25), (300, 1.0, 0.0), (1031, 1e-3, 0.5), (5, 1e-14, 1e-7), (3, 0.0, 1.0)]
            .map(|(partials, scale, clip_norm): (u32, f64, f32)| {
                let squares = uniform(1, partials as usize).into_iter().map(|x| x * x * scale);
                Case::new(format!("{partials} sums, limit {clip_norm}"), &Params { partials, clip_norm })
                    .real(squares.collect())
                    .uniform(2, RESULT_WORDS)
            })
            .into()
    }
}
