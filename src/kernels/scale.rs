//! A tensor times a number.

use super::{Args, Bind, Constants, Kernel, KernelSpec, case::Case, elements, read, write};
use crate::reference::{self, Real};
use bytemuck::{Pod, Zeroable};

/// Immediates of a dispatch.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Params {
    /// Number of elements.
    pub count: u32,
    /// What each is multiplied by.
    pub factor: f32,
}

/// The row of the kernel table.
pub static KERNEL: Kernel = Kernel::of::<Spec>();

struct Spec;

impl KernelSpec for Spec {
    type Params = Params;
    const STEM: &'static str = "scale";
    const SUMMARY: &'static str = "multiplies a tensor by a number";
    const SHADER: &'static str = include_str!("../../shaders/scale.wgsl");
    const BINDS: &'static [Bind] = &[read("x").or_half("HALF_X"), write("y").or_half("HALF_Y")];

    fn constants(p: &Params) -> Constants {
        elements::constants(&[p.count])
    }

    fn grid(p: &Params) -> [u32; 3] {
        elements::grid(p.count, elements::lanes(&[p.count]))
    }

    fn reference<F: Real>(p: &Params, args: Args<'_, F>) {
        let [x, y] = args.all();
        reference::scale::scale(p, x.real(), y.real_mut());
    }

    fn cases() -> Vec<Case> {
        let case = |(count, factor): (u32, f32)| {
            let n = count as usize;
            Case::new(format!("{count} elements by {factor}"), &Params { count, factor }).uniform(1, n).output(n)
        };
        [(1, 2.0), (4, -0.7), (1021, 1.3), (1024, 0.0), (5000, 0.3)].map(case).into()
    }
}
