//! Gradients of the gated activation.

use super::{Args, Bind, Constants, Kernel, KernelSpec, case::Case, elements, read, swiglu::gates, write};
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
    const STEM: &'static str = "swiglu_backward";
    const SUMMARY: &'static str = "gradients of both branches of swiglu";
    const SHADER: &'static str = include_str!("../../shaders/swiglu_backward.wgsl");
    const BINDS: &'static [Bind] = &[
        read("d_h").or_half("HALF_D_H"),
        read("gate").or_half("HALF_GATE"),
        read("up").or_half("HALF_UP"),
        write("d_gate").or_half("HALF_D_GATE"),
        write("d_up").or_half("HALF_D_UP"),
    ];

    fn constants(p: &Params) -> Constants {
        elements::constants(&[p.count])
    }

    fn grid(p: &Params) -> [u32; 3] {
        elements::grid(p.count, elements::lanes(&[p.count]))
    }

    fn reference<F: Real>(p: &Params, args: Args<'_, F>) {
        let [d_h, gate, up, d_gate, d_up] = args.all();
        let (d_gate, d_up) = (d_gate.real_mut(), d_up.real_mut());
        reference::swiglu_backward::swiglu_backward(p, d_h.real(), gate.real(), up.real(), d_gate, d_up);
    }

    fn cases() -> Vec<Case> {
        gates()
            .into_iter()
            .map(|(name, gate)| {
                let n = gate.len();
                let case = Case::new(name, &Params { count: n as u32 }).uniform(3, n).real(gate).uniform(2, n);
                case.output(n).output(n)
            })
            .collect()
    }
}
