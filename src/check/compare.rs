//! A GPU's results beside the reference's: the one comparison that tests and `hadal check` use.

use crate::kernels::case::{Case, Data};
use crate::kernels::{Access, Kernel, Tolerance};

/// A result that is further from the reference than its tolerance allows.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{what}[{index}] is {found}, expected {expected}: error {error:.3e} over the allowed {allowed:.3e}")]
pub struct Mismatch {
    /// Kernel, case and binding.
    pub what: String,
    /// Position of the worst element.
    pub index: usize,
    /// The judged value there.
    pub found: f64,
    /// The reference's value there.
    pub expected: f64,
    /// Absolute error there.
    pub error: f64,
    /// The largest error that would have passed.
    pub allowed: f64,
}

/// Compares floats: every error may be `factor` times the worst error of `rounded` (the same reference in f32) plus
/// `floor` times the largest expected value. Expected zeros throughout demand exact zeros. Returns the worst share of
/// the allowed error. A result that is `stored_as_half` may also be off by the rounding of that store.
pub fn compare_reals(
    what: &str,
    found: &[f64],
    expected: &[f64],
    rounded: &[f64],
    tolerance: &Tolerance,
    stored_as_half: bool,
) -> Result<f64, Mismatch> {
    assert_eq!((found.len(), rounded.len()), (expected.len(), expected.len()), "{what}: lengths differ");
    let largest = expected.iter().fold(0.0f64, |m, &x| m.max(x.abs()));
    let own = expected.iter().zip(rounded).fold(0.0f64, |m, (&e, &r)| m.max((e - r).abs()));
    let computed = tolerance.factor * own + tolerance.floor * largest;
    let mut worst = 0.0f64;
    for (index, (&found, &expected)) in found.iter().zip(expected).enumerate() {
        let error = (found - expected).abs();
        let allowed = computed + if stored_as_half { half_rounding(expected.abs() + computed) } else { 0.0 };
        let within = error <= allowed; // false for a NaN, which compares with nothing
        if !within {
            return Err(Mismatch { what: what.to_owned(), index, found, expected, error, allowed });
        }
        worst = worst.max(if allowed > 0.0 { error / allowed } else { 0.0 });
    }
    Ok(worst)
}

/// Half the distance between the f16 numbers around `x`: eleven bits of significand, and a smallest distance.
fn half_rounding(x: f64) -> f64 {
    (x * 2f64.powi(-11)).max(2f64.powi(-25))
}

/// Compares integers, which must be equal.
pub fn compare_indices(what: &str, found: &[u32], expected: &[u32]) -> Result<(), Mismatch> {
    assert_eq!(found.len(), expected.len(), "{what}: lengths differ");
    match found.iter().zip(expected).position(|(f, e)| f != e) {
        None => Ok(()),
        Some(index) => {
            let (found, expected) = (f64::from(found[index]), f64::from(expected[index]));
            Err(Mismatch {
                what: what.to_owned(),
                index,
                found,
                expected,
                error: (found - expected).abs(),
                allowed: 0.0,
            })
        }
    }
}

/// Compares all bindings of one dispatch of a form with that tolerance. Read-only bindings must be untouched, which the
/// same rule states.
pub fn compare_dispatch(
    kernel: &Kernel,
    tolerance: &Tolerance,
    case: &Case,
    found: &[Data],
    expected: &[Data],
    rounded: &[Data],
) -> Result<f64, Mismatch> {
    let mut worst = 0.0f64;
    for (i, bind) in kernel.binds.iter().enumerate().filter(|(_, bind)| bind.access != Access::Read) {
        let what = format!("{}, {}: {}", kernel.stem, case.name, bind.name);
        match (&found[i], &expected[i], &rounded[i]) {
            (Data::Real(f), Data::Real(e), Data::Real(r)) => {
                worst = worst.max(compare_reals(&what, f, e, r, tolerance, case.halves.has(i))?);
            }
            (Data::Index(f), Data::Index(e), _) => compare_indices(&what, f, e)?,
            _ => panic!("{what}: element types differ"),
        }
    }
    Ok(worst)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_planted_error_is_reported_with_its_place() {
        let expected = [1.0, -8.0, 3.0];
        let compare = |found: [f64; 3]| compare_reals("x", &found, &expected, &expected, &Tolerance::DEFAULT, false);
        assert!(compare([1.0, -8.0, 3.0 + 7e-6]).is_ok());
        let e = compare([1.0, -8.0, 3.0 + 9e-6]).unwrap_err();
        assert_eq!((e.index, e.expected), (2, 3.0));
        assert!(compare([1.0, f64::NAN, 3.0]).is_err());
    }

    #[test]
    fn a_store_as_half_may_cost_its_rounding_and_no_more() {
        let compare = |found| compare_reals("x", &[1.0, found], &[1.0, 0.3], &[1.0, 0.3], &Tolerance::DEFAULT, true);
        assert!(compare(half::f16::from_f64(0.3).to_f64()).is_ok());
        assert!(compare(half::f16::from_f64(0.3).to_f64() + 2f64.powi(-12)).is_err());
    }

    #[test]
    fn a_reference_of_zeros_demands_exact_zeros() {
        let compare = |found| compare_reals("x", &[found], &[0.0], &[0.0], &Tolerance::DEFAULT, false);
        assert!(compare(0.0).is_ok());
        assert!(compare(1e-30).is_err());
    }

    #[test]
    fn different_integers_are_reported() {
        assert!(compare_indices("x", &[1, 2], &[1, 2]).is_ok());
        assert_eq!(compare_indices("x", &[1, 3], &[1, 2]).unwrap_err().index, 1);
    }
}
