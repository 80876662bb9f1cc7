//! Sums whose rounding hardly grows with their length.

use super::Real;

/// Values summed one after another, in [`LANES`] sums side by side, before halves are joined.
const BLOCK: usize = 512;
/// Independent sums, which the processor's vector unit runs at once.
const LANES: usize = 8;

/// Sum of `f` over `values`, pairwise: the same order of additions for a length, whatever the number of threads.
pub(super) fn pairwise<F: Real>(values: &[F], f: impl Fn(F) -> F + Copy) -> F {
    if values.len() > BLOCK {
        let half = (values.len() / 2).next_multiple_of(BLOCK);
        let (left, right) = values.split_at(half);
        return pairwise(left, f) + pairwise(right, f);
    }
    let mut sums = [F::zero(); LANES];
    let groups = values.chunks_exact(LANES);
    let rest = groups.remainder().iter().fold(F::zero(), |sum, &x| sum + f(x));
    for group in groups {
        for (sum, &x) in sums.iter_mut().zip(group) {
            *sum += f(x);
        }
    }
    sums.into_iter().fold(rest, |sum, x| sum + x)
}

#[cfg(test)]
mod tests {
    use super::pairwise;

    #[test]
    fn a_million_thirds_add_up_in_single_precision() {
        let values = vec![1.0f32 / 3.0; 1_000_003];
        let exact = f64::from(values[0]) * values.len() as f64;
        assert!((f64::from(pairwise(&values, |x| x)) / exact - 1.0).abs() < 1e-6);
        assert_eq!(pairwise(&[1.0f64, 2.0, 3.0], |x| x * x), 14.0);
        assert_eq!(pairwise(&[] as &[f64], |x| x), 0.0);
    }
}
