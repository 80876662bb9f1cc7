//! What repeated samples say.

use serde::Serialize;

/// Time of repeated samples.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Seconds {
    /// The middle sample.
    pub median: f64,
    /// The fastest.
    pub fastest: f64,
    /// The slowest.
    pub slowest: f64,
    /// Number of samples.
    pub samples: usize,
}

impl Seconds {
    /// Of `samples` in any order; panics if there are none.
    pub fn of(samples: Vec<f64>) -> Self {
        let (median, [fastest, slowest], samples) = spread(samples);
        Seconds { median, fastest, slowest, samples }
    }
}

/// A ratio of pairs of samples that were taken one after the other.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Ratio {
    /// The middle one.
    pub median: f64,
    /// The lowest.
    pub lowest: f64,
    /// The highest: where 1 lies between the two, the samples show no difference.
    pub highest: f64,
    /// Number of pairs.
    pub pairs: usize,
}

impl Ratio {
    /// Of the `ratios` of all pairs in any order; panics if there are none.
    pub fn of(ratios: Vec<f64>) -> Self {
        let (median, [lowest, highest], pairs) = spread(ratios);
        Ratio { median, lowest, highest, pairs }
    }
}

/// Median (the mean of the middle two of an even number), extremes and number of `values`.
fn spread(mut values: Vec<f64>) -> (f64, [f64; 2], usize) {
    values.sort_by(f64::total_cmp);
    let n = values.len();
    ((values[n / 2] + values[(n - 1) / 2]) / 2.0, [values[0], values[n - 1]], n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_of_any_order() {
        let s = Seconds::of(vec![3.0, 1.0, 2.0]);
        assert_eq!((s.fastest, s.median, s.slowest, s.samples), (1.0, 2.0, 3.0, 3));
        let r = Ratio::of(vec![4.0, 1.0, 8.0, 2.0]);
        assert_eq!((r.lowest, r.median, r.highest, r.pairs), (1.0, 3.0, 8.0, 4));
    }
}
