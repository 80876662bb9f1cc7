//! RMS normalisation of rows.

use super::{Args, Bind, Kernel, KernelSpec, case::Case, fold, read, write};
use crate::reference::{self, Real};
use bytemuck::{Pod, Zeroable};

/// Immediates of a dispatch.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Params {
    /// Number of rows.
    pub rows: u32,
    /// Elements in a row.
    pub width: u32,
    /// Added to the mean square before the root.
    pub epsilon: f32,
}

/// The row of the kernel table.
pub static KERNEL: Kernel = Kernel::of::<Spec>();

struct Spec;

impl KernelSpec for Spec {
    type Params = Params;
    const STEM: &'static str = "rms_norm";
    const SUMMARY: &'static str = "normalises rows to unit root mean square, times a weight";
    const SHADER: &'static str = include_str!("../../shaders/rms_norm.wgsl");
    const BINDS: &'static [Bind] =
        &[read("x").or_half("HALF_X"), read("weight"), write("y").or_half("HALF_Y"), write("inverse_rms")];

    fn grid(p: &Params) -> [u32; 3] {
        fold(p.rows as usize) // one workgroup a row
    }

    fn reference<F: Real>(p: &Params, args: Args<'_, F>) {
        let [x, weight, y, inverse_rms] = args.all();
        reference::rms_norm::rms_norm(p, x.real(), weight.real(), y.real_mut(), inverse_rms.real_mut());
    }

    fn cases() -> Vec<Case> {
        // Epsilon is large on purpose: a dropped or misplaced one must show.
        [(1, 1, 0.25), (3, 7, 0.25), (5, 64, 0.5), (2, 1024, 1e-6), (17, 333, 0.125)]
            .into_iter()
            .map(|(rows, width, epsilon)| {
                Case::new(format!("{rows} x {width}"), &Params { rows, width, epsilon })
                    .uniform(1, (rows * width) as usize)
                    .uniform(2, width as usize)
                    .output((rows * width) as usize)
                    .output(rows as usize)
            })
            .collect()
    }
}
