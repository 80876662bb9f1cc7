//! The clipped value loss of PPO, and its gradient.

use super::{
    Args, Bind, Kernel, KernelSpec,
    case::{Case, uniform},
    elements, read,
    state::{VALUE_COLUMNS, first_result},
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
    /// How far a value may move from the old one before it is clipped.
    pub clip: f32,
    /// Factor on the gradient; results are without it.
    pub coefficient: f32,
}

/// The row of the kernel table.
pub static KERNEL: Kernel = Kernel::of::<Spec>();

struct Spec;

impl KernelSpec for Spec {
    type Params = Params;
    const STEM: &'static str = "value_loss";
    const SUMMARY: &'static str = "clipped value loss of PPO, and its gradient in the values";
    const SHADER: &'static str = include_str!("../../shaders/value_loss.wgsl");
    const BINDS: &'static [Bind] = &[
        read("values"),
        read("old"),
        read("returns"),
        read("factors"),
        read("result"),
        write("d_values"),
        write("results"),
    ];

    fn grid(p: &Params) -> [u32; 3] {
        elements::grid(p.tokens, 1)
    }

    fn reference<F: Real>(p: &Params, args: Args<'_, F>) {
        let [values, old, returns, factors, result, d_values, results] = args.all();
        let inputs = [values, old, returns, factors].map(|input| input.real());
        reference::value_loss::value_loss(p, inputs, result.real(), d_values.real_mut(), results.real_mut());
    }

    fn cases() -> Vec<Case> {
        let case = |(tokens, clip, coefficient): (u32, f32, f32)| {
            let n = tokens as usize;
            let factor = |(i, x): (usize, f64)| if i % 7 == 3 { 0.0 } else { 1.0 + x / 2.0 };
            let factors = uniform(4, n).into_iter().enumerate().map(factor);
            Case::new(format!("{tokens} tokens within {clip}"), &Params { tokens, clip, coefficient })
                .uniform(1, n)
                .uniform(2, n)
                .uniform(3, n)
                .real(factors.collect())
                .real(first_result(4.0).map(f64::from).to_vec())
                .output(n)
                .output(n * VALUE_COLUMNS)
        };
        [(1, 0.2, 0.5), (70, 0.2, 0.1), (257, 0.5, 1.0), (1031, 10.0, 0.1)].map(case).into()
    }
}
