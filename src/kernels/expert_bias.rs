//! The selection biases of a layer's experts, moved against their loads.

use super::{Args, Bind, Kernel, KernelSpec, case::Case, case::indices, read, state, update};
use crate::reference::{self, Real};
use bytemuck::{Pod, Zeroable};

/// Immediates of a dispatch.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Params {
    /// Row of `loads` that is read: one a layer with experts.
    pub row: u32,
    /// Number of experts.
    pub experts: u32,
    /// What a bias moves by.
    pub speed: f32,
}

/// The row of the kernel table.
pub static KERNEL: Kernel = Kernel::of::<Spec>();

struct Spec;

impl KernelSpec for Spec {
    type Params = Params;
    const STEM: &'static str = "expert_bias";
    const SUMMARY: &'static str = "moves each expert's selection bias by a step against its load";
    const SHADER: &'static str = include_str!("../../shaders/expert_bias.wgsl");
    const BINDS: &'static [Bind] = &[read("loads"), read("result"), update("bias")];

    fn grid(_params: &Params) -> [u32; 3] {
        [1, 1, 1] // the mean needs all loads, of which there are some hundreds
    }

    fn reference<F: Real>(p: &Params, args: Args<'_, F>) {
        let [loads, result, bias] = args.all();
        reference::expert_bias::expert_bias(p, loads.real(), result.real(), bias.real_mut());
    }

    fn cases() -> Vec<Case> {
        let case = |name: &str, [row, rows, experts]: [u32; 3], end: u32, finite: f64| {
            let loads = indices(row.into(), (rows * experts) as usize, end).into_iter().map(f64::from).collect();
            let mut result = vec![9.0; state::RESULT_WORDS];
            result[state::RESULT_FINITE] = finite;
            Case::new(name, &Params { row, experts, speed: 0.25 }).real(loads).real(result).uniform(3, experts as usize)
        };
        let even = Case::new("even loads", &Params { row: 0, experts: 6, speed: 0.5 });
        // A mean of 2 + 1/4, which truncation would make 2, and one of exactly 2.
        let fraction = Case::new("a mean between whole numbers", &Params { row: 0, experts: 4, speed: 0.5 });
        let whole = Case::new("some loads are the mean", &Params { row: 0, experts: 4, speed: 0.5 });
        let flag = |finite: f64| {
            let mut result = vec![0.0; state::RESULT_WORDS];
            result[state::RESULT_FINITE] = finite;
            result
        };
        vec![
            case("one expert", [0, 1, 1], 1000, 1.0),
            case("the middle row of three, a prime number", [1, 3, 7], 50, 1.0),
            case("64 experts, small loads", [0, 2, 64], 4, 1.0),
            case("the last of many layers", [25, 26, 160], 40_000, 1.0),
            case("more experts than invocations", [2, 3, 300], 1 << 23, 1.0),
            case("a skipped update", [0, 1, 64], 1000, 0.0),
            even.real(vec![7.0; 6]).real(flag(1.0)).uniform(4, 6),
            fraction.real(vec![2.0, 2.0, 2.0, 3.0]).real(flag(1.0)).uniform(5, 4),
            whole.real(vec![2.0, 0.0, 4.0, 2.0]).real(flag(1.0)).uniform(6, 4),
        ]
    }
}
