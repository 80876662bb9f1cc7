//! The matrix product, in the three layouts that a linear layer and its backward pass need.

use super::thin;
use super::tile::{self, Tile};
use super::work;
use super::{
    Args, Bind, Constants, Halves, Kernel, KernelSpec, Overwriting, Tolerance, Tunable, Variant, Way, Ways, case::Case,
    fold, read, update,
};
use crate::reference::{self, Real};
use bytemuck::{Pod, Zeroable};

/// Immediates of a dispatch. Offsets and distances count elements.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Params {
    /// Rows of C.
    pub m: u32,
    /// Columns of C.
    pub n: u32,
    /// Length of a sum, at least 1.
    pub k: u32,
    /// Distance between rows of a.
    pub lda: u32,
    /// Distance between rows of b.
    pub ldb: u32,
    /// Distance between rows of c and of residual.
    pub ldc: u32,
    /// First element of a.
    pub a_offset: u32,
    /// First element of b.
    pub b_offset: u32,
    /// First element of c and of residual.
    pub c_offset: u32,
    /// One of [`NT`], [`NN`], [`TN`].
    pub form: u32,
    /// One of [`OVERWRITE`], [`ADD`], [`ADD_TO_RESIDUAL`]; slices overwrite.
    pub accumulate: u32,
    /// Steps of k in a slice, a multiple of [`tile::DEPTH`]: from k on, the sums are whole; below, c gets the sums of
    /// one slice after those of another, `m * ldc` elements apart.
    pub slice: u32,
}

/// `C[m, n] = a[m, k] b[n, k]^T`: a linear layer forward.
pub const NT: u32 = 0;
/// `C[m, n] = a[m, k] b[k, n]`: the gradient of its input.
pub const NN: u32 = 1;
/// `C[m, n] = a[k, m]^T b[k, n]`: the gradient of its weight.
pub const TN: u32 = 2;

/// c = C.
pub const OVERWRITE: u32 = 0;
/// c += C.
pub const ADD: u32 = 1;
/// c = residual + C.
pub const ADD_TO_RESIDUAL: u32 = 2;

impl Params {
    /// A product of dense matrices that begin at their buffers' first elements.
    pub fn dense(form: u32, accumulate: u32, m: u32, n: u32, k: u32) -> Self {
        let (lda, ldb) = (if form == TN { m } else { k }, if form == NT { k } else { n });
        Params { m, n, k, lda, ldb, ldc: n, a_offset: 0, b_offset: 0, c_offset: 0, form, accumulate, slice: k }
    }

    /// Whether a cooperative form can run this that stores `side` x `side` elements at a time; below its tile's size
    /// most of its work would be for nothing, unless there are so many columns that half a tile of rows is worth it.
    fn in_squares(&self, side: u32, tile: Tile) -> bool {
        let squares = self.m.is_multiple_of(side) && self.n.is_multiple_of(side) && self.k.is_multiple_of(32);
        let numbers = [self.lda, self.ldb, self.ldc, self.a_offset, self.b_offset, self.c_offset];
        let (m, n) = (tile.m as u32, tile.n as u32);
        let filled = self.m >= m && self.n >= n || 2 * self.m >= m && self.n >= 64 * n;
        filled && squares && self.slice >= self.k && numbers.iter().all(|x| x.is_multiple_of(8))
    }

    /// Whether the cooperative forms take bindings so stored: no layer adds to a residual in f16 or stores that so.
    fn suits(&self, halves: Halves) -> bool {
        let residual = self.accumulate != ADD_TO_RESIDUAL || !(halves.has(2) || halves.has(3));
        halves.has(0) && halves.has(1) && residual
    }

    fn thin(&self) -> thin::Cut {
        thin::Cut::single(self.m, self.n, self.k)
    }

    /// Blocks of rows with at most `most` products each, but no fewer than 128 rows: every sum stays as it is.
    fn in_blocks(&self, most: u64) -> Vec<Params> {
        let row = u64::from(self.n) * u64::from(self.k);
        let between_rows = if self.form == TN { 1 } else { self.lda };
        let block = |(first, m): (u32, u32)| Params {
            m,
            a_offset: self.a_offset + first * between_rows,
            c_offset: self.c_offset + first * self.ldc,
            ..*self
        };
        work::ranges(self.m, row, 128, most).map(block).collect()
    }

