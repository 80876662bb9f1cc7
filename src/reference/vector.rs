//! Loops over slices in a form that compilers turn into vector instructions: eight independent lanes, one fixed order
//! of summation, whatever the machine.

use super::Real;

const LANES: usize = 8;

/// The sum of products of two slices of equal length.
pub fn dot<F: Real>(a: &[F], b: &[F]) -> F {
    assert_eq!(a.len(), b.len(), "dot: lengths differ");
    let mut lanes = [F::zero(); LANES];
    let (a_chunks, b_chunks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest = a_chunks.remainder().iter().zip(b_chunks.remainder());
    for (a, b) in a_chunks.zip(b_chunks) {
        for ((lane, &a), &b) in lanes.iter_mut().zip(a).zip(b) {
            *lane += a * b;
        }
    }
    rest.fold(lanes.iter().fold(F::zero(), |s, &v| s + v), |s, (&a, &b)| s + a * b)
}

/// Replaces every x by `exp(x)` of the standard library.
pub(super) fn exp_f64(values: &mut [f64]) {
    values.iter_mut().for_each(|x| *x = x.exp());
}

/// Replaces every x by `exp(x)`, within two units in the last place, several at a time. Below -87 it stays at
/// `exp(-87)`, but that of minus infinity is 0.
///
/// `exp(x) = 2^n exp(r)` with n the integer nearest to x / ln 2, hence |r| <= ln(2) / 2, where eight terms of the
/// series leave 5e-9. Adding and taking away 1.5 * 2^23 rounds to an integer and leaves n in the low bits of the sum.
pub(super) fn exp_f32(values: &mut [f32]) {
    const ROUND: f32 = 12_582_912.0;
    // ln 2 in two parts: n times the first is exact, so r keeps all of its bits.
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    for x in values {
        let bounded = x.clamp(-87.0, 88.0); // clamp, unlike min and max, keeps NaN
        let shifted = bounded * std::f32::consts::LOG2_E + ROUND;
        let n = shifted - ROUND;
        let r = bounded - n * LN_2_HIGH - n * LN_2_LOW;
        let mut series = 1.0 / 5040.0;
        for coefficient in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
            series = series * r + coefficient;
        }
        let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(0x3f80_0000));
        *x = if *x == f32::NEG_INFINITY { 0.0 } else { series * power };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vectorised_exponential_is_within_two_units_in_the_last_place() {
        let arguments: Vec<f32> = (-870_000..880_000).map(|i| i as f32 * 1e-4).collect();
        let mut found = arguments.clone();
        exp_f32(&mut found);
        for (x, y) in arguments.iter().zip(&found) {
            let exact = f64::from(*x).exp();
            let error = (f64::from(*y) - exact).abs() / exact;
            assert!(error <= 2.0 * f64::from(f32::EPSILON), "exp({x}) = {y}: {error}");
        }
    }

    #[test]
    fn the_exponential_keeps_nan_and_never_overflows() {
        let mut values = [f32::NAN, f32::NEG_INFINITY, 1e9, 0.0];
        exp_f32(&mut values);
        assert!(values[0].is_nan() && values[2].is_finite());
        assert_eq!([values[1], values[3]], [0.0, 1.0]);
    }

    #[test]
    fn lanes_and_remainder_both_count() {
        let values: Vec<f64> = (1..=19).map(f64::from).collect();
        assert_eq!(dot(&values, &values), 2470.0);
    }
}
