//! Gradients of the experts' weights.

use super::contract::{self, Held, Kept};
use super::matmul;
use super::matmul_experts::{offsets, shares};
use super::tile::{self, Tile};
use super::work;
use super::{
    Args, Bind, Constants, Halves, Kernel, KernelSpec, Overwriting, Tolerance, Tunable, Variant, Way, Ways, case::Case,
    fold, read, read_u32, update,
};
use crate::reference::{self, Real};
use bytemuck::{Pod, Zeroable};

/// Immediates of a dispatch.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Params {
    /// Columns of a, rows of a gradient.
    pub m: u32,
    /// Columns of b and of a gradient.
    pub n: u32,
    /// Rows of a and of b: pairs of a token and an expert, sorted by expert.
    pub pairs: u32,
    /// The expert whose gradient is c's first.
    pub first_expert: u32,
    /// Gradients in c.
    pub expert_count: u32,
    /// First row of every gradient to compute.
    pub first_row: u32,
    /// Rows of every gradient to compute.
    pub row_count: u32,
    /// [`matmul::ADD`] or [`matmul::OVERWRITE`].
    pub accumulate: u32,
}

impl Params {
    fn tile(&self) -> Tile {
        // How many rows an expert has is not known here, and many are not to be expected.
        Tile::choose(self.expert_count as usize, self.row_count as usize, self.n as usize, 1)
    }

    /// Ranges of the gradients' rows with at most `most` products each, but no fewer than 128 rows. How many rows each
    /// expert has is not known; together they have all.
    fn in_ranges(&self, most: u64) -> Vec<Params> {
        let row = u64::from(self.pairs) * u64::from(self.n);
        let range = |(first, row_count)| Params { first_row: self.first_row + first, row_count, ..*self };
        work::ranges(self.row_count, row, 128, most).map(range).collect()
    }

    fn cut(&self, tile: Tile) -> Way {
        let whole = self.row_count.is_multiple_of(tile.m as u32) && self.n.is_multiple_of(tile.n as u32);
        let mut constants = tile.constants();
        constants.extend([
            ("ACCUMULATE", i64::from(self.accumulate)),
            ("EDGE_MN", i64::from(!whole)),
            ("A_VEC4", i64::from(tile::fours(&[self.m, self.first_row, self.row_count]))),
            ("B_VEC4", i64::from(tile::fours(&[self.n]))),
            ("C_VEC4", i64::from(tile::fours(&[self.n]))),
        ]);
        let grid = fold(self.expert_count as usize * tile.count(self.row_count as usize, self.n as usize));
        Way { name: tile.name(), constants, grid }
    }

    fn ways(&self) -> Ways {
        let (experts, rows, n) = (self.expert_count as usize, self.row_count as usize, self.n as usize);
        Ways {
            shape: vec![rows as u32, self.n, self.pairs, self.expert_count],
            products: u64::from(self.pairs) * u64::from(self.row_count) * u64::from(self.n),
            all: self.tile().candidates(experts, rows, n).map(|tile| self.cut(tile)).collect(),
        }
    }

    /// Where uneven shares of the rows begin, for bindings of `sizes` elements.
    fn indices(&self, sizes: &[usize]) -> Vec<Vec<u32>> {
        vec![shares(self.pairs as usize, sizes[2] - 1)]
    }

    /// Whether a cooperative form can run this that stores `side` x `side` elements at a time, factors in f16 provided;
    /// below its tile's size most of its work would be for nothing.
    fn in_squares(&self, side: u32, tile: Tile) -> bool {
        let fits = |extent: u32, tile: usize| extent >= tile as u32 && extent.is_multiple_of(side);
        let rows = fits(self.row_count, tile.m) && fits(self.m, tile.m);
        rows && fits(self.n, tile.n) && self.first_row.is_multiple_of(side)
    }
}

/// The row of the kernel table.
pub static KERNEL: Kernel = Kernel::of::<Spec>();

struct Spec;

