//! The tiles that the matrix products cut their results into: the constants of `shaders/shared/product.wgsl`.

use super::Constants;

/// A workgroup's part of a result and one invocation's part of that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tile {
    /// Rows a workgroup.
    pub m: usize,
    /// Columns a workgroup; a multiple of `8 * thread_n`.
    pub n: usize,
    /// Rows an invocation, a multiple of 4.
    pub thread_m: usize,
    /// Columns an invocation, a multiple of 4.
    pub thread_n: usize,
}

/// Steps of k that travel to workgroup memory together.
pub const DEPTH: usize = 16;

/// For results with work for a whole card: fewest reads of global memory.
pub const LARGE: Tile = Tile { m: 128, n: 128, thread_m: 8, thread_n: 8 };
/// For the rest: four times as many workgroups, the same work an invocation.
pub const MEDIUM: Tile = Tile { m: 64, n: 64, thread_m: 8, thread_n: 8 };
/// For long sums into few elements: as many invocations at work as the result allows.
pub const SMALL: Tile = Tile { m: 32, n: 32, thread_m: 4, thread_n: 4 };

/// Tiles for a device to choose from by time. Which one is best depends on its registers, caches and number of
/// multiprocessors, which nothing here asks for.
const ALL: [Tile; 6] = [
    LARGE,
    MEDIUM,
    SMALL,
    Tile { m: 128, n: 128, thread_m: 16, thread_n: 8 },
    Tile { m: 64, n: 128, thread_m: 8, thread_n: 8 },
    Tile { m: 128, n: 64, thread_m: 8, thread_n: 8 },
];

impl Tile {
    /// Tiles for `results` products of m x n elements: this one, then those that may be faster. A tile half of which
    /// would lie outside of every result is none, nor are the smallest where they would be very many.
    pub fn candidates(self, results: usize, m: usize, n: usize) -> impl Iterator<Item = Tile> {
        const MANY: usize = 4096;
        let fits = |extent: usize, tile: usize| tile <= SMALL.m || extent > tile / 2;
        let few = move |tile: Tile| tile != SMALL || results * tile.count(m, n) <= MANY;
        let others = ALL.into_iter().filter(move |&t| t != self && fits(m, t.m) && fits(n, t.n) && few(t));
        std::iter::once(self).chain(others)
    }

    /// What distinguishes the tile from others.
    pub fn name(self) -> String {
        format!("{}x{} of {}x{}", self.m, self.n, self.thread_m, self.thread_n)
    }

    /// The tile for `results` products of m x n elements and sums of length k. A function of the shape alone, so that
    /// a recording does not depend on the device it was made for.
    pub fn choose(results: usize, m: usize, n: usize, k: usize) -> Tile {
        // Large cards have some 130 multiprocessors: below that many workgroups of a size, take the next smaller one.
        const ENOUGH: usize = 128;
        // Below this length a small product is over before idle multiprocessors matter, and on a software adapter the
        // larger part an invocation is faster.
        const LONG: usize = 1024;
        let enough = |tile: Tile| results * tile.count(m, n) >= ENOUGH;
        match (enough(LARGE), enough(MEDIUM)) {
            (true, _) if m > MEDIUM.m && n > MEDIUM.n => LARGE,
            (_, false) if k >= LONG => SMALL,
            _ => MEDIUM,
        }
    }

    /// Tiles in a result of m x n elements.
    pub fn count(self, m: usize, n: usize) -> usize {
        m.div_ceil(self.m) * n.div_ceil(self.n)
    }

    /// Whether a result's rows and its columns end within tiles, as constants of the shaders on matrix units.
    pub fn edges(self, m: u32, n: u32) -> Constants {
        let ragged = |extent: u32, tile: usize| i64::from(!extent.is_multiple_of(tile as u32));
        vec![("EDGE_M", ragged(m, self.m)), ("EDGE_N", ragged(n, self.n))]
    }

    /// The constants that describe the tile to the shader.
    pub fn constants(self) -> Constants {
        vec![
            ("TILE_M", self.m as i64),
            ("TILE_N", self.n as i64),
            ("THREAD_M", self.thread_m as i64),
            ("THREAD_N", self.thread_n as i64),
            ("BK", DEPTH as i64),
        ]
    }
}

/// Whether sums of length `k` end within a round of the shaders on matrix units, as their constant.
pub fn tail(k: u32) -> (&'static str, i64) {
    /// UNROLL * BK of `shaders/shared/coop.wgsl`.
    const ROUND: u32 = 128;
    ("TAIL", i64::from(!k.is_multiple_of(ROUND)))
}

/// Whether all of these extents, distances and offsets allow vectors of four.
pub fn fours(numbers: &[u32]) -> bool {
    numbers.iter().all(|x| x.is_multiple_of(4))
}
