//! Products of sorted rows with their experts' weights.

use super::contract::{self, Held, Kept};
use super::thin;
use super::tile::{self, Tile};
use super::work;
use super::{
    Args, Bind, Constants, Halves, Kernel, KernelSpec, Tolerance, Tunable, Variant, Way, Ways, case::Case, fold,
    matmul, read, read_u32, update,
};
use crate::reference::{self, Real};
use bytemuck::{Pod, Zeroable};

/// Most rows of one expert in a tile of the table, in f32. With some hundred rows an expert the last tile's empty rows
/// cost little, and a weight is still read only a few times.
pub const TILE_ROWS: usize = 64;
/// The same for rows stored as f16: matrix units want larger tiles.
pub const HALF_TILE_ROWS: usize = 128;

/// The same where nothing is trained: with `pairs` rows for `experts` experts so few that reading the weights is all
/// the work, tiles that most experts' rows fill once.
pub fn fitting_tile_rows(pairs: usize, experts: usize) -> usize {
    [16, 32, 64].into_iter().find(|rows| 4 * pairs <= 3 * rows * experts).unwrap_or(HALF_TILE_ROWS)
}

/// The expert of a tile that the table does not use.
pub const UNUSED: u32 = 0xffff_ffff;

/// Immediates of a dispatch.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Params {
    /// Rows of a and of c: pairs of a token and an expert, sorted by expert.
    pub rows: u32,
    /// Columns of c.
    pub n: u32,
    /// Columns of a, at least 1.
    pub k: u32,
    /// [`matmul::NT`]: an expert's weight is (n, k); [`matmul::NN`]: (k, n).
    pub form: u32,
    /// The expert whose weight is b's first.
    pub first_expert: u32,
    /// Weights in b.
    pub expert_count: u32,
    /// The first tile of the table to compute.
    pub first_tile: u32,
    /// Tiles to compute.
    pub tiles: u32,
    /// Most rows of a tile: [`TILE_ROWS`], [`HALF_TILE_ROWS`] or [`fitting_tile_rows`].
    pub tile_rows: u32,
    /// [`matmul::OVERWRITE`] or [`matmul::ADD`].
    pub accumulate: u32,
}

impl Params {
    fn tile(&self) -> Tile {
        let wide = Tile { m: self.tile_rows as usize, n: 128, thread_m: 8, thread_n: 8 };
        let narrow = Tile { n: 64, ..wide };
        if self.n > narrow.n as u32 { wide } else { narrow }
    }

    /// Whether a cooperative form can run this that stores `side` columns at a time, factors in f16 provided; below its
    /// tile's size most of its work would be for nothing.
    fn in_squares(&self, side: u32, tile: Tile) -> bool {
        let tiles = self.tile_rows.is_multiple_of(tile.m as u32) && self.n >= tile.n as u32;
        tiles && self.n.is_multiple_of(side) && self.k.is_multiple_of(32)
    }

    /// Whether its tiles have so few rows that reading weights is all the work, and can be computed so.
    fn is_thin(&self) -> bool {
        thin::fits(self.tile_rows, self.n, self.k)
    }

    fn thin(&self) -> thin::Cut {
        thin::Cut::of_many(self.tile_rows, self.n, self.k)
    }

    fn on_matrix_units(&self, halves: Halves) -> bool {
        halves.has(0) && halves.has(1) && (self.is_thin() || self.in_squares(16, tile::LARGE))
    }

    /// Ranges of tiles with at most `most` products each, but no fewer than one tile.
    fn in_ranges(&self, most: u64) -> Vec<Params> {
        let tile = u64::from(self.tile_rows) * u64::from(self.n) * u64::from(self.k);
        let range = |(first, tiles)| Params { first_tile: self.first_tile + first, tiles, ..*self };
        work::ranges(self.tiles, tile, 1, most).map(range).collect()
    }

    fn cut(&self, tile: Tile) -> Way {
        let mut constants = tile.constants();
        constants.extend([
            ("FORM", i64::from(self.form)),
            ("ACCUMULATE", i64::from(self.accumulate)),
            ("EDGE_K", i64::from(!self.k.is_multiple_of(tile::DEPTH as u32))),
            ("A_VEC4", i64::from(tile::fours(&[self.k]))),
            ("B_VEC4", i64::from(tile::fours(&[if self.form == matmul::NT { self.k } else { self.n }]))),
            ("C_VEC4", i64::from(tile::fours(&[self.n]))),
        ]);
        let grid = fold(self.tiles as usize * (self.n as usize).div_ceil(tile.n));
        Way { name: tile.name(), constants, grid }
    }

