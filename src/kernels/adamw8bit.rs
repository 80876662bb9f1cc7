//! One AdamW update of one parameter whose moments are 8-bit codes.

use super::{
    Args, Bind, Constants, Kernel, KernelSpec,
    case::{Case, indices, uniform},
    fold, read, read_u32, state, update, update_u32,
};
use crate::reference::adamw8bit::{LARGEST_BLOCK, maps};
use crate::reference::{self, Real};
use bytemuck::{Pod, Zeroable};

/// Parameters of fewer elements keep moments of 32 bits: they are cheap, and norms are among them.
pub const SMALLEST: usize = 4096;
/// Invocations of a workgroup; `THREADS` of the shader.
const THREADS: u32 = 256;

/// Immediates of a dispatch. What changes from step to step is in `state`, so that a recording can be replayed.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Params {
    /// Number of elements.
    pub count: u32,
    /// Elements that share a factor: a multiple of 4, at most 2048.
    pub block: u32,
    /// Decay of the mean of gradients.
    pub beta1: f32,
    /// Decay of the mean of squared gradients.
    pub beta2: f32,
    /// Added to the root of the mean square, after its bias correction.
    pub epsilon: f32,
    /// Share of the parameter, times the learning rate, that a step takes away.
    pub weight_decay: f32,
    /// 1: the parameter also goes to `copy`.
    pub copied: u32,
    /// 1: the gradient becomes zeros; 0: it stays, for a micro-step that overwrites it.
    pub zeroed: u32,
    /// 0, which the shader's compiler must not know.
    pub zero: u32,
}

/// Whether blocks may have this many elements.
pub fn is_block(elements: usize) -> bool {
    elements > 0 && elements.is_multiple_of(4) && elements <= LARGEST_BLOCK
}

/// Invocations of a block: a power of two, for the sake of the largest element.
fn lanes(p: &Params) -> u32 {
    (p.block / 4).next_power_of_two().min(THREADS)
}

/// The row of the kernel table.
pub static KERNEL: Kernel = Kernel::of::<Spec>();

struct Spec;

impl KernelSpec for Spec {
    type Params = Params;
    const STEM: &'static str = "adamw8bit";
    const SUMMARY: &'static str = "AdamW update with moments of 8 bits, which zeroes the gradient where it is added to";
    const SHADER: &'static str = include_str!("../../shaders/adamw8bit.wgsl");
    const BINDS: &'static [Bind] = &[
        read_u32("state"),
        read("result"),
        read("maps"),
        update("parameter"),
        update("gradient"),
        update_u32("codes"),
        update("absmax"),
        update("copy").or_half("HALF_COPY"),
    ];

    fn constants(p: &Params) -> Constants {
        let items = (p.block / 4).div_ceil(lanes(p));
        let whole = p.count.is_multiple_of(4);
        vec![("LANES", i64::from(lanes(p))), ("ITEMS", i64::from(items)), ("VEC4", i64::from(whole))]
    }

    fn grid(p: &Params) -> [u32; 3] {
        fold(p.count.div_ceil(p.block).div_ceil(THREADS / lanes(p)) as usize)
    }

    fn reference<F: Real>(p: &Params, args: Args<'_, F>) {
        let [state, result, maps, parameter, gradient, codes, absmax, copy] = args.all();
        let read = [result.real(), maps.real()];
        let written = [parameter.real_mut(), gradient.real_mut(), copy.real_mut()];
        let moments = (codes.index_mut(), absmax.real_mut());
        reference::adamw8bit::adamw8bit(p, state.index(), read, written, moments);
    }

    fn cases() -> Vec<Case> {
        let [beta1, beta2, epsilon, weight_decay] = [0.75, 0.875, 0.125, 0.25];
        let p = Params { count: 1, block: 4, beta1, beta2, epsilon, weight_decay, copied: 1, zeroed: 1, zero: 0 };
        let [beta1, beta2, epsilon, weight_decay] = [0.9, 0.95, 1e-8, 0.1];
        let usual =
            Params { count: 4096, block: 256, beta1, beta2, epsilon, weight_decay, copied: 1, zeroed: 1, zero: 0 };
        vec![
            case("one element", p, 0.5, [0.25, 1.0], 1.0),
            case("clipped, with decay", Params { count: 1021, block: 12, ..p }, 0.25, [0.125, 1.0], 1.0),
            case("usual numbers", usual, 0.01, [1.0, 1.0], 1.0),
            case("large blocks", Params { count: 5000, block: 2048, ..usual }, 0.01, [0.75, 1.0], 1.0),
            case("blocks of 1100 elements", Params { count: 2203, block: 1100, ..usual }, 0.01, [0.75, 1.0], 1.0),
            case("without decay", Params { count: 300, weight_decay: 0.0, copied: 0, ..usual }, 0.1, [0.5, 1.0], 1.0),
            case("at the end of the numbers", Params { count: 512, block: 64, ..usual }, 0.1, [1.0, 1e-18], 1.0),
            case("not finite", Params { count: 516, ..p }, 0.5, [0.25, 1.0], 0.0),
            case("gradient kept", Params { count: 1021, block: 12, zeroed: 0, ..p }, 0.25, [0.125, 1.0], 1.0),
            case("not finite, gradient kept", Params { count: 516, zeroed: 0, ..p }, 0.5, [0.25, 1.0], 0.0),
        ]
    }
}

/// The third update of moments that exist; `result` says `clip` and whether the gradient is `finite`. Gradients are of
/// the size `scale` and less: their fourth powers spread over all decades of the maps. Some are 0, and one block in
/// three has no moments yet.
fn case(name: &str, p: Params, learning_rate: f32, [clip, scale]: [f64; 2], finite: f64) -> Case {
    let (n, block) = (p.count as usize, p.block as usize);
    let mut words = vec![0; state::STATE_WORDS];
    words[state::STATE_LEARNING_RATE] = learning_rate.to_bits();
    let mut result = vec![0.0; state::RESULT_WORDS];
    (result[state::RESULT_CLIP], result[state::RESULT_FINITE]) = (clip, finite);
    result[state::RESULT_CORRECTION1] = f64::from(1.0 - p.beta1.powi(3));
    result[state::RESULT_CORRECTION2] = f64::from(1.0 - p.beta2.powi(3));
    let spread = |x: f64| if x > 0.9 { 0.0 } else { scale * x.powi(3) * x.abs() };
    let factors = uniform(3, n.div_ceil(block) * 2).into_iter().enumerate().map(|(i, x)| match (i / 2 % 3, i % 2) {
        (1, _) => 0.0,
        (_, 0) => scale * x.abs(),
        _ => scale * scale * x.abs(),
    });
    // Where epsilon is small, so are no codes of v: a step of m / epsilon would leave the range of f16.
    let least = [0, if p.epsilon < 0.1 { 0x4040_4040 } else { 0 }];
    let codes = indices(4, n.div_ceil(4) * 2, u32::MAX).into_iter().zip(least.into_iter().cycle());
    let codes = codes.map(|(code, least)| code | least).collect();
    Case::new(name, &p)
        .index(words)
        .real(result)
        .real(maps().into_iter().map(f64::from).collect())
        .uniform(1, n)
        .real(uniform(2, n).into_iter().map(spread).collect())
        .index(codes)
        .real(factors.collect())
        .uniform(5, n)
}
