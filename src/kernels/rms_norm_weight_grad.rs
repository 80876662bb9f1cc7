//! Weight gradient of the RMS normalisation.

use super::{Args, Bind, Constants, Kernel, KernelSpec, case::Case, read, rms_norm_backward::inverse_roots, update};
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

/// Columns of a workgroup: few, so that narrow models still fill a GPU, but whole 32-byte sectors of memory.
const COLUMNS: u32 = 8;

impl KernelSpec for Spec {
    type Params = Params;
    const STEM: &'static str = "rms_norm_weight_grad";
    const SUMMARY: &'static str = "adds the weight gradient of the RMS normalisation";
    const SHADER: &'static str = include_str!("../../shaders/rms_norm_weight_grad.wgsl");
    const BINDS: &'static [Bind] =
        &[read("d_y").or_half("HALF_D_Y"), read("x").or_half("HALF_X"), read("inverse_rms"), update("d_weight")];

    fn constants(_: &Params) -> Constants {
        vec![("COLUMNS", i64::from(COLUMNS))]
    }

    fn grid(p: &Params) -> [u32; 3] {
        [p.width.div_ceil(COLUMNS), 1, 1]
    }

    fn reference<F: Real>(p: &Params, args: Args<'_, F>) {
        let [d_y, x, inverse_rms, d_weight] = args.all();
        let (d_y, x, inverse_rms) = (d_y.real(), x.real(), inverse_rms.real());
        reference::rms_norm_weight_grad::rms_norm_weight_grad(p, d_y, x, inverse_rms, d_weight.real_mut());
    }

    fn cases() -> Vec<Case> {
        [(1, 1), (3, 7), (130, 64), (1000, 13), (2, 1021)]
            .into_iter()
            .map(|(rows, width)| {
                let n = (rows * width) as usize;
                Case::new(format!("{rows} x {width}"), &Params { rows, width })
                    .uniform(1, n)
                    .uniform(2, n)
                    .real(inverse_roots(rows as usize))
                    .uniform(3, width as usize)
            })
            .collect()
    }
}
