//! Input gradient of the RMS normalisation.

use super::{Args, Bind, Kernel, KernelSpec, case::Case, case::uniform, fold, read, write};
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
}

/// The row of the kernel table.
pub static KERNEL: Kernel = Kernel::of::<Spec>();

struct Spec;

impl KernelSpec for Spec {
    type Params = Params;
    const STEM: &'static str = "rms_norm_backward";
    const SUMMARY: &'static str = "input gradient of the RMS normalisation";
    const SHADER: &'static str = include_str!("../../shaders/rms_norm_backward.wgsl");
    const BINDS: &'static [Bind] = &[
        read("d_y").or_half("HALF_D_Y"),
        read("x").or_half("HALF_X"),
        read("weight"),
        read("inverse_rms"),
        write("d_x").or_half("HALF_D_X"),
    ];

    fn grid(p: &Params) -> [u32; 3] {
        fold(p.rows as usize) // one workgroup a row
    }

    fn reference<F: Real>(p: &Params, args: Args<'_, F>) {
        let [d_y, x, weight, inverse_rms, d_x] = args.all();
        let (d_y, x, weight, inverse_rms) = (d_y.real(), x.real(), weight.real(), inverse_rms.real());
        reference::rms_norm_backward::rms_norm_backward(p, d_y, x, weight, inverse_rms, d_x.real_mut());
    }

    fn cases() -> Vec<Case> {
        [(1, 1), (3, 7), (5, 64), (2, 1024), (17, 333)]
            .into_iter()
            .map(|(rows, width)| {
                let n = (rows * width) as usize;
                Case::new(format!("{rows} x {width}"), &Params { rows, width })
                    .uniform(1, n)
                    .uniform(2, n)
                    .uniform(3, width as usize)
                    .real(inverse_roots(rows as usize))
                    .output(n)
            })
            .collect()
    }
}

/// Inverse root mean squares between 0.5 and 1.5. No rows have exactly these, which the formula does not ask for.
pub(super) fn inverse_roots(rows: usize) -> Vec<f64> {
    uniform(4, rows).into_iter().map(|x| 1.0 + x / 2.0).collect()
}
