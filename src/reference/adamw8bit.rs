//! AdamW whose moments are kept as 8-bit codes, with one factor a block of elements.

use super::Real;
use crate::kernels::adamw8bit::Params;
use crate::kernels::state::{RESULT_CLIP, RESULT_CORRECTION1, RESULT_CORRECTION2, RESULT_FINITE, STATE_LEARNING_RATE};
use rayon::prelude::*;

/// Values of a code of m, then of a code of v.
pub const MAP_VALUES: usize = 512;
/// Largest number of elements that share a factor.
pub const LARGEST_BLOCK: usize = 2048;
/// Code of zero in the map of m; in that of v it is 0.
const ZERO_M: usize = 127;
/// Blocks of a task.
const BLOCKS: usize = 16;

/// The two maps from codes to values between -1 and 1, each ascending.
///
/// Seven decades, from 1e-7 to 1, of which each holds twice as many values as the one below, evenly spaced: the middles
/// of the equal parts of its upper nine tenths. The map of m has them with both signs, that of v twice as many; both
/// also have 0 and 1. Shape: (2, 256). Source: Dettmers et al. 2022, dynamic tree quantisation.
pub fn maps() -> [f32; MAP_VALUES] {
    let decade = |exponent: u32, parts: u32| {
        let middle = move |i: u32| 0.1 + 0.9 * (2 * i + 1) as f64 / (2 * parts) as f64;
        (0..parts).map(move |i| (middle(i) * 10f64.powi(exponent as i32 - 6)) as f32)
    };
    let mut all = Vec::with_capacity(MAP_VALUES);
    let above: Vec<f32> = (0..7).flat_map(|i| decade(i, 1 << i)).collect();
    all.extend(above.iter().rev().map(|x| -x));
    all.push(0.0);
    all.extend(&above);
    all.extend([1.0, 0.0]);
    all.extend((0..7).flat_map(|i| decade(i, 2 << i)));
    all.push(1.0);
    let mut maps = [0.0; MAP_VALUES];
    maps.copy_from_slice(&all);
    maps
}

/// The maps with what lies halfway between their entries.
struct Codec {
    values: [f32; MAP_VALUES],
    bounds: [f32; MAP_VALUES],
}

impl Codec {
    fn new<F: Real>(maps: &[F]) -> Self {
        let mut codec = Codec { values: [0.0; MAP_VALUES], bounds: [0.0; MAP_VALUES] };
        for (value, map) in codec.values.iter_mut().zip(maps) {
            *value = map.wide() as f32;
        }
        for (bounds, values) in codec.bounds.chunks_mut(256).zip(codec.values.chunks(256)) {
            for (bound, pair) in bounds.iter_mut().zip(values.windows(2)) {
                *bound = 0.5 * (pair[0] + pair[1]);
            }
        }
        codec
    }

    /// The number of bounds of a map, times `absmax`, that lie below `x`.
    fn nearest(&self, x: f32, first: usize, absmax: f32) -> usize {
        self.bounds[first..first + 255].partition_point(|bound| bound * absmax < x)
    }

    fn encode_m(&self, x: f32, absmax: f32) -> u32 {
        let code = match x {
            x if x < 0.0 => self.nearest(x, 0, absmax).min(ZERO_M - 1),
            x if x > 0.0 => self.nearest(x, 0, absmax).max(ZERO_M + 1),
            _ => ZERO_M,
        };
        code as u32
    }

    fn encode_v(&self, x: f32, absmax: f32) -> u32 {
        if x > 0.0 { self.nearest(x, 256, absmax).max(1) as u32 } else { 0 }
    }
}

/// `x`, or zero below 2^-125: a device may make zero of a number below 2^-126, or of one that rounds to it.
fn exact(x: f32) -> f32 {
    if x.to_bits() & 0x7f00_0000 == 0 { 0.0 } else { x }
}

/// Updates a parameter and its moments (`codes`, `absmax`), and zeroes its gradient.
///
/// The formula is that of [`adamw`](super::adamw::adamw). A moment is `map[code] * absmax` of its block. The update
/// takes the fresh one, in f32, before it becomes a code again: absmax becomes the largest |x| of the block, the code
/// that of the entry nearest to `x / absmax`, of two the lower. A moment other than zero keeps its sign, by the nearest
/// code that has it: m would lose its direction, and a v of zero would let the step grow to `m / epsilon`.
///
/// Every number behind a code is computed in f32, whatever `F` is, in the order that the shader has, so that codes have
/// equal bits everywhere. With `copied` 1 the parameter also goes to `copy`. If `result` says that the gradient is not
/// finite, no update is made. With `zeroed` 1 the gradient becomes zeros.
///
/// Shapes: state and result (8), maps (2, 256), parameter, gradient and copy (count), codes (ceil(count / 4), 2): four
/// of m and four of v, the first in the lowest byte; absmax (ceil(count / block), 2): of m and of v.
/// Source: Dettmers et al. 2022.
pub fn adamw8bit<F: Real>(
    p: &Params,
    state: &[u32],
    [result, maps]: [&[F]; 2],
    [parameter, gradient, copy]: [&mut [F]; 3],
    (codes, absmax): (&mut [u32], &mut [F]),
) {
    let (n, block) = (p.count as usize, p.block as usize);
    if result[RESULT_FINITE] != F::one() {
        if p.zeroed == 1 {
            gradient[..n].fill(F::zero());
        }
        return;
    }
    let codec = Codec::new(maps);
    let update = Update::new(p, state, result);
    let numbers = parameter[..n].par_chunks_mut(block).zip(gradient.par_chunks_mut(block));
    let moments = codes.par_chunks_mut(block / 2).zip(absmax.par_chunks_mut(2));
    numbers.zip(moments).with_min_len(BLOCKS).for_each(|((parameter, gradient), (codes, absmax))| {
        let (mut m, mut v) = ([0f32; LARGEST_BLOCK], [0f32; LARGEST_BLOCK]);
        let old = [absmax[0].wide() as f32, absmax[1].wide() as f32];
        for (i, (x, d)) in parameter.iter_mut().zip(&*gradient).enumerate() {
            let code = |of: usize| (codes[i / 4 * 2 + of] >> (i % 4 * 8) & 255) as usize;
            let mean = exact(codec.values[code(0)] * old[0]);
            let square = exact(codec.values[256 + code(1)] * old[1]);
            (m[i], v[i]) = update.moments(mean, square, d.wide() as f32);
            *x = update.parameter(*x, F::of(f64::from(m[i])), F::of(f64::from(v[i])));
        }
        if p.zeroed == 1 {
            gradient.fill(F::zero());
        }
        let most = [m, v].map(|x| x.iter().fold(0f32, |most, x| most.max(x.abs())));
        (absmax[0], absmax[1]) = (F::of(f64::from(most[0])), F::of(f64::from(most[1])));
        for (i, word) in codes.as_chunks_mut::<2>().0.iter_mut().enumerate() {
            let pack = |code: &dyn Fn(usize) -> u32| (0..4).fold(0, |word, e| word | code(4 * i + e) << (8 * e));
            *word = [pack(&|i| codec.encode_m(m[i], most[0])), pack(&|i| codec.encode_v(v[i], most[1]))];
        }
    });
    if p.copied == 1 {
        copy[..n].copy_from_slice(&parameter[..n]);
    }
}

