//! Sum of two tensors.

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
    const STEM: &'static str = "add";
    const SUMMARY: &'static str = "adds two tensors";
    const SHADER: &'static str = include_str!("../../shaders/add.wgsl");
    const BINDS: &'static [Bind] =
        &[read("a").or_half("HALF_A"), read("b").or_half("HALF_B"), write("y").or_half("HALF_Y")];

    fn constants(p: &Params) -> Constants {
        elements::constants(&[p.count])
    }

    fn grid(p: &Params) -> [u32; 3] {
        elements::grid(p.count, elements::lanes(&[p.count]))
    }

    fn reference<F: Real>(p: &Params, args: Args<'_, F>) {
        let [a, b, y] = args.all();
        reference::add::add(p, a.real(), b.real(), y.real_mut());
    }

    fn cases() -> Vec<Case> {
        let case = |count: u32| {
            let n = count as usize;
            Case::new(format!("{count} elements"), &Params { count }).uniform(1, n).uniform(2, n).output(n)
        };
        [1, 4, 1021, 1024, 5000].map(case).into()
    }
}
