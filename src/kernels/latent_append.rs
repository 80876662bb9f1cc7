//! New lines of the latent cache.

use super::contract::{self, Held, Kept};
use super::latent_attention::places;
use super::{Args, Bind, Halves, Kernel, KernelSpec, case::Case, fold, read, read_u32, update};
use crate::reference::{self, Real};

pub use super::latent_attention::Params;

/// The row of the kernel table.
pub static KERNEL: Kernel = Kernel::of::<Spec>();

struct Spec;

impl KernelSpec for Spec {
    type Params = Params;
    const STEM: &'static str = "latent_append";
    const SUMMARY: &'static str = "keeps each token's normalised latent and turned rope key in the latent cache";
    const SHADER: &'static str = include_str!("../../shaders/latent_append.wgsl");
    const BINDS: &'static [Bind] = &[
        read("down").or_half("HALF_DOWN"),
        read("norm"),
        read("table"),
        read_u32("slots"),
        read_u32("positions"),
        update("cache").or_half("HALF_CACHE"),
    ];
    const STORED: &'static [Halves] = &[Halves::only(5)];

    fn grid(p: &Params) -> [u32; 3] {
        fold(p.rows as usize) // one workgroup a row
    }

    fn contract(p: &Params, held: &[Held<'_>]) -> Kept {
        let [slots, positions] = [3, 4].map(|i| held[i].list());
        contract::places(slots, positions, p.capacity as usize, held[5].len() / p.width() as usize)?;
        contract::places_apart(slots, positions)
    }

    fn reference<F: Real>(p: &Params, args: Args<'_, F>) {
        let [down, norm, table, slots, positions, cache] = args.all();
        let places = [slots.index(), positions.index()];
        let read = [down.real(), norm.real(), table.real()];
        reference::latent_append::latent_append(p, read, places, cache.real_mut());
    }

    fn cases() -> Vec<Case> {
        let case = |(name, p): (&str, Params)| {
            let (slots, positions) = places(&p, 3);
            Case::new(name, &p)
                .uniform(1, (p.rows * p.width()) as usize)
                .uniform(2, p.latent as usize)
                .uniform(3, (p.capacity * p.rope) as usize)
                .index(slots)
                .index(positions)
                .uniform(4, (3 * p.capacity * p.width()) as usize)
        };
        let shapes = [
            ("one token", Params { capacity: 1, ..Params::sizes(1, 1, [1, 2, 1, 3]) }),
            ("a row without a slot", Params::sizes(7, 1, [1, 4, 1, 12])),
            ("wide", Params { epsilon: 1e-6, ..Params::sizes(4, 1, [1, 64, 1, 512]) }),
        ];
        shapes.into_iter().map(case).collect()
    }
}
