//! Sums of squares of one gradient, as far as its workgroups can bring them.

use super::{Args, Bind, Constants, Kernel, KernelSpec, case::Case, elements, read, update};
use crate::reference::{self, Real};
use bytemuck::{Pod, Zeroable};

/// Immediates of a dispatch.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Params {
    /// Number of elements.
    pub count: u32,
    /// Where this gradient's sums start among those of all gradients.
    pub first_partial: u32,
    /// Number of sums, [`partials`] of the count.
    pub partials: u32,
}

impl Params {
    /// Elements of a sum; the last sums may have fewer or none.
    pub fn share(&self) -> usize {
        let lanes = elements::lanes(&[self.count]);
        ((self.count / lanes).div_ceil(self.partials) * lanes) as usize
    }
}

/// Sums that a gradient of `count` elements gets: enough workgroups for any GPU, and none with next to no work.
pub fn partials(count: u32) -> u32 {
    count.div_ceil(4096).clamp(1, 1024)
}

/// The row of the kernel table.
pub static KERNEL: Kernel = Kernel::of::<Spec>();

struct Spec;

impl KernelSpec for Spec {
    type Params = Params;
    const STEM: &'static str = "grad_norm";
    const SUMMARY: &'static str = "sums the squares of a gradient, one sum a workgroup";
    const SHADER: &'static str = include_str!("../../shaders/grad_norm.wgsl");
    const BINDS: &'static [Bind] = &[read("gradient"), update("partials")];

    fn constants(p: &Params) -> Constants {
        elements::constants(&[p.count])
    }

    fn grid(p: &Params) -> [u32; 3] {
        [p.partials, 1, 1]
    }

    fn reference<F: Real>(p: &Params, args: Args<'_, F>) {
        let [gradient, partials] = args.all();
        reference::grad_norm::grad_norm(p, gradient.real(), partials.real_mut());
    }

    fn cases() -> Vec<Case> {
        // count, first sum, sums; the last case has more sums than elements
        [(1, 0, 1), (4096, 0, 1), (10_007, 2, 3), (20_000, 1, partials(20_000)), (5, 1, 9)]
            .map(|(count, first_partial, partials)| {
                Case::new(format!("{count} in {partials}"), &Params { count, first_partial, partials })
                    .uniform(1, count as usize)
                    .uniform(2, (first_partial + partials + 1) as usize)
            })
            .into()
    }
}