impl KernelSpec for Spec {
    type Params = Params;
    const STEM: &'static str = "matmul_experts_weight_grad";
    const SUMMARY: &'static str = "adds the gradients of the experts' weights from rows sorted by expert";
    const SHADER: &'static str = include_str!("../../shaders/matmul_experts_weight_grad.wgsl");
    const BINDS: &'static [Bind] =
        &[read("a").or_half("HALF_A"), read("b").or_half("HALF_B"), read_u32("offsets"), update("c")];
    const VARIANTS: &'static [Variant<Params>] = &[
        Variant {
            suffix: "coop16",
            shader: include_str!("../../shaders/matmul_experts_weight_grad.coop16.wgsl"),
            constants: |p| {
                let mut constants = tile::LARGE.edges(p.row_count, p.n);
                constants.push(("ACCUMULATE", i64::from(p.accumulate)));
                constants
            },
            grid: |p| fold(p.expert_count as usize * tile::LARGE.count(p.row_count as usize, p.n as usize)),
            fits: |p, halves| halves.has(0) && halves.has(1) && p.in_squares(16, tile::LARGE),
            tolerance: Tolerance::DEFAULT,
        },
        Variant {
            suffix: "coop8",
            shader: include_str!("../../shaders/matmul_experts_weight_grad.coop8.wgsl"),
            constants: |p| vec![("ACCUMULATE", i64::from(p.accumulate))],
            grid: |p| fold(p.expert_count as usize * tile::MEDIUM.count(p.row_count as usize, p.n as usize)),
            fits: |p, halves| halves.has(0) && halves.has(1) && p.in_squares(8, tile::MEDIUM),
            tolerance: Tolerance::DEFAULT,
        },
    ];

    const OVERWRITING: Option<Overwriting<Params>> = Some(Overwriting {
        params: |p| Params { accumulate: matmul::OVERWRITE, ..*p },
        elements: |p| p.expert_count as usize * p.row_count as usize * p.n as usize,
    });

    fn constants(p: &Params) -> Constants {
        p.cut(p.tile()).constants
    }

    fn parts(p: &Params, halves: Halves) -> Vec<Params> {
        p.in_ranges(work::most(halves.has(0) && halves.has(1) && p.in_squares(16, tile::LARGE)))
    }

    fn grid(p: &Params) -> [u32; 3] {
        p.cut(p.tile()).grid
    }

    const TUNABLE: Option<Tunable<Params>> = Some(Tunable { ways: Params::ways, indices: Params::indices });

    fn contract(p: &Params, held: &[Held<'_>]) -> Kept {
        contract::offsets("offsets", held[2].list(), p.pairs as usize)
    }

    fn reference<F: Real>(p: &Params, args: Args<'_, F>) {
        let [a, b, offsets, c] = args.all();
        let (a, b, offsets, c) = (a.real(), b.real(), offsets.index(), c.real_mut());
        reference::matmul_experts_weight_grad::matmul_experts_weight_grad(p, a, b, offsets, c);
    }

    fn cases() -> Vec<Case> {
        let all = |m, n, counts: &[u32]| case(m, n, 0, counts.len() as u32, counts);
        let over =
            |case: Case| Case { name: format!("{}, overwritten", case.name), params: overwriting(&case), ..case };
        vec![
            all(1, 1, &[1]),
            all(37, 70, &[5, 0, 33, 16]),
            all(64, 128, &[32, 17, 0]),
            all(68, 36, &[0, 3, 48]),
            all(132, 260, &[9; 22]), // large tiles
            all(144, 128, &[40, 0, 33]),
            over(all(144, 128, &[40, 0, 33])),
            over(all(37, 70, &[5, 0, 33, 16])),
            case(20, 31, 1, 2, &[7, 18, 0, 5]),
            case(88, 72, 1, 2, &[7, 37, 64, 5]), // in eights
            case(36, 44, 2, 2, &[7, 18, 50, 1]),
            rows(over(all(300, 140, &[7, 0, 50])), 128, 172),
            rows(all(304, 128, &[7, 18, 50]), 128, 176),
            rows(all(37, 70, &[5, 0, 33, 16]), 9, 11),
        ]
    }
}

/// `case` with these rows of its gradients alone.
fn rows(case: Case, first_row: u32, row_count: u32) -> Case {
    let p = Params { first_row, row_count, ..bytemuck::pod_read_unaligned(&case.params) };
    let name = format!("{}, rows from {first_row}", case.name);
    Case { name, params: bytemuck::bytes_of(&p).to_vec(), ..case }
}

/// The parameters of `case` with gradients that are overwritten.
fn overwriting(case: &Case) -> Vec<u8> {
    let p: Params = bytemuck::pod_read_unaligned(&case.params);
    bytemuck::bytes_of(&Params { accumulate: matmul::OVERWRITE, ..p }).to_vec()
}

/// Random rows for experts with these numbers of them; c holds the gradients of `count` experts from `first` on.
fn case(m: u32, n: u32, first: u32, count: u32, counts: &[u32]) -> Case {
    let (offsets, name) = (offsets(counts), format!("{m} x {n}, experts from {first}, {} in all", counts.len()));
    let pairs = offsets[counts.len()];
    let (first_expert, expert_count, accumulate) = (first, count, matmul::ADD);
    Case::new(name, &Params { m, n, pairs, first_expert, expert_count, first_row: 0, row_count: m, accumulate })
        .uniform(1, (pairs * m) as usize)
        .uniform(2, (pairs * n) as usize)
        .index(offsets)
        .uniform(3, (count * m * n) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::case::{Data, run_reference};

    #[test]
    fn ranges_of_rows_compute_the_whole_to_the_bit() {
        for whole in [case(300, 20, 0, 3, &[7, 0, 50]), case(131, 20, 1, 2, &[7, 9, 0, 50])] {
            let p: Params = bytemuck::pod_read_unaligned(&whole.params);
            for accumulate in [matmul::ADD, matmul::OVERWRITE] {
                let whole = Case { params: bytemuck::bytes_of(&Params { accumulate, ..p }).to_vec(), ..whole.clone() };
                let ranges = Params { accumulate, ..p }.in_ranges(1);
                assert_eq!(ranges.len(), p.m.div_ceil(128) as usize);
                let mut apart = whole.clone();
                for range in &ranges {
                    apart.params = bytemuck::bytes_of(range).to_vec();
                    apart.data = run_reference(&KERNEL, &apart, KERNEL.cpu_f64);
                }
                let [.., Data::Real(found)] = &apart.data[..] else { panic!("c is of floats") };
                let [.., Data::Real(expected)] = &run_reference(&KERNEL, &whole, KERNEL.cpu_f64)[..] else { panic!() };
                assert!(found == expected, "{}", whole.name);
            }
            assert_eq!(p.in_ranges(work::most(false)).len(), 1);
        }
    }
}
