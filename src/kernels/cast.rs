//! Copies a tensor into one of another type.

use super::{Args, Bind, Constants, Kernel, KernelSpec, case::Case, elements, read, write};
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
    const STEM: &'static str = "cast";
    const SUMMARY: &'static str = "copies a tensor as f32 or f16";
    const SHADER: &'static str = include_str!("../../shaders/cast.wgsl");
    const BINDS: &'static [Bind] = &[read("x").or_half("HALF_X"), write("y").or_half("HALF_Y")];

    fn constants(p: &Params) -> Constants {
        elements::constants(&[p.count])
    }

    fn grid(p: &Params) -> [u32; 3] {
        elements::grid(p.count, elements::lanes(&[p.count]))
    }

    fn reference<F: Real>(p: &Params, args: Args<'_, F>) {
        let [x, y] = args.all();
        reference::cast::cast(p, x.real(), y.real_mut());
    }

    fn cases() -> Vec<Case> {
        let case = |count: u32| {
            let n = count as usize;
            Case::new(format!("{count} elements"), &Params { count }).uniform(1, n).output(n)
        };
        [1, 4, 1021, 1024, 5000].map(case).into()
    }
}
