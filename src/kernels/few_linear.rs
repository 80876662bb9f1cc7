//! A linear layer on a few tokens, with the norm before it.

use super::{Args, Bind, Constants, Halves, Kernel, KernelSpec, case::Case, fold, read, write};
use crate::reference::{self, Real};
use bytemuck::{Pod, Zeroable};

/// Immediates of a dispatch.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Params {
    /// Number of tokens.
    pub rows: u32,
    /// Rows of the weight.
    pub outputs: u32,
    /// Columns of the weight.
    pub width: u32,
    /// 1 where x is normalised first.
    pub normed: u32,
    /// 1 where a residual is added.
    pub residual: u32,
    /// Added to the mean square before the root.
    pub epsilon: f32,
}

/// Most tokens that are few.
pub const MOST_ROWS: usize = 8;

/// Teams of 32 invocations in a workgroup; a team has an output, or several.
pub(super) const TEAMS: u32 = 8;

/// Outputs of a team: more share what is read of x, as long as a large card has enough workgroups.
fn outputs(p: &Params) -> u32 {
    [4, 2].into_iter().find(|n| p.outputs >= n * TEAMS * 256).unwrap_or(1)
}

/// Elements that are moved at a time.
pub(super) fn lanes(sizes: &[u32]) -> i64 {
    if sizes.iter().all(|size| size.is_multiple_of(4)) { 4 } else { 1 }
}

/// The row of the kernel table.
pub static KERNEL: Kernel = Kernel::of::<Spec>();

struct Spec;

impl KernelSpec for Spec {
    type Params = Params;
    const STEM: &'static str = "few_linear";
    const SUMMARY: &'static str = "normalises a few rows and multiplies them by a matrix";
    const SHADER: &'static str = include_str!("../../shaders/few_linear.wgsl");
    const BINDS: &'static [Bind] = &[
        read("x").or_half("HALF_X"),
        read("norm").or_half("HALF_NORM"),
        read("weight").or_half("HALF_WEIGHT"),
        read("residual").or_half("HALF_RESIDUAL"),
        write("y"),
    ];
    const STORED: &'static [Halves] = &[Halves::only(2)];

    fn constants(p: &Params) -> Constants {
        vec![
            ("LANES", lanes(&[p.width])),
            ("ROWS", p.rows.into()),
            ("OUTPUTS", outputs(p).into()),
            ("NORMED", p.normed.into()),
            ("RESIDUAL", p.residual.into()),
        ]
    }

    fn grid(p: &Params) -> [u32; 3] {
        fold(p.outputs.div_ceil(TEAMS * outputs(p)) as usize)
    }

    fn reference<F: Real>(p: &Params, args: Args<'_, F>) {
        let [x, norm, weight, residual, y] = args.all();
        let read = [x.real(), norm.real(), weight.real(), residual.real()];
        reference::few_linear::few_linear(p, read, y.real_mut());
    }

    fn cases() -> Vec<Case> {
        let p = |rows, outputs, width, normed, residual| {
            let epsilon = if width > 1000 { 1e-6 } else { 0.25 };
            Params { rows, outputs, width, normed, residual, epsilon }
        };
        let shapes = [
            ("one by one", p(1, 1, 1, 1, 1)),
            ("plain", p(1, 70, 132, 0, 0)),
            ("normed", p(1, 40, 1024, 1, 0)),
            ("a residual", p(1, 33, 100, 0, 1)),
            ("several tokens, odd sizes", p(3, 21, 77, 1, 1)),
            ("as many as are few", p(8, 9, 256, 1, 0)),
            ("two outputs a team", p(2, 4100, 36, 1, 1)),
            ("four outputs a team", p(1, 8200, 20, 1, 0)),
        ];
        let case = |(name, p): (&str, Params)| {
            Case::new(name, &p)
                .uniform(1, (p.rows * p.width) as usize)
                .uniform(2, p.width as usize)
                .uniform(3, (p.outputs * p.width) as usize)
                .uniform(4, (p.rows * p.outputs) as usize)
                .output((p.rows * p.outputs) as usize)
        };
        shapes.into_iter().map(case).collect()
    }
}
