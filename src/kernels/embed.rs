//! Rows of the embedding table.

use super::{Args, Bind, Constants, Kernel, KernelSpec, case::Case, case::indices, elements, read, read_u32, update};
use crate::reference::{self, Real};
use bytemuck::{Pod, Zeroable};

/// Immediates of a dispatch.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Params {
    /// Number of tokens.
    pub rows: u32,
    /// Elements in an embedding.
    pub width: u32,
    /// Token number of the table part's first row.
    pub first_row: u32,
    /// Rows of the table part.
    pub table_rows: u32,
}

/// The row of the kernel table.
pub static KERNEL: Kernel = Kernel::of::<Spec>();

struct Spec;

impl KernelSpec for Spec {
    type Params = Params;
    const STEM: &'static str = "embed";
    const SUMMARY: &'static str = "copies each token's row of the embedding table";
    const SHADER: &'static str = include_str!("../../shaders/embed.wgsl");
    const BINDS: &'static [Bind] =
        &[read_u32("ids"), read("table").or_half("HALF_TABLE"), update("y").or_half("HALF_Y")];

    fn constants(p: &Params) -> Constants {
        elements::constants(&[p.width])
    }

    fn grid(p: &Params) -> [u32; 3] {
        elements::grid(p.rows * p.width, elements::lanes(&[p.width]))
    }

    fn reference<F: Real>(p: &Params, args: Args<'_, F>) {
        let [ids, table, y] = args.all();
        reference::embed::embed(p, ids.index(), table.real(), y.real_mut());
    }

    fn cases() -> Vec<Case> {
        // tokens, width, first row and rows of the part, vocabulary
        [(1, 1, 0, 1, 1), (7, 5, 0, 11, 11), (50, 64, 20, 31, 97), (33, 36, 90, 7, 97), (300, 129, 0, 40, 97)]
            .map(|(rows, width, first_row, table_rows, vocabulary)| {
                let p = Params { rows, width, first_row, table_rows };
                Case::new(format!("{rows} x {width}, rows {first_row} + {table_rows} of {vocabulary}"), &p)
                    .index(indices(1, rows as usize, vocabulary))
                    .uniform(2, (table_rows * width) as usize)
                    .uniform(3, (rows * width) as usize)
            })
            .into()
    }
}
