//! The table of kernels. One file per shader, same stem in `shaders/`, `kernels/` and `reference/`.
//!
//! A kernel's `Params` decide everything about a dispatch: the constants that its shader text is specialised with, the
//! number of workgroups, and what the reference computes. So a step of a recording is a kernel, its `Params` and the
//! tensors it binds, and the same step runs on a GPU or on the CPU.
//!
//! To add one: write `reference/X.rs`, `shaders/X.wgsl` and `kernels/X.rs` (follow [`rms_norm`]), then add its row to
//! [`KERNELS`]. The tests walk the table; none needs an edit.

pub mod adamw;
pub mod adamw8bit;
pub mod add;
pub mod attention;
pub mod attention_backward_kv;
pub mod attention_backward_q;
pub mod attention_delta;
pub mod balance_loss;
pub mod balance_loss_backward;
mod bind;
pub mod case;
pub mod cast;
pub mod contract;
pub mod copy_columns;
pub mod cross_entropy;
pub mod draw_token;
pub mod dropout;
mod elements;
pub mod embed;
pub mod embed_backward;
pub mod expert_bias;
pub mod expert_combine;
pub mod expert_combine_backward;
pub mod expert_count;
pub mod expert_gather;
pub mod expert_gather_backward;
pub mod expert_load;
pub mod expert_scan;
pub mod expert_scatter;
pub mod few_experts_down;
pub mod few_experts_up;
pub mod few_linear;
pub mod fill;
mod flash;
pub mod grad_norm;
pub mod grad_norm_finish;
pub mod history_append;
pub mod latent_append;
pub mod latent_attention;
pub mod latent_query;
pub mod latent_value;
pub mod log_probs;
pub mod loss_sum;
pub mod matmul;
pub mod matmul_experts;
pub mod matmul_experts_weight_grad;
pub mod metric_sum;
pub mod pair_loss;
pub mod policy_loss;
pub mod preference_loss;
pub mod rms_norm;
pub mod rms_norm_backward;
pub mod rms_norm_weight_grad;
pub mod rope;
pub mod router;
pub mod router_backward;
pub mod state;
pub mod scale;
pub mod spike_guard;
pub mod sum_heads;
pub mod sum_slices;
pub mod swiglu;
pub mod swiglu_backward;
pub mod tile;
mod thin;
pub mod value_loss;
mod work;
mod ways;

pub use bind::{Access, Arg, Args, Bind, Element, Halves, read, read_u32, update, update_u32, write, write_u32};
pub use ways::{AnyTunable, Tunable, Way, Ways};

use crate::reference::Real;
use bytemuck::Pod;