    /// The slices to compute in place of a long sum into few elements, which would leave most of a large card idle; to
    /// be added up by `sum_slices`. A function of shape and storage alone, so that results do not depend on a device.
    pub fn sliced(&self, halves: Halves) -> Option<Params> {
        const LONG: u32 = 1024;
        // Tiles below which a large card has multiprocessors without one, and tiles that give each of them some.
        const FEW: usize = 128;
        const ENOUGH: usize = 256;
        // Shorter slices would cost more to add up than they bring, except of next to nothing.
        const SHORTEST: u32 = 256;
        const SINGLE: usize = 2;
        let tiles = tile::MEDIUM.count(self.m as usize, self.n as usize);
        let long = self.k >= LONG && u64::from(self.k) * u64::from(self.n) * u64::from(self.m) <= work::most(false);
        if !long || tiles >= FEW || self.on_matrix_units(halves) {
            return None;
        }
        let shortest = if tiles <= SINGLE { SHORTEST / 4 } else { SHORTEST };
        let slices = ((ENOUGH / tiles) as u32).min(self.k / shortest);
        let slice = self.k.div_ceil(slices).next_multiple_of(tile::DEPTH as u32);
        Some(Params { slice, accumulate: OVERWRITE, c_offset: 0, ldc: self.n, ..*self })
    }

    /// Number of slices.
    pub fn slices(&self) -> u32 {
        self.k.div_ceil(self.slice)
    }

    fn on_matrix_units(&self, halves: Halves) -> bool {
        halves.has(0) && halves.has(1) && (self.is_thin() || self.in_squares(16, tile::LARGE))
    }

    /// Whether it has so few rows that reading b is all the work, and can be computed so.
    fn is_thin(&self) -> bool {
        let numbers = [self.lda, self.ldb, self.ldc, self.a_offset, self.b_offset, self.c_offset];
        let fits = self.form != TN && self.slice >= self.k && thin::fits(self.m, self.n, self.k);
        fits && numbers.iter().all(|x| x.is_multiple_of(8)) && !self.in_squares(16, tile::LARGE)
    }

    fn tile(&self) -> Tile {
        let k = self.k.min(self.slice);
        Tile::choose(self.slices() as usize, self.m as usize, self.n as usize, k as usize)
    }

    fn cut(&self, tile: Tile) -> Way {
        let mut constants = tile.constants();
        let whole = self.m.is_multiple_of(tile.m as u32) && self.n.is_multiple_of(tile.n as u32);
        let (a_line, b_line) =
            (if self.form == TN { self.m } else { self.k }, if self.form == NT { self.k } else { self.n });
        constants.extend([
            ("FORM", i64::from(self.form)),
            ("ACCUMULATE", i64::from(self.accumulate)),
            ("EDGE_K", i64::from(!self.k.is_multiple_of(tile::DEPTH as u32))),
            ("EDGE_MN", i64::from(!whole)),
            ("A_VEC4", i64::from(tile::fours(&[a_line, self.lda, self.a_offset]))),
            ("B_VEC4", i64::from(tile::fours(&[b_line, self.ldb, self.b_offset]))),
            ("C_VEC4", i64::from(tile::fours(&[self.n, self.ldc, self.c_offset]))),
        ]);
        let grid = fold(self.slices() as usize * tile.count(self.m as usize, self.n as usize));
        Way { name: tile.name(), constants, grid }
    }

    fn ways(&self) -> Ways {
        let (m, n) = (self.m as usize, self.n as usize);
        Ways {
            shape: vec![self.form, self.m, self.n, self.k, self.slice.min(self.k)],
            products: u64::from(self.m) * u64::from(self.n) * u64::from(self.k),
            all: self.tile().candidates(self.slices() as usize, m, n).map(|tile| self.cut(tile)).collect(),
        }
    }
}

/// The row of the kernel table.
pub static KERNEL: Kernel = Kernel::of::<Spec>();

struct Spec;