    fn ways(&self) -> Ways {
        let (own, rows) = (self.tile(), self.tile_rows as usize);
        // The table fixes a tile's rows.
        let tiles = [
            Tile { n: 64, ..own },
            Tile { n: 128, ..own },
            Tile { n: 64, thread_m: 16, ..own },
            Tile { n: 128, thread_m: 16, ..own },
        ];
        let others = tiles.into_iter().filter(|&tile| {
            tile != own && (tile.n == 64 || self.n > 64) && (tile.thread_m == own.thread_m || rows >= TILE_ROWS)
        });
        Ways {
            shape: vec![self.form, self.rows, self.n, self.k, self.expert_count, self.tiles, self.tile_rows],
            products: u64::from(self.rows) * u64::from(self.n) * u64::from(self.k),
            all: std::iter::once(own).chain(others).filter(|tile| tile.m == rows).map(|tile| self.cut(tile)).collect(),
        }
    }

    /// A table for uneven shares of the rows among experts, and where these begin, in bindings of `sizes` elements.
    fn indices(&self, sizes: &[usize]) -> Vec<Vec<u32>> {
        let experts = sizes[3] - 1;
        let offsets = shares(self.rows as usize, experts);
        vec![table(&offsets, self.tile_rows as usize, sizes[2] / 2), offsets]
    }
}

/// First rows of `experts` experts that share `rows` unevenly, as a router leaves them, and the end.
pub fn shares(rows: usize, experts: usize) -> Vec<u32> {
    let (mean, spread) = (rows / experts, rows / experts / 2);
    // One more, the next less: what an odd number leaves over falls to the last.
    let share = |e: usize| {
        let more = (e / 2 * 37 + 11) % spread.max(1);
        if e.is_multiple_of(2) { mean + more } else { mean - more }
    };
    let mut end = 0;
    let ends = (0..experts).map(|e| {
        end += share(e);
        if e + 1 == experts { rows as u32 } else { end as u32 }
    });
    std::iter::once(0).chain(ends).collect()
}

/// The table of `tiles` tiles with at most `tile_rows` rows for experts whose rows begin at `offsets`, as `expert_scan`
/// makes it.
pub fn table(offsets: &[u32], tile_rows: usize, tiles: usize) -> Vec<u32> {
    let ranges = (0..).zip(offsets.windows(2));
    let mut table: Vec<u32> = ranges
        .flat_map(|(expert, range)| (range[0]..range[1]).step_by(tile_rows).flat_map(move |row| [expert, row]))
        .collect();
    while table.len() < 2 * tiles {
        table.extend([UNUSED, 0]);
    }
    table
}

/// The row of the kernel table.
pub static KERNEL: Kernel = Kernel::of::<Spec>();

struct Spec;

