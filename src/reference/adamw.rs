//! AdamW: Adam with decoupled weight decay.

use super::{CHUNK, Real};
use crate::kernels::adamw::Params;
use crate::kernels::state::{RESULT_CLIP, RESULT_CORRECTION1, RESULT_CORRECTION2, RESULT_FINITE, STATE_LEARNING_RATE};
use rayon::prelude::*;

/// Updates a parameter and its moments `[m, v]`, and with `zeroed` 1 zeroes its gradient.
///
/// With g = gradient * clip, r the learning rate and c1, c2 the corrections `1 - beta^t`:
/// `m = beta1 m + (1 - beta1) g`, `v = beta2 v + (1 - beta2) g^2`,
/// `parameter -= r weight_decay parameter + (r / c1) m / (sqrt(v) / sqrt(c2) + epsilon)`.
/// The decay and the step are subtracted at once: to the parameter they are small, and `1 - r weight_decay` would lose
/// digits of the decay in f32. With `copied` 1 the parameter also goes to `copy`. If `result` says that the gradient is
/// not finite, nothing else changes.
///
/// Shapes: state and result (8), all others (count). Source: Loshchilov and Hutter 2019.
pub fn adamw<F: Real>(
    p: &Params,
    state: &[u32],
    result: &[F],
    parameter: &mut [F],
    gradient: &mut [F],
    moments: [&mut [F]; 2],
    copy: &mut [F],
) {
    let n = p.count as usize;
    if result[RESULT_FINITE] != F::one() {
        if p.zeroed == 1 {
            gradient[..n].fill(F::zero());
        }
        return;
    }
    let [m, v] = moments;
    let of = |x: f32| F::of(f64::from(x));
    let (one, clip, rate) =
        (F::one(), result[RESULT_CLIP], F::of(f64::from(f32::from_bits(state[STATE_LEARNING_RATE]))));
    let (beta1, beta2, epsilon) = (of(p.beta1), of(p.beta2), of(p.epsilon));
    let (fade1, fade2) = (one - beta1, one - beta2);
    let decay = rate * of(p.weight_decay);
    let step = rate / result[RESULT_CORRECTION1];
    let scale = result[RESULT_CORRECTION2].sqrt().recip();
    let parameters = parameter[..n].par_chunks_mut(CHUNK).zip(gradient.par_chunks_mut(CHUNK));
    let moments = m.par_chunks_mut(CHUNK).zip(v.par_chunks_mut(CHUNK));
    parameters.zip(moments).for_each(|((parameter, gradient), (m, v))| {
        for (((x, d), m), v) in parameter.iter_mut().zip(&*gradient).zip(m).zip(v) {
            let g = *d * clip;
            *m = beta1 * *m + fade1 * g;
            *v = beta2 * *v + fade2 * g * g;
            *x -= decay * *x + step * *m / (v.sqrt() * scale + epsilon);
        }
        if p.zeroed == 1 {
            gradient.fill(F::zero());
        }
    });
    if p.copied == 1 {
        copy[..n].copy_from_slice(&parameter[..n]);
    }
}