/// Named integers that specialise a shader's text.
pub type Constants = Vec<(&'static str, i64)>;

/// How a kernel that adds to its last binding overwrites it instead.
pub struct Overwriting<P> {
    /// Parameters that overwrite, of some that add.
    pub params: fn(&P) -> P,
    /// Elements of the last binding that such parameters write.
    pub elements: fn(&P) -> usize,
}

/// A faster form of a kernel for adapters that have what it needs; same bindings and parameters.
pub struct Variant<P> {
    /// Suffix of the shader file: `coop16` for `shaders/matmul.coop16.wgsl`.
    pub suffix: &'static str,
    /// The shader's text.
    pub shader: &'static str,
    /// Constants for these parameters.
    pub constants: fn(&P) -> Constants,
    /// Workgroups for these parameters.
    pub grid: fn(&P) -> [u32; 3],
    /// Whether the variant can run these parameters on bindings so stored.
    pub fits: fn(&P, Halves) -> bool,
    /// Allowed error, with its reason.
    pub tolerance: Tolerance,
}

/// What one file in `kernels/` states about its kernel.
pub trait KernelSpec: 'static {
    /// The immediate data of a dispatch: `#[repr(C)]`, at most 128 bytes, mirrored by `struct Params` in the shader.
    type Params: Pod;
    /// File stem.
    const STEM: &'static str;
    /// One sentence for the README's kernel table.
    const SUMMARY: &'static str;
    /// The portable shader's text.
    const SHADER: &'static str;
    /// Storage buffers in binding order, at most 8.
    const BINDS: &'static [Bind];
    /// Allowed error, with its reason.
    const TOLERANCE: Tolerance = Tolerance::DEFAULT;
    /// How recordings store bindings where it is neither all as f32 nor all that may be as f16.
    const STORED: &'static [Halves] = &[];
    /// Faster forms, best first.
    const VARIANTS: &'static [Variant<Self::Params>] = &[];
    /// Constants that specialise the shader's text; also what makes two pipelines differ.
    fn constants(_params: &Self::Params) -> Constants {
        Vec::new()
    }
    /// How to overwrite the last binding, whatever it holds; absent for a kernel that cannot.
    const OVERWRITING: Option<Overwriting<Self::Params>> = None;
    /// The dispatches that take the place of one that could last too long; together they make the same sums.
    fn parts(params: &Self::Params, _halves: Halves) -> Vec<Self::Params> {
        vec![*params]
    }
    /// Other ways to cut the portable form's work, for a device to choose from by time.
    const TUNABLE: Option<Tunable<Self::Params>> = None;
    /// Workgroups in x, y and z.
    fn grid(params: &Self::Params) -> [u32; 3];
    /// What the integers that a dispatch reads must hold, or its results mean nothing; [`contract`] has the words.
    fn contract(_params: &Self::Params, _held: &[contract::Held<'_>]) -> contract::Kept {
        Ok(())
    }
    /// Calls the reference of the same stem.
    fn reference<F: Real>(params: &Self::Params, args: Args<'_, F>);
    /// Inputs on which GPU and reference are compared.
    fn cases() -> Vec<case::Case>;
}

/// Allowed error of a GPU result against the f64 reference:
/// `factor` times the f32 reference's own worst error plus `floor` times the largest value.
#[derive(Clone, Copy, Debug)]
pub struct Tolerance {
    /// Multiple of the f32 reference's own error.
    pub factor: f64,
    /// Share of the largest absolute value of the f64 reference.
    pub floor: f64,
    /// Why these numbers.
    pub reason: &'static str,
}

impl Tolerance {
    /// Twice the reference's own rounding, as FlashAttention's tests allow, and one part in a million for other orders
    /// of summation.
    pub const DEFAULT: Tolerance =
        Tolerance { factor: 2.0, floor: 1e-6, reason: "twice the f32 reference's own rounding" };
}

/// A variant with its parameter type erased.
pub struct AnyVariant {
    /// Suffix of the shader file.
    pub suffix: &'static str,
    /// The shader's text.
    pub shader: &'static str,
    /// Constants for the bytes of a `Params`.
    pub constants: OfBytes<Constants>,
    /// Workgroups for the bytes of a `Params`.
    pub grid: OfBytes<[u32; 3]>,
    /// Whether the variant can run the bytes of a `Params` on bindings so stored.
    pub fits: FitsBytes,
    /// Allowed error.
    pub tolerance: Tolerance,
}

impl AnyVariant {
    /// Constants for the bytes of a `Params` and bindings so stored.
    pub fn constants_of(&self, kernel: &Kernel, params: &[u8], halves: Halves) -> Constants {
        (self.constants)(params).into_iter().chain(halves.constants(kernel.binds)).collect()
    }
}

/// A function of the bytes of a `Params`.
pub type OfBytes<T> = Box<dyn Fn(&[u8]) -> T + Send + Sync>;
/// A judgement of the bytes of a `Params` and of how bindings are stored.
pub type FitsBytes = Box<dyn Fn(&[u8], Halves) -> bool + Send + Sync>;

/// A kernel with its parameter type erased: one row of [`KERNELS`].
pub struct Kernel {
    /// File stem.
    pub stem: &'static str,
    /// One sentence for the README's kernel table.
    pub summary: &'static str,
    /// The portable shader's text.
    pub shader: &'static str,
    /// Storage buffers in binding order.
    pub binds: &'static [Bind],
    /// Size of `Params` in bytes.
    pub params_size: usize,
    /// Allowed error.
    pub tolerance: Tolerance,
    /// Constants for the bytes of a `Params`.
    pub constants: fn(&[u8]) -> Constants,
    /// The dispatches that take the place of one with the bytes of a `Params`.
    pub parts: fn(&[u8], Halves) -> Vec<Vec<u8>>,
    /// Turns the bytes of a `Params` that adds to its last binding into one that overwrites it and gives the number of
    /// elements that are written; absent for a kernel that cannot.
    pub overwriting: Option<fn(&mut Vec<u8>) -> usize>,
    /// Ways to cut the portable form's work; absent where there is one alone.
    pub tunable: Option<AnyTunable>,
    /// Workgroups for the bytes of a `Params`.
    pub grid: fn(&[u8]) -> [u32; 3],
    /// Whether the bytes of a `Params` and what the bindings hold keep to the contract.
    pub contract: fn(&[u8], &[contract::Held<'_>]) -> contract::Kept,
    /// The reference in f32.
    pub cpu_f32: fn(&[u8], Args<'_, f32>),
    /// The reference in f64.
    pub cpu_f64: fn(&[u8], Args<'_, f64>),
    /// How recordings store bindings where it is neither all as f32 nor all that may be as f16.
    pub stored: &'static [Halves],
    /// Faster forms.
    pub variants: fn() -> Vec<AnyVariant>,
    /// Inputs on which GPU and reference are compared.
    pub cases: fn() -> Vec<case::Case>,
}

impl Kernel {
    /// The kernel's cases, and each once more for every way in which its bindings are stored in mixed precision.
    pub fn every_case(&self) -> Vec<case::Case> {
        let all = Some(Halves::all(self.binds)).filter(|halves| halves.any());
        let mut cases = (self.cases)();
        let ways = all.iter().chain(self.stored);
        let halved: Vec<_> = ways.flat_map(|&way| cases.iter().map(move |case| case.stored(self.binds, way))).collect();
        cases.extend(halved);
        cases
    }

    /// The portable shader's constants for parameters and bindings so stored.
    pub fn portable_constants(&self, params: &[u8], halves: Halves) -> Constants {
        (self.constants)(params).into_iter().chain(halves.constants(self.binds)).collect()
    }

    /// Erases the parameter type of `K`.
    pub const fn of<K: KernelSpec>() -> Kernel {
        assert!(K::BINDS.len() <= 8, "WebGPU promises eight storage buffers a stage");
        assert!(size_of::<K::Params>() <= 128, "immediates hold at most 128 bytes");
        Kernel {
            stem: K::STEM,
            summary: K::SUMMARY,
            shader: K::SHADER,
            binds: K::BINDS,
            params_size: size_of::<K::Params>(),
            tolerance: K::TOLERANCE,
            constants: |bytes| K::constants(&bytemuck::pod_read_unaligned(bytes)),
            parts: |bytes, halves| {
                let parts = K::parts(&bytemuck::pod_read_unaligned(bytes), halves);
                parts.iter().map(|part| bytemuck::bytes_of(part).to_vec()).collect()
            },
            overwriting: match K::OVERWRITING {
                Some(_) => Some(overwriting::<K>),
                None => None,
            },
            tunable: AnyTunable::of::<K>(),
            grid: |bytes| K::grid(&bytemuck::pod_read_unaligned(bytes)),
            contract: |bytes, held| K::contract(&bytemuck::pod_read_unaligned(bytes), held),
            cpu_f32: |bytes, args| K::reference(&bytemuck::pod_read_unaligned(bytes), args),
            cpu_f64: |bytes, args| K::reference(&bytemuck::pod_read_unaligned(bytes), args),
            stored: K::STORED,
            variants: erased_variants::<K>,
            cases: K::cases,
        }
    }
}

fn overwriting<K: KernelSpec>(bytes: &mut Vec<u8>) -> usize {
    let Some(Overwriting { params, elements }) = K::OVERWRITING else { return 0 };
    let changed = params(&bytemuck::pod_read_unaligned(bytes));
    *bytes = bytemuck::bytes_of(&changed).to_vec();
    elements(&changed)
}

fn erased_variants<K: KernelSpec>() -> Vec<AnyVariant> {
    let erase = |v: &'static Variant<K::Params>| AnyVariant {
        suffix: v.suffix,
        shader: v.shader,
        constants: Box::new(|bytes| (v.constants)(&bytemuck::pod_read_unaligned(bytes))),
        grid: Box::new(|bytes| (v.grid)(&bytemuck::pod_read_unaligned(bytes))),
        fits: Box::new(|bytes, halves| (v.fits)(&bytemuck::pod_read_unaligned(bytes), halves)),
        tolerance: v.tolerance,
    };
    K::VARIANTS.iter().map(erase).collect()
}

/// Workgroups for `count` of them in a row, folded onto y where a dimension's limit of 65,535 is passed.
/// The shader gets its number back with `group_index` of `shared/index.wgsl` and must skip numbers from `count` on.
pub fn fold(count: usize) -> [u32; 3] {
    let rows = count.div_ceil(65_535).max(1);
    [count.div_ceil(rows) as u32, rows as u32, 1]
}

/// Every kernel, alphabetical.
pub static KERNELS: &[&Kernel] = &[
    &adamw::KERNEL,
    &adamw8bit::KERNEL,
    &add::KERNEL,
    &attention::KERNEL,
    &attention_backward_kv::KERNEL,
    &attention_backward_q::KERNEL,
    &attention_delta::KERNEL,
    &balance_loss::KERNEL,
    &balance_loss_backward::KERNEL,
    &cast::KERNEL,
    &copy_columns::KERNEL,
    &cross_entropy::KERNEL,
    &draw_token::KERNEL,
    &dropout::KERNEL,
    &embed::KERNEL,
    &embed_backward::KERNEL,
    &expert_bias::KERNEL,
    &expert_combine::KERNEL,
    &expert_combine_backward::KERNEL,
    &expert_count::KERNEL,
    &expert_gather::KERNEL,
    &expert_gather_backward::KERNEL,
    &expert_load::KERNEL,
    &expert_scan::KERNEL,
    &expert_scatter::KERNEL,
    &few_experts_down::KERNEL,
    &few_experts_up::KERNEL,
    &few_linear::KERNEL,
    &fill::KERNEL,
    &grad_norm::KERNEL,
    &grad_norm_finish::KERNEL,
    &history_append::KERNEL,
    &latent_append::KERNEL,
    &latent_attention::KERNEL,
    &latent_query::KERNEL,
    &latent_value::KERNEL,
    &log_probs::KERNEL,
    &loss_sum::KERNEL,
    &matmul::KERNEL,
    &matmul_experts::KERNEL,
    &matmul_experts_weight_grad::KERNEL,
    &metric_sum::KERNEL,
    &pair_loss::KERNEL,
    &policy_loss::KERNEL,
    &preference_loss::KERNEL,
    &rms_norm::KERNEL,
    &rms_norm_backward::KERNEL,
    &rms_norm_weight_grad::KERNEL,
    &rope::KERNEL,
    &router::KERNEL,
    &router_backward::KERNEL,
    &scale::KERNEL,
    &spike_guard::KERNEL,
    &sum_heads::KERNEL,
    &sum_slices::KERNEL,
    &swiglu::KERNEL,
    &swiglu_backward::KERNEL,
    &value_loss::KERNEL,
];

/// The kernel of this stem.
pub fn find(stem: &str) -> Option<&'static Kernel> {
    KERNELS.iter().copied().find(|k| k.stem == stem)
}

/// The kernel table of the README: one row a kernel, in Markdown.
pub fn table() -> String {
    let mut text = String::from("| kernel | what it does | variants |\n|---|---|---|\n");
    for kernel in KERNELS {
        let variants: Vec<&str> = (kernel.variants)().iter().map(|v| v.suffix).collect();
        let stem = kernel.stem;
        text += &format!("| [`{stem}`](shaders/{stem}.wgsl) | {} | {} |\n", kernel.summary, variants.join(", "));
    }
    text.trim_end().to_owned()
}