impl KernelSpec for Spec {
    type Params = Params;
    const STEM: &'static str = "matmul";
    const SUMMARY: &'static str = "multiplies two matrices, either of them transposed, and may add to what is there";
    const SHADER: &'static str = include_str!("../../shaders/matmul.wgsl");
    const BINDS: &'static [Bind] = &[
        read("a").or_half("HALF_A"),
        read("b").or_half("HALF_B"),
        read("residual").or_half("HALF_RESIDUAL"),
        update("c").or_half("HALF_C"),
    ];
    const STORED: &'static [Halves] = &[Halves::first(2)];
    const VARIANTS: &'static [Variant<Params>] = &[
        Variant {
            suffix: "coop16",
            shader: include_str!("../../shaders/matmul.coop16.wgsl"),
            constants: |p| {
                let mut constants = vec![("FORM", i64::from(p.form)), ("ACCUMULATE", i64::from(p.accumulate))];
                if p.is_thin() {
                    constants.extend(p.thin().constants());
                } else {
                    constants.extend(tile::LARGE.edges(p.m, p.n));
                    constants.push(tile::tail(p.k));
                }
                constants
            },
            grid: |p| {
                let thin = |cut: thin::Cut| p.m.div_ceil(cut.rows) * (p.n / cut.columns);
                let large = || tile::LARGE.count(p.m as usize, p.n as usize);
                fold(if p.is_thin() { thin(p.thin()) as usize } else { large() })
            },
            fits: |p, halves| p.on_matrix_units(halves) && p.suits(halves),
            tolerance: Tolerance::DEFAULT,
        },
        Variant {
            suffix: "coop8",
            shader: include_str!("../../shaders/matmul.coop8.wgsl"),
            constants: |p| vec![("FORM", i64::from(p.form)), ("ACCUMULATE", i64::from(p.accumulate))],
            grid: |p| fold(tile::MEDIUM.count(p.m as usize, p.n as usize)),
            fits: |p, halves| p.in_squares(8, tile::MEDIUM) && p.suits(halves),
            tolerance: Tolerance::DEFAULT,
        },
    ];

    fn constants(p: &Params) -> Constants {
        p.cut(p.tile()).constants
    }

    const OVERWRITING: Option<Overwriting<Params>> = Some(Overwriting {
        params: |p| Params { accumulate: OVERWRITE, ..*p },
        elements: |p| p.m as usize * p.n as usize,
    });

    fn parts(p: &Params, halves: Halves) -> Vec<Params> {
        p.in_blocks(work::most(p.on_matrix_units(halves)))
    }

    fn grid(p: &Params) -> [u32; 3] {
        p.cut(p.tile()).grid
    }

    const TUNABLE: Option<Tunable<Params>> = Some(Tunable { ways: Params::ways, indices: |_, _| Vec::new() });

    fn reference<F: Real>(p: &Params, args: Args<'_, F>) {
        let [a, b, residual, c] = args.all();
        reference::matmul::matmul(p, a.real(), b.real(), residual.real(), c.real_mut());
    }

    fn cases() -> Vec<Case> {
        let dense = Params::dense;
        let padded = |p: Params, pad: u32, offset: u32| Params {
            lda: p.lda + pad,
            ldb: p.ldb + 2 * pad,
            ldc: p.ldc + 3 * pad,
            a_offset: offset,
            b_offset: 2 * offset,
            c_offset: 3 * offset,
            ..p
        };
        [
            dense(NT, OVERWRITE, 1, 1, 1),
            padded(dense(NT, ADD, 67, 71, 37), 1, 3),
            padded(dense(NN, ADD_TO_RESIDUAL, 67, 71, 37), 3, 1),
            padded(dense(TN, OVERWRITE, 67, 71, 37), 2, 5),
            padded(dense(NT, ADD_TO_RESIDUAL, 68, 76, 36), 4, 8),
            padded(dense(TN, ADD, 68, 76, 36), 4, 8),
            dense(NN, ADD_TO_RESIDUAL, 128, 192, 32),
            padded(dense(NT, OVERWRITE, 144, 176, 64), 8, 8),
            padded(dense(TN, ADD, 272, 128, 96), 8, 8),
            padded(dense(NN, ADD, 160, 208, 32), 8, 8),
            padded(dense(NT, ADD, 72, 104, 64), 8, 8),             // in eights
            padded(dense(NT, ADD_TO_RESIDUAL, 50, 96, 384), 8, 8), // few rows
            padded(dense(NN, ADD, 48, 64, 256), 4, 12),
            dense(NT, OVERWRITE, 32, 4096, 128),              // as large as is thin
            dense(TN, ADD, 36, 33, 1031),                     // small tiles
            padded(dense(NT, ADD, 132, 8196, 20), 4, 4),      // large tiles
            padded(dense(NN, OVERWRITE, 129, 8193, 3), 1, 1), // the same, ragged
            Params { slice: 32, ..padded(dense(NT, OVERWRITE, 33, 5, 75), 1, 3) },
            Params { slice: 48, ..padded(dense(NN, OVERWRITE, 36, 72, 112), 4, 8) },
            Params { slice: 16, ..padded(dense(TN, OVERWRITE, 7, 70, 37), 2, 5) },
        ]
        .into_iter()
        .map(case)
        .collect()
    }
}

