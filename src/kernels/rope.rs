//! Rotary position embedding.

use super::contract::{self, Held, Kept};
use super::{Args, Bind, Constants, Kernel, KernelSpec, case, case::Case, elements, read, read_u32, write};
use crate::reference::{self, Real};
use bytemuck::{Pod, Zeroable};

/// Immediates of a dispatch.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Params {
    /// Number of tokens.
    pub rows: u32,
    /// Heads of a token.
    pub heads: u32,
    /// Elements of a head.
    pub width: u32,
    /// First rotated column of a head.
    pub offset: u32,
    /// Number of rotated columns, even.
    pub rotated: u32,
    /// 1 rotates forward, -1 applies the transpose, as the backward pass needs.
    pub direction: f32,
}

impl Params {
    fn lanes(&self) -> u32 {
        elements::lanes(&[self.width, self.offset, self.rotated])
    }
}

/// The row of the kernel table.
pub static KERNEL: Kernel = Kernel::of::<Spec>();

struct Spec;

impl KernelSpec for Spec {
    type Params = Params;
    const STEM: &'static str = "rope";
    const SUMMARY: &'static str = "rotates column pairs of every head by angles that grow with the position";
    const SHADER: &'static str = include_str!("../../shaders/rope.wgsl");
    const BINDS: &'static [Bind] =
        &[read("x").or_half("HALF_X"), read_u32("positions"), read("table"), write("y").or_half("HALF_Y")];

    fn constants(p: &Params) -> Constants {
        vec![("LANES", i64::from(p.lanes()))]
    }

    fn grid(p: &Params) -> [u32; 3] {
        elements::grid(p.rows * p.heads * p.width, p.lanes())
    }

    fn contract(p: &Params, held: &[Held<'_>]) -> Kept {
        contract::below("positions", held[1].list(), held[2].len() / p.rotated.max(1) as usize)
    }

    fn reference<F: Real>(p: &Params, args: Args<'_, F>) {
        let [x, positions, table, y] = args.all();
        reference::rope::rope(p, x.real(), positions.index(), table.real(), y.real_mut());
    }

    fn cases() -> Vec<Case> {
        let shapes = [
            ("one pair", [1, 1, 2, 0, 2], 1.0),
            ("forward", [7, 3, 11, 5, 6], 1.0),
            ("backward, columns on both sides", [5, 2, 13, 3, 4], -1.0),
            ("all columns", [33, 1, 64, 0, 64], 1.0),
            ("wide heads", [6, 4, 192, 128, 64], -1.0),
            ("fours, columns on both sides", [29, 3, 20, 4, 12], -1.0),
            ("an odd number of pairs", [5, 3, 12, 4, 6], 1.0),
            ("pairs across fours", [5, 3, 12, 2, 8], 1.0),
        ];
        let case = |(name, shape, direction): (&str, [u32; 5], f32)| {
            let [rows, heads, width, offset, rotated] = shape;
            let (n, longest) = ((rows * heads * width) as usize, 9);
            // The table's values need not be cosines and sines: a swap or a wrong sign shows best if they are free.
            Case::new(name, &Params { rows, heads, width, offset, rotated, direction })
                .uniform(1, n)
                .index(case::indices(2, rows as usize, longest))
                .uniform(3, (longest * rotated) as usize)
                .output(n)
        };
        shapes.into_iter().map(case).collect()
    }
}
