//! New lines of the latent cache.

use super::latent_attention::places;
use super::{Args, Bind, Constants, Kernel, KernelSpec, case::Case, elements, read, read_u32, update};
use crate::reference::{self, Real};

pub use super::latent_attention::Params;

/// The row of the kernel table.
pub static KERNEL: Kernel = Kernel::of::<Spec>();

struct Spec;

fn lanes(p: &Params) -> u32 {
    elements::lanes(&[p.latent, p.rope])
}

impl KernelSpec for Spec {
    type Params = Params;
    const STEM: &'static str = "latent_append";
    const SUMMARY: &'static str = "keeps each token's latent and rope key in the latent cache";
    const SHADER: &'static str = include_str!("../../shaders/latent_append.wgsl");
    const BINDS: &'static [Bind] = &[
        read("c").or_half("HALF_C"),
        read("k_rope").or_half("HALF_K_ROPE"),
        read_u32("slots"),
        read_u32("positions"),
        update("cache").or_half("HALF_CACHE"),
    ];

    fn constants(p: &Params) -> Constants {
        vec![("LANES", i64::from(lanes(p)))]
    }

    fn grid(p: &Params) -> [u32; 3] {
        elements::grid(p.rows * p.width(), lanes(p))
    }

    fn reference<F: Real>(p: &Params, args: Args<'_, F>) {
        let [c, k_rope, slots, positions, cache] = args.all();
        let places = [slots.index(), positions.index()];
        reference::latent_append::latent_append(p, [c.real(), k_rope.real()], places, cache.real_mut());
    }

    fn cases() -> Vec<Case> {
        let case = |(name, p): (&str, Params)| {
            let (slots, positions) = places(&p, 3);
            Case::new(name, &p)
                .uniform(1, (p.rows * p.latent) as usize)
                .uniform(2, (p.rows * p.rope) as usize)
                .index(slots)
                .index(positions)
                .uniform(3, (3 * p.capacity * p.width()) as usize)
        };
        let shapes = [
            ("one token", Params { capacity: 1, ..Params::sizes(1, 1, [1, 2, 1, 3]) }),
            ("fours, a row without a slot", Params::sizes(7, 1, [1, 4, 1, 12])),
            ("odd sizes", Params::sizes(4, 1, [1, 3, 1, 7])),
        ];
        shapes.into_iter().map(case).collect()
    }
}
