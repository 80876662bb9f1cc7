//! Attention of new tokens over the latent cache, without making keys and values of it.

use super::contract::{self, Held, Kept};
use super::{
    Args, Bind, Constants, Halves, Kernel, KernelSpec, Tolerance, Variant, case, case::Case, elements, flash, fold,
    read, read_u32, write,
};
use crate::reference::{self, Real};
use bytemuck::{Pod, Zeroable};

/// Immediates of a dispatch, and of those of `latent_append`, `latent_query` and `latent_value`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
pub struct Params {
    /// Number of tokens.
    pub rows: u32,
    /// Heads of a token.
    pub heads: u32,
    /// Columns of a query or key that no position turns.
    pub nope: u32,
    /// Columns that positions turn.
    pub rope: u32,
    /// Columns of a value.
    pub value: u32,
    /// Columns of a latent.
    pub latent: u32,
    /// Positions of a slot of the cache.
    pub capacity: u32,
    /// Parts of the keys that are attended to at the same time.
    pub splits: u32,
    /// Factor on the scores.
    pub scale: f32,
    /// Added to a latent's mean square before the root.
    pub epsilon: f32,
}

/// In place of a row's slot: there is no token, nothing is kept, and results are zeros.
pub const NO_SLOT: u32 = u32::MAX;

/// Keys of a tile. Tile `t` of a row's keys belongs to part `t % splits`.
pub const KEYS: u32 = 32;

/// The longest line of which workgroup memory holds a tile: that of DeepSeek-V2.
const WIDEST: u32 = 576;
/// Heads of a workgroup.
const HEADS: u32 = 4;
const THREADS: u32 = 256;

impl Params {
    /// Columns of a line of the cache: the latent, then the rope key.
    pub fn width(&self) -> u32 {
        self.latent + self.rope
    }

    /// Elements that are moved at a time.
    pub(super) fn lanes(&self) -> u32 {
        if self.latent.is_multiple_of(2) && self.rope.is_multiple_of(2) { 2 } else { 1 }
    }

    /// A small set of sizes whose extents all differ, for cases of the four kernels.
    pub(super) fn sizes(rows: u32, heads: u32, [nope, rope, value, latent]: [u32; 4]) -> Params {
        Params { rows, heads, nope, rope, value, latent, capacity: 150, splits: 2, scale: 0.3, epsilon: 0.25 }
    }
}

/// The row of the kernel table.
pub static KERNEL: Kernel = Kernel::of::<Spec>();

struct Spec;

impl KernelSpec for Spec {
    type Params = Params;
    const STEM: &'static str = "latent_attention";
    const SUMMARY: &'static str = "attends from absorbed queries to the latent cache, in parts of its keys";
    const SHADER: &'static str = include_str!("../../shaders/latent_attention.wgsl");
    const BINDS: &'static [Bind] = &[
        read("q").or_half("HALF_Q"),
        read("cache").or_half("HALF_CACHE"),
        read_u32("slots"),
        read_u32("positions"),
        write("sums"),
        write("statistics"),
    ];

    const TOLERANCE: Tolerance = Tolerance {
        factor: 4.0,
        floor: 4e-6,
        reason: "an exponential makes what another order of a score's long sum rounds several times as large",
    };
    const STORED: &'static [Halves] = &[Halves::only(1)];
    const VARIANTS: &'static [Variant<Params>] = &[Variant {
        suffix: "coop16",
        shader: include_str!("../../shaders/latent_attention.coop16.wgsl"),
        constants: |p| {
            let deep = if p.width().is_multiple_of(64) { 4 } else { 2 };
            vec![("WIDTH", i64::from(p.width())), ("LATENT", i64::from(p.latent)), ("DEEP", deep)]
        },
        grid: |p| fold((p.rows * (p.heads / 16) * p.splits) as usize),
        fits: |p, halves| {
            let sixteens = [p.heads, p.latent].iter().all(|&n| n > 0 && n.is_multiple_of(16));
            let line = p.width().is_multiple_of(32) && p.width() <= WIDEST;
            halves == Halves::all(Spec::BINDS) && sixteens && line
        },
        tolerance: flash::TOLERANCE,
    }];

    fn constants(p: &Params) -> Constants {
        let lanes = elements::lanes(&[p.latent, p.rope]);
        // Columns that an invocation sums at a time.
        let columns = if lanes == 4 { 2 } else { 1 };
        vec![
            ("LANES", i64::from(lanes)),
            ("WIDTH", i64::from(p.width())),
            ("COLUMNS", i64::from((p.latent / columns).div_ceil(THREADS))),
        ]
    }

    fn grid(p: &Params) -> [u32; 3] {
        fold((p.rows * p.heads.div_ceil(HEADS) * p.splits) as usize)
    }

    fn contract(p: &Params, held: &[Held<'_>]) -> Kept {
        let lines = held[1].len() / p.width() as usize;
        contract::places(held[2].list(), held[3].list(), p.capacity as usize, lines)
    }

    fn reference<F: Real>(p: &Params, args: Args<'_, F>) {
        let [q, cache, slots, positions, sums, statistics] = args.all();
        let places = [slots.index(), positions.index()];
        let outputs = [sums.real_mut(), statistics.real_mut()];
        reference::latent_attention::latent_attention(p, q.real(), cache.real(), places, outputs);
    }

    fn cases() -> Vec<Case> {
        let shapes = [
            ("one key", Params { capacity: 1, splits: 1, ..Params::sizes(1, 1, [1, 2, 1, 2]) }),
            ("a row without a slot, keys of one tile and of five", Params::sizes(3, 6, [4, 4, 3, 12])),
            ("odd sizes, more parts than tiles", Params { splits: 7, ..Params::sizes(4, 3, [4, 3, 3, 7]) }),
            ("heads in sixteens", Params { splits: 3, ..Params::sizes(4, 32, [16, 16, 16, 80]) }),
            ("wide lines in sixteens", Params::sizes(3, 16, [8, 64, 8, 512])),
            ("a latent of several passes", Params { capacity: 70, ..Params::sizes(2, 4, [8, 4, 8, 600]) }),
        ];
        let case = |(name, p): (&str, Params)| {
            let slots = 3;
            // Large queries: the softmax must not be flat.
            let q = case::uniform(1, (p.rows * p.heads * p.width()) as usize).into_iter().map(|x| 3.0 * x).collect();
            let (slot, positions) = places(&p, slots);
            Case::new(name, &p)
                .real(q)
                .uniform(2, (slots * p.capacity * p.width()) as usize)
                .index(slot)
                .index(positions)
                .output((p.rows * p.heads * p.splits * p.latent) as usize)
                .output((p.rows * p.heads * p.splits * 2) as usize)
        };
        shapes.into_iter().map(case).collect()
    }
}

/// Slots and positions of the rows of a case: the last position of slot 1, one in the first tile of slot 0, no slot for
/// every fifth row from the third on.
pub(super) fn places(p: &Params, slots: u32) -> (Vec<u32>, Vec<u32>) {
    let slot = |row: u32| if row % 5 == 2 { NO_SLOT } else { (row + 1) % slots };
    let position = |row: u32| if row == 0 { p.capacity - 1 } else { (row * 37 + 3) % p.capacity };
    ((0..p.rows).map(slot).collect(), (0..p.rows).map(position).collect())
}
