//! The parts of an attention over the latent cache put together, and their values.

use super::{Args, Bind, Constants, Halves, Kernel, KernelSpec, case, case::Case, elements, fold, read, write};
use crate::reference::{self, Real};

pub use super::latent_attention::Params;

/// The row of the kernel table.
pub static KERNEL: Kernel = Kernel::of::<Spec>();

struct Spec;

/// Rows that share one pass over the weight.
const ROWS: u32 = 4;
/// Outputs of a workgroup.
const OUTPUTS: u32 = 32;

fn rows(p: &Params) -> u32 {
    if p.rows >= ROWS { ROWS } else { 1 }
}

impl KernelSpec for Spec {
    type Params = Params;
    const STEM: &'static str = "latent_value";
    const SUMMARY: &'static str = "adds up the parts of an attention to the latent cache and makes values of the sums";
    const SHADER: &'static str = include_str!("../../shaders/latent_value.wgsl");
    const BINDS: &'static [Bind] =
        &[read("sums"), read("statistics"), read("weight").or_half("HALF_WEIGHT"), write("out").or_half("HALF_OUT")];

    const STORED: &'static [Halves] = &[Halves::only(2)];

    fn constants(p: &Params) -> Constants {
        let lanes = elements::lanes(&[p.latent]);
        let sizes = [("LANES", lanes), ("ROWS", rows(p)), ("LATENT", p.latent), ("SPLITS", p.splits)];
        sizes.into_iter().map(|(name, value)| (name, i64::from(value))).collect()
    }

    fn grid(p: &Params) -> [u32; 3] {
        fold((p.rows.div_ceil(rows(p)) * p.heads * p.value.div_ceil(OUTPUTS)) as usize)
    }

    fn reference<F: Real>(p: &Params, args: Args<'_, F>) {
        let [sums, statistics, weight, out] = args.all();
        let parts = [sums.real(), statistics.real()];
        reference::latent_value::latent_value(p, parts, weight.real(), out.real_mut());
    }

    fn cases() -> Vec<Case> {
        let case = |(name, p): (&str, Params)| {
            let parts = (p.rows * p.heads * p.splits) as usize;
            // Largest scores from -4 to 4, sums of weights from 1 on; every third part has no key, and of row 1 none.
            let empty = |i: usize| i % 3 == 1 || i / (p.heads * p.splits) as usize == 1;
            let two = |(i, x): (usize, f64)| if empty(i) { [-1e30, 0.0] } else { [4.0 * x, 1.5 + x / 2.0] };
            let statistics = case::uniform(2, parts).into_iter().enumerate().flat_map(two).collect();
            let mut sums = case::uniform(1, parts * p.latent as usize);
            sums.chunks_mut(p.latent as usize).enumerate().filter(|(i, _)| empty(*i)).for_each(|(_, x)| x.fill(0.0));
            Case::new(name, &p)
                .real(sums)
                .real(statistics)
                .uniform(3, (p.heads * (p.nope + p.value) * p.latent) as usize)
                .output((p.rows * p.heads * p.value) as usize)
        };
        let shapes = [
            ("one part", Params { splits: 1, ..Params::sizes(1, 1, [1, 2, 1, 2]) }),
            ("blocks of rows, the last not full", Params { splits: 3, ..Params::sizes(7, 3, [5, 4, 37, 10]) }),
            ("odd sizes", Params::sizes(2, 3, [5, 3, 6, 7])),
            ("a wide latent", Params { splits: 4, ..Params::sizes(5, 2, [16, 8, 16, 600]) }),
        ];
        shapes.into_iter().map(case).collect()
    }
}
