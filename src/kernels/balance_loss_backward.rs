//! Gradient of the balance loss in the router's probabilities.

use super::{Args, Bind, Constants, Kernel, KernelSpec, case::Case, fold, read, read_u32, write};
use crate::reference::{self, Real};
use bytemuck::{Pod, Zeroable};

/// Immediates of a dispatch.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Params {
    /// Sequences in this micro-step.
    pub sequences: u32,
    /// Tokens in a sequence, padding included.
    pub length: u32,
    /// Number of experts.
    pub experts: u32,
}

/// The row of the kernel table.
pub static KERNEL: Kernel = Kernel::of::<Spec>();

struct Spec;

impl KernelSpec for Spec {
    type Params = Params;
    const STEM: &'static str = "balance_loss_backward";
    const SUMMARY: &'static str = "gradient of the balance loss in the router's probabilities";
    const SHADER: &'static str = include_str!("../../shaders/balance_loss_backward.wgsl");
    const BINDS: &'static [Bind] = &[read("slope"), read_u32("real"), write("d_probs")];

    fn constants(p: &Params) -> Constants {
        vec![("EXPERTS", p.experts.into())]
    }

    fn grid(p: &Params) -> [u32; 3] {
        fold((p.sequences as usize * p.length as usize * p.experts as usize).div_ceil(256))
    }

    fn reference<F: Real>(p: &Params, args: Args<'_, F>) {
        let [slope, real, d_probs] = args.all();
        reference::balance_loss_backward::balance_loss_backward(p, slope.real(), real.index(), d_probs.real_mut());
    }

    fn cases() -> Vec<Case> {
        [(1, 1, 1), (3, 17, 8), (2, 101, 7), (5, 40, 64)]
            .into_iter()
            .map(|(sequences, length, experts)| {
                let p = Params { sequences, length, experts };
                // The last sequence is padding throughout where there are several.
                let real = |i: u32| sequences == 1 || i / length + 1 < sequences && i % 5 != 3;
                Case::new(format!("{sequences} x {length}, {experts} experts"), &p)
                    .uniform(1, (sequences * experts) as usize)
                    .index((0..sequences * length).map(|i| real(i).into()).collect())
                    .output((sequences * length * experts) as usize)
            })
            .collect()
    }
}
