//! Gradients of attention's keys and values, head by head.

pub use super::attention::Params;
use super::contract::{self, Held, Kept};

use super::attention::{backward_arguments, backward_cases, parts, tile_constants, tile_grid};
use super::{Args, Bind, Constants, Halves, Kernel, KernelSpec, Variant, case::Case, flash, read, read_u32, write};
use crate::reference::{self, Real};

/// The row of the kernel table.
pub static KERNEL: Kernel = Kernel::of::<Spec>();

struct Spec;

impl KernelSpec for Spec {
    type Params = Params;
    const STEM: &'static str = "attention_backward_kv";
    const SUMMARY: &'static str = "gradients of each head's keys and values, from recomputed scores";
    const SHADER: &'static str = include_str!("../../shaders/attention_backward_kv.wgsl");
    const BINDS: &'static [Bind] = &[
        read("q").or_half("HALF_Q"),
        read("kv").or_half("HALF_KV"),
        read("k_rope").or_half("HALF_K_ROPE"),
        read_u32("document_start"),
        read_u32("state"),
        read("row_stats"),
        read("d_out").or_half("HALF_D_OUT"),
        write("d_heads").or_half("HALF_D_HEADS"),
    ];

    const VARIANTS: &'static [Variant<Params>] = &[Variant {
        suffix: "coop16",
        shader: include_str!("../../shaders/attention_backward_kv.coop16.wgsl"),
        constants: flash::key_constants,
        grid: flash::grid,
        fits: |p, halves| halves == Halves::all(Spec::BINDS) && flash::fits_keys(p),
        tolerance: flash::TOLERANCE,
    }];

    fn constants(p: &Params) -> Constants {
        tile_constants(p, p.query_width().max(p.value as usize))
    }

    fn parts(p: &Params, halves: Halves) -> Vec<Params> {
        let half = halves == Halves::all(Spec::BINDS) && flash::fits_keys(p);
        parts(p, 2 * (p.query_width() + p.value as usize), half)
    }

    fn grid(p: &Params) -> [u32; 3] {
        tile_grid(p)
    }

    fn contract(p: &Params, held: &[Held<'_>]) -> Kept {
        contract::documents(held[3].list(), p.length as usize)
    }

    fn reference<F: Real>(p: &Params, args: Args<'_, F>) {
        let (inputs, gradients, d_heads) = backward_arguments(args);
        reference::attention_backward_kv::attention_backward_kv(p, &inputs, &gradients, d_heads);
    }

    fn cases() -> Vec<Case> {
        backward_cases(|p| p.kv_width() + p.rope as usize)
    }
}
