//! A tensor of one value.

use super::{Args, Bind, Constants, Kernel, KernelSpec, case::Case, elements, write};
use crate::reference::{self, Real};
use bytemuck::{Pod, Zeroable};

/// Immediates of a dispatch.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Params {
    /// Number of elements.
    pub count: u32,
    /// What every element becomes.
    pub value: f32,
}

/// The row of the kernel table.
pub static KERNEL: Kernel = Kernel::of::<Spec>();

struct Spec;

impl KernelSpec for Spec {
    type Params = Params;
    const STEM: &'static str = "fill";
    const SUMMARY: &'static str = "sets every element to one value";
    const SHADER: &'static str = include_str!("../../shaders/fill.wgsl");
    const BINDS: &'static [Bind] = &[write("y").or_half("HALF_Y")];

    fn constants(p: &Params) -> Constants {
        elements::constants(&[p.count])
    }

    fn grid(p: &Params) -> [u32; 3] {
        elements::grid(p.count, elements::lanes(&[p.count]))
    }

    fn reference<F: Real>(p: &Params, args: Args<'_, F>) {
        let [y] = args.all();
        reference::fill::fill(p, y.real_mut());
    }

    fn cases() -> Vec<Case> {
        // The buffer is longer than the count: the rest must stay.
        [(1, 0.0), (1021, -1.5), (1024, 0.0), (3000, 0.1)]
            .map(|(count, value)| {
                Case::new(format!("{count} times {value}"), &Params { count, value }).uniform(1, count as usize + 4)
            })
            .into()
    }
}