/// Random matrices in buffers just large enough for `p`.
fn case(p: Params) -> Case {
    let span = |offset: u32, lines: u32, distance: u32, line: u32| (offset + (lines - 1) * distance + line) as usize;
    let a = if p.form == TN { span(p.a_offset, p.k, p.lda, p.m) } else { span(p.a_offset, p.m, p.lda, p.k) };
    let b = if p.form == NT { span(p.b_offset, p.n, p.ldb, p.k) } else { span(p.b_offset, p.k, p.ldb, p.n) };
    let c = span(p.c_offset, p.m * p.slices(), p.ldc, p.n);
    let form = ["nt", "nn", "tn"][p.form as usize];
    let slices = if p.slices() > 1 { format!(", slices of {}", p.slice) } else { String::new() };
    let name = format!("{form} {} x {} x {}, accumulate {}{slices}", p.m, p.n, p.k, p.accumulate);
    let case = Case::new(name, &p).uniform(1, a).uniform(2, b);
    let case = if p.accumulate == ADD_TO_RESIDUAL { case.uniform(3, c) } else { case.uniform(1, a) };
    // Between padded rows stands what no product may touch; a large filler there would widen the tolerance.
    if p.accumulate == ADD || p.ldc > p.n { case.uniform(4, c) } else { case.output(c) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::Arg;
    use crate::kernels::case::uniform;

    /// The router's products of 4096 tokens with 64 experts; and what has work enough, or matrix units.
    #[test]
    fn long_sums_into_few_elements_are_sliced() {
        let slices = |form, m, n, k, halves| {
            let sliced = Params { c_offset: 8, ldc: n + 8, ..Params::dense(form, ADD, m, n, k) }.sliced(halves)?;
            assert_eq!((sliced.accumulate, sliced.c_offset, sliced.ldc), (OVERWRITE, 0, n));
            Some((sliced.slices(), sliced.slice))
        };
        assert_eq!(slices(NT, 4096, 64, 1024, Halves::NONE), Some((4, 256)));
        assert_eq!(slices(TN, 64, 1024, 4096, Halves::NONE), Some((16, 256)));
        assert_eq!(slices(NN, 4096, 1024, 64, Halves::NONE), None);
        assert_eq!(slices(TN, 1024, 1024, 4096, Halves::NONE), None);
        assert_eq!(slices(NT, 1, 64, 1023, Halves::NONE), None);
        assert_eq!(slices(NT, 1, 64, 1025, Halves::NONE), Some((13, 80)));
        assert_eq!(slices(TN, 256, 256, 4096, Halves::first(2)), None);
        assert_eq!(slices(TN, 64, 1024, 4096, Halves::first(2)), Some((16, 256)));
    }

    #[test]
    fn blocks_of_rows_compute_the_whole_to_the_bit() {
        let whole = Params { a_offset: 3, b_offset: 5, c_offset: 7, ..Params::dense(NT, ADD, 450, 12, 20) };
        for form in [NT, NN, TN] {
            let dense = Params::dense(form, ADD, whole.m, whole.n, whole.k);
            let whole = Params { lda: dense.lda + 1, ldb: dense.ldb + 2, ldc: dense.ldc + 3, form, ..whole };
            let (a, b, c) = (uniform(1, 9900), uniform(2, 9900), uniform(3, 9900));
            let run = |parts: &[Params]| {
                let mut c = c.clone();
                for p in parts {
                    let args = [Arg::Real(&a), Arg::Real(&b), Arg::Real(&a), Arg::RealMut(&mut c)];
                    Spec::reference::<f64>(p, Args(args.into()));
                }
                c
            };
            let blocks = whole.in_blocks(150 * 12 * 20);
            assert_eq!(blocks.iter().map(|p| p.m).collect::<Vec<_>>(), [256, 194]);
            assert_eq!(whole.in_blocks(1).iter().map(|p| p.m).collect::<Vec<_>>(), [128, 128, 128, 66]);
            assert!(run(&blocks) == run(&[whole]) && run(&blocks) != c);
        }
        assert_eq!(whole.in_blocks(work::most(false)).len(), 1);
    }
}
