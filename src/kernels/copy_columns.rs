//! Columns of one matrix into columns of another: splitting and joining of projections.

use super::{Args, Bind, Constants, Kernel, KernelSpec, case::Case, elements, read, update};
use crate::reference::{self, Real};
use bytemuck::{Pod, Zeroable};

/// Immediates of a dispatch.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Params {
    /// Number of rows.
    pub rows: u32,
    /// Columns to copy.
    pub columns: u32,
    /// Elements in a row of the source.
    pub source_stride: u32,
    /// First column to read.
    pub source_offset: u32,
    /// Elements in a row of the destination.
    pub target_stride: u32,
    /// First column to write.
    pub target_offset: u32,
}

impl Params {
    fn lanes(&self) -> u32 {
        let places = [self.source_stride, self.source_offset, self.target_stride, self.target_offset];
        elements::lanes(&[places.as_slice(), &[self.columns]].concat())
    }
}

/// The row of the kernel table.
pub static KERNEL: Kernel = Kernel::of::<Spec>();

struct Spec;

impl KernelSpec for Spec {
    type Params = Params;
    const STEM: &'static str = "copy_columns";
    const SUMMARY: &'static str = "copies columns of one matrix into columns of another";
    const SHADER: &'static str = include_str!("../../shaders/copy_columns.wgsl");
    const BINDS: &'static [Bind] =
        &[read("source").or_half("HALF_SOURCE"), update("destination").or_half("HALF_DESTINATION")];

    fn constants(p: &Params) -> Constants {
        vec![("LANES", i64::from(p.lanes()))]
    }

    fn grid(p: &Params) -> [u32; 3] {
        elements::grid(p.rows * p.columns, p.lanes())
    }

    fn reference<F: Real>(p: &Params, args: Args<'_, F>) {
        let [source, destination] = args.all();
        reference::copy_columns::copy_columns(p, source.real(), destination.real_mut());
    }

    fn cases() -> Vec<Case> {
        // rows, columns, stride and offset of the source, stride and offset of the destination
        [[1, 1, 1, 0, 1, 0], [5, 3, 7, 2, 11, 8], [37, 64, 100, 36, 64, 0], [19, 8, 8, 0, 24, 12], [3, 8, 9, 1, 8, 0]]
            .map(|[rows, columns, source_stride, source_offset, target_stride, target_offset]| {
                let p = Params { rows, columns, source_stride, source_offset, target_stride, target_offset };
                Case::new(format!("{rows} x {columns} of {source_stride} into {target_stride}"), &p)
                    .uniform(1, (rows * source_stride) as usize)
                    .uniform(2, (rows * target_stride) as usize)
            })
            .into()
    }
}
