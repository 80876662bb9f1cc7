//! Queries that take the keys' up-projection in, so that they meet latents themselves.

use super::contract::{self, Held, Kept};
use super::latent_attention::places;
use super::{Args, Bind, Constants, Halves, Kernel, KernelSpec, case::Case, fold, read, read_u32, write};
use crate::reference::{self, Real};

pub use super::latent_attention::Params;

/// The row of the kernel table.
pub static KERNEL: Kernel = Kernel::of::<Spec>();

struct Spec;

const THREADS: u32 = 256;
/// Rows that share one pass over the weight.
const ROWS: u32 = 4;

fn rows(p: &Params) -> u32 {
    if p.rows >= ROWS { ROWS } else { 1 }
}

fn tiles(p: &Params) -> u32 {
    (p.latent / p.lanes()).div_ceil(THREADS)
}

impl KernelSpec for Spec {
    type Params = Params;
    const STEM: &'static str = "latent_query";
    const SUMMARY: &'static str = "turns queries and takes the keys' up-projection into them, for the latent cache";
    const SHADER: &'static str = include_str!("../../shaders/latent_query.wgsl");
    const BINDS: &'static [Bind] = &[
        read("q").or_half("HALF_Q"),
        read("weight").or_half("HALF_WEIGHT"),
        read("table"),
        read_u32("positions"),
        write("y").or_half("HALF_Y"),
    ];
    const STORED: &'static [Halves] = &[Halves::only(1)];

    fn constants(p: &Params) -> Constants {
        let sizes = [("LANES", p.lanes()), ("ROWS", rows(p)), ("NOPE", p.nope), ("TILES", tiles(p))];
        sizes.into_iter().map(|(name, value)| (name, i64::from(value))).collect()
    }

    fn grid(p: &Params) -> [u32; 3] {
        fold((p.rows.div_ceil(rows(p)) * p.heads * tiles(p)) as usize)
    }

    fn contract(p: &Params, held: &[Held<'_>]) -> Kept {
        contract::below("positions", held[3].list(), held[2].len() / p.rope.max(1) as usize)
    }

    fn reference<F: Real>(p: &Params, args: Args<'_, F>) {
        let [q, weight, table, positions, y] = args.all();
        let read = [q.real(), weight.real(), table.real()];
        reference::latent_query::latent_query(p, read, positions.index(), y.real_mut());
    }

    fn cases() -> Vec<Case> {
        let case = |(name, p): (&str, Params)| {
            Case::new(name, &p)
                .uniform(1, (p.rows * p.heads * (p.nope + p.rope)) as usize)
                .uniform(2, (p.heads * (p.nope + p.value) * p.latent) as usize)
                .uniform(3, (p.capacity * p.rope) as usize)
                .index(places(&p, 3).1)
                .output((p.rows * p.heads * p.width()) as usize)
        };
        let shapes = [
            ("one token", Params::sizes(1, 1, [1, 2, 1, 2])),
            ("blocks of rows, the last not full", Params::sizes(7, 3, [5, 4, 6, 10])),
            ("odd sizes", Params::sizes(2, 3, [5, 2, 6, 7])),
            ("a latent of several tiles", Params::sizes(5, 2, [16, 8, 16, 600])),
        ];
        shapes.into_iter().map(case).collect()
    }
}