impl KernelSpec for Spec {
    type Params = Params;
    const STEM: &'static str = "matmul_experts";
    const SUMMARY: &'static str = "multiplies rows sorted by expert with their experts' weights";
    const SHADER: &'static str = include_str!("../../shaders/matmul_experts.wgsl");
    const BINDS: &'static [Bind] = &[
        read("a").or_half("HALF_A"),
        read("b").or_half("HALF_B"),
        read_u32("tiles"),
        read_u32("offsets"),
        update("c").or_half("HALF_C"),
    ];
    const STORED: &'static [Halves] = &[Halves::first(2)];
    const VARIANTS: &'static [Variant<Params>] = &[
        Variant {
            suffix: "coop16",
            shader: include_str!("../../shaders/matmul_experts.coop16.wgsl"),
            constants: |p| {
                let mut constants = vec![("FORM", i64::from(p.form)), ("ACCUMULATE", i64::from(p.accumulate))];
                if p.is_thin() {
                    constants.extend(p.thin().constants());
                } else {
                    constants.extend(tile::LARGE.edges(1, p.n)); // experts' rows end anywhere
                    constants.push(tile::tail(p.k));
                }
                constants
            },
            grid: |p| {
                let columns = if p.is_thin() { p.thin().columns as usize } else { tile::LARGE.n };
                fold(p.tiles as usize * (p.n as usize).div_ceil(columns))
            },
            fits: |p, halves| p.on_matrix_units(halves),
            tolerance: Tolerance::DEFAULT,
        },
        Variant {
            suffix: "coop8",
            shader: include_str!("../../shaders/matmul_experts.coop8.wgsl"),
            constants: |p| vec![("FORM", i64::from(p.form)), ("ACCUMULATE", i64::from(p.accumulate))],
            grid: |p| fold(p.tiles as usize * tile::MEDIUM.count(p.tile_rows as usize, p.n as usize)),
            fits: |p, halves| halves.has(0) && halves.has(1) && p.in_squares(8, tile::MEDIUM),
            tolerance: Tolerance::DEFAULT,
        },
    ];

    fn constants(p: &Params) -> Constants {
        p.cut(p.tile()).constants
    }

    fn parts(p: &Params, halves: Halves) -> Vec<Params> {
        p.in_ranges(work::most(p.on_matrix_units(halves)))
    }

    fn grid(p: &Params) -> [u32; 3] {
        p.cut(p.tile()).grid
    }

    const TUNABLE: Option<Tunable<Params>> = Some(Tunable { ways: Params::ways, indices: Params::indices });

    fn contract(p: &Params, held: &[Held<'_>]) -> Kept {
        let [tiles, offsets] = [2, 3].map(|i| held[i].list());
        contract::offsets("offsets", offsets, p.rows as usize)?;
        let expected = table(offsets, p.tile_rows as usize, tiles.len() / 2);
        contract::require(tiles == expected, || "tiles are not those of the offsets".to_owned())
    }

    fn reference<F: Real>(p: &Params, args: Args<'_, F>) {
        let [a, b, tiles, offsets, c] = args.all();
        reference::matmul_experts::matmul_experts(p, a.real(), b.real(), tiles.index(), offsets.index(), c.real_mut());
    }

    fn cases() -> Vec<Case> {
        let base = Params {
            rows: 0,
            n: 0,
            k: 0,
            form: 0,
            first_expert: 0,
            expert_count: 0,
            first_tile: 0,
            tiles: 0,
            tile_rows: 64,
            accumulate: 0,
        };
        let (nt, nn) = (Params { form: matmul::NT, ..base }, Params { form: matmul::NN, ..base });
        vec![
            case("one row", Params { n: 1, k: 1, expert_count: 1, ..nt }, &[1]),
            case("ragged", Params { n: 37, k: 29, expert_count: 4, accumulate: 1, ..nt }, &[65, 0, 1, 70]),
            case("ragged, transposed", Params { n: 67, k: 31, expert_count: 4, ..nn }, &[3, 64, 0, 13]),
            case("fours", Params { n: 132, k: 64, expert_count: 3, ..nt }, &[130, 7, 64]),
            case("large tiles", Params { n: 144, k: 96, expert_count: 3, tile_rows: 128, ..nt }, &[131, 0, 70]),
            case(
                "large tiles, transposed, a part",
                Params { n: 128, k: 64, first_expert: 1, expert_count: 2, tile_rows: 128, accumulate: 1, ..nn },
                &[9, 150, 2],
            ),
            case("few rows an expert", Params { n: 64, k: 256, expert_count: 4, tile_rows: 16, ..nt }, &[5, 0, 18, 3]),
            case(
                "few rows, transposed, a part",
                Params { n: 96, k: 128, first_expert: 1, expert_count: 2, tile_rows: 32, accumulate: 1, ..nn },
                &[9, 40, 2],
            ),
            case("eights", Params { n: 72, k: 32, expert_count: 3, tile_rows: 128, ..nt }, &[140, 1, 64]),
            case("fours, a part", Params { n: 72, k: 36, first_expert: 1, expert_count: 2, ..nt }, &[5, 66, 9, 7]),
            case(
                "a part",
                Params { n: 64, k: 20, first_expert: 2, expert_count: 2, accumulate: 1, ..nn },
                &[5, 6, 70, 0],
            ),
        ]
    }
}

/// Random rows for experts with these numbers of them; the table has unused tiles at its end.
fn case(name: &str, p: Params, counts: &[u32]) -> Case {
    let offsets = offsets(counts);
    let mut tiles = table(&offsets, p.tile_rows as usize, 0);
    tiles.extend([UNUSED, 0, UNUSED, 0]);
    let p = Params { rows: offsets[counts.len()], tiles: tiles.len() as u32 / 2, ..p };
    let (rows, n, k) = (p.rows as usize, p.n as usize, p.k as usize);
    let case = Case::new(name, &p).uniform(1, rows * k).uniform(2, p.expert_count as usize * n * k);
    let case = case.index(tiles).index(offsets);
    // Where rows of other experts stay as they are, a large filler would widen the tolerance.
    let kept = p.expert_count as usize != counts.len();
    if p.accumulate == matmul::ADD || kept { case.uniform(3, rows * n) } else { case.output(rows * n) }
}

/// First rows of experts with these numbers of rows, and the end.
pub(super) fn offsets(counts: &[u32]) -> Vec<u32> {
    let mut end = 0;
    std::iter::once(0)
        .chain(counts.iter().map(|count| {
            end += count;
            end
        }))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::case::{Data, run_reference};

    #[test]
    fn ranges_of_tiles_compute_the_whole_to_the_bit() {
        for whole in Spec::cases() {
            let p: Params = bytemuck::pod_read_unaligned(&whole.params);
            let ranges = p.in_ranges(u64::from(2 * p.tile_rows * p.n * p.k));
            assert_eq!(ranges.len(), p.tiles.div_ceil(2) as usize);
            let mut apart = whole.clone();
            for range in &ranges {
                apart.params = bytemuck::bytes_of(range).to_vec();
                apart.data = run_reference(&KERNEL, &apart, KERNEL.cpu_f64);
            }
            let [.., Data::Real(found)] = &apart.data[..] else { panic!("c is of floats") };
            let [.., Data::Real(expected)] = &run_reference(&KERNEL, &whole, KERNEL.cpu_f64)[..] else { panic!() };
            assert!(found == expected, "{}", whole.name);
            assert_eq!(p.in_ranges(work::most(false)).len(), 1);
        }
    }
}
