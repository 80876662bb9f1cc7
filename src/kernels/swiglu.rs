//! The gated activation of the feed-forward networks.

use super::{Args, Bind, Constants, Kernel, KernelSpec, case::Case, case::uniform, elements, read, write};
use crate::reference::{self, Real};
use bytemuck::{Pod, Zeroable};

/// Immediates of a dispatch.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Params {
    /// Number of elements.
    pub count: u32,
}

/// The row of the kernel table.
pub static KERNEL: Kernel = Kernel::of::<Spec>();

struct Spec;

impl KernelSpec for Spec {
    type Params = Params;
    const STEM: &'static str = "swiglu";
    const SUMMARY: &'static str = "silu of the gate times the other branch";
    const SHADER: &'static str = include_str!("../../shaders/swiglu.wgsl");
    const BINDS: &'static [Bind] =
        &[read("gate").or_half("HALF_GATE"), read("up").or_half("HALF_UP"), write("h").or_half("HALF_H")];

    fn constants(p: &Params) -> Constants {
        elements::constants(&[p.count])
    }

    fn grid(p: &Params) -> [u32; 3] {
        elements::grid(p.count, elements::lanes(&[p.count]))
    }

    fn reference<F: Real>(p: &Params, args: Args<'_, F>) {
        let [gate, up, h] = args.all();
        reference::swiglu::swiglu(p, gate.real(), up.real(), h.real_mut());
    }

    fn cases() -> Vec<Case> {
        gates()
            .into_iter()
            .map(|(name, gate)| {
                let n = gate.len();
                Case::new(name, &Params { count: n as u32 }).real(gate).uniform(2, n).output(n)
            })
            .collect()
    }
}

/// Gates of the cases here and of the backward pass: ordinary ones, and ones whose exponential overflows.
pub(super) fn gates() -> Vec<(String, Vec<f64>)> {
    let spread = |n, scale: f64| uniform(1, n).into_iter().map(|x| x * scale).collect();
    let mut cases = [1, 4, 1021, 2048].map(|n| (format!("{n} elements"), spread(n, 8.0))).to_vec();
    cases.push(("gates to 100".to_owned(), spread(256, 100.0)));
    cases.push(("saturated gates".to_owned(), vec![0.0, -0.0, 88.0, -88.0, 500.0, -500.0, 1e4, -1e4]));
    cases
}