/// The numbers of a step that are the same for all elements.
struct Update<F> {
    beta: [f32; 2],
    fade: [f32; 2],
    clip: f32,
    decay: F,
    step: F,
    scale: F,
    epsilon: F,
}

impl<F: Real> Update<F> {
    fn new(p: &Params, state: &[u32], result: &[F]) -> Self {
        let of = |x: f32| F::of(f64::from(x));
        let rate = of(f32::from_bits(state[STATE_LEARNING_RATE]));
        Update {
            beta: [p.beta1, p.beta2],
            fade: [p.beta1, p.beta2].map(|beta| exact(1.0 - beta)),
            clip: result[RESULT_CLIP].wide() as f32,
            decay: rate * of(p.weight_decay),
            step: rate / result[RESULT_CORRECTION1],
            scale: result[RESULT_CORRECTION2].sqrt().recip(),
            epsilon: of(p.epsilon),
        }
    }

    /// The fresh m and v.
    fn moments(&self, m: f32, v: f32, gradient: f32) -> (f32, f32) {
        let g = exact(gradient * self.clip);
        let mean = exact(exact(self.beta[0] * m) + exact(self.fade[0] * g));
        let square = exact(exact(self.beta[1] * v) + exact(exact(self.fade[1] * g) * g));
        (mean, square)
    }

    fn parameter(&self, x: F, m: F, v: F) -> F {
        x - (self.decay * x + self.step * m / (v.sqrt() * self.scale + self.epsilon))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_maps_have_the_published_entries() {
        let maps = maps();
        let (signed, unsigned) = maps.split_at(256);
        assert_eq!(
            [signed[0], signed[127], signed[128], signed[254], signed[255]],
            [-0.99296875, 0.0, 5.5e-7, 0.99296875, 1.0]
        );
        assert_eq!([unsigned[0], unsigned[1], unsigned[254], unsigned[255]], [0.0, 3.25e-7, 0.996_484_4, 1.0]);
        assert!(signed.is_sorted_by(|a, b| a < b) && unsigned.is_sorted_by(|a, b| a < b));
        let mirrored = (1..=127).all(|i| signed[127 - i] == -signed[127 + i]);
        assert!(mirrored, "-1 alone has no mirror");
    }

    #[test]
    fn every_code_comes_back_at_every_size_of_the_factor() {
        let codec = Codec::new::<f32>(&maps());
        for exponent in -90..=120 {
            for digits in [1.0, 1.234_567_9, 1.999_999_9] {
                let absmax = digits * 2f32.powi(exponent);
                for code in 0..256 {
                    let m = codec.encode_m(exact(codec.values[code] * absmax), absmax);
                    let v = codec.encode_v(exact(codec.values[256 + code] * absmax), absmax);
                    assert_eq!((m, v), (code as u32, code as u32), "{absmax}");
                }
            }
        }
    }

    #[test]
    fn codes_are_nearest_and_keep_their_sign() {
        let codec = Codec::new::<f32>(&maps());
        let absmax = 0.37;
        let numbers = crate::kernels::case::uniform(1, 5000).into_iter().map(|x| (absmax * x.powi(5)) as f32);
        for x in numbers.filter(|x| x.abs() > 1e-6) {
            for (first, x) in [(0, x), (256, x.abs())] {
                let distance =
                    |code: u32| (f64::from(codec.values[first + code as usize]) * absmax - f64::from(x)).abs();
                let code = if first == 0 { codec.encode_m(x, 0.37) } else { codec.encode_v(x, 0.37) };
                let best = (0..256).map(distance).fold(f64::MAX, f64::min);
                assert!(distance(code) <= best + 1e-7, "{x}"); // the rounding of a bound's product
            }
        }
        let tiny = 1e-12;
        assert_eq!([codec.encode_m(tiny, 1.0), codec.encode_m(-tiny, 1.0), codec.encode_v(tiny, 1.0)], [128, 126, 1]);
        assert_eq!([codec.encode_m(0.0, 0.0), codec.encode_m(0.0, 1.0)], [127, 127]);
        assert_eq!([codec.encode_v(0.0, 0.0), codec.encode_v(0.0, 1.0)], [0, 0]);
    }
}
