//! Dropout, and its own backward pass.

use super::{Args, Bind, Constants, Kernel, KernelSpec, case::Case, elements, read, read_u32, state, write};
use crate::reference::{self, Real};
use bytemuck::{Pod, Zeroable};

/// Immediates of a dispatch.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Params {
    /// Number of elements.
    pub count: u32,
    /// Probability of a zero, from 0 to below 1.
    pub rate: f32,
    /// Place in the network, which draws its own mask.
    pub site: u32,
}

/// The row of the kernel table.
pub static KERNEL: Kernel = Kernel::of::<Spec>();

struct Spec;

impl KernelSpec for Spec {
    type Params = Params;
    const STEM: &'static str = "dropout";
    const SUMMARY: &'static str = "zeroes random elements and scales up the others";
    const SHADER: &'static str = include_str!("../../shaders/dropout.wgsl");
    const BINDS: &'static [Bind] = &[read("x").or_half("HALF_X"), read_u32("state"), write("y").or_half("HALF_Y")];

    fn constants(p: &Params) -> Constants {
        elements::constants(&[p.count])
    }

    fn grid(p: &Params) -> [u32; 3] {
        elements::grid(p.count, elements::lanes(&[p.count]))
    }

    fn reference<F: Real>(p: &Params, args: Args<'_, F>) {
        let [x, state, y] = args.all();
        reference::dropout::dropout(p, x.real(), state.index(), y.real_mut());
    }

    fn cases() -> Vec<Case> {
        let keys = |key0, key1| {
            let mut words = vec![0; state::STATE_WORDS];
            (words[state::STATE_KEY0], words[state::STATE_KEY1]) = (key0, key1);
            words
        };
        let case = |(count, rate, site, key0, key1)| {
            let n = count as usize;
            Case::new(format!("{count} elements at {rate}"), &Params { count, rate, site })
                .uniform(1, n)
                .index(keys(key0, key1))
                .output(n)
        };
        [(1, 0.1, 0, 1, 2), (5, 0.0, 1, 3, 4), (1021, 0.1, 7, u32::MAX, 1 << 31), (4096, 0.5, 123_456, 5, 6)]
            .map(case)
            .into()
    }
}
