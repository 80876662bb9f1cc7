//! `y = x * Z`, Z = 0 or `1 / (1 - rate)`.

use super::{
    CHUNK, Real,
    random::{keep_threshold, random_at, random_key},
};
use crate::kernels::dropout::Params;
use crate::kernels::state::{STATE_KEY0, STATE_KEY1};
use rayon::prelude::*;

/// Zeroes each element with probability `rate` and scales the others so that the mean stays.
///
/// The mask depends on the key in `state`, the site and the index of the element. Applied to the gradient of y it gives
/// the gradient of x. Shapes: x, y (count). Source: Srivastava et al. 2014, in its inverted form.
pub fn dropout<F: Real>(p: &Params, x: &[F], state: &[u32], y: &mut [F]) {
    let key = random_key(state[STATE_KEY0], state[STATE_KEY1], p.site);
    let threshold = keep_threshold(p.rate);
    let scale = (F::one() - F::of(f64::from(p.rate))).recip();
    let y = &mut y[..p.count as usize];
    y.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).enumerate().for_each(|(chunk, (y, x))| {
        let first = (chunk * CHUNK) as u32;
        for ((y, &x), i) in y.iter_mut().zip(x).zip(first..) {
            *y = if random_at(key, i) >= threshold { x * scale } else { F::zero() };
        }
    });
}
