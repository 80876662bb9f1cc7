//! What a measurement found, as a line of text and as JSON.

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
    pub fn of(mut samples: Vec<f64>) -> Self {
        samples.sort_by(f64::total_cmp);
        let n = samples.len();
        Seconds { median: samples[n / 2], fastest: samples[0], slowest: samples[n - 1], samples: n }
    }
}

#[cfg(test)]
mod tests {
    use super::Seconds;

    #[test]
    fn the_median_is_the_middle_of_any_order() {
        let s = Seconds::of(vec![3.0, 1.0, 2.0]);
        assert_eq!((s.fastest, s.median, s.slowest, s.samples), (1.0, 2.0, 3.0, 3));
    }
}
