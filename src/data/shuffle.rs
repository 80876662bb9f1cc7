//! A seeded order of n things as a pure function of the place: to resume needs no list, only a counter.

/// What stands at place `index` of the order of 0..`n` that belongs to `seed` and `epoch`.
///
/// A Feistel network of four rounds permutes the numbers of an even count of bits; those that fall outside 0..`n` are
/// permuted again until they fall inside ("cycle walking"), at most four times on average.
///
/// # Panics
/// If `index` is not below `n`.
pub fn permuted(index: u64, n: u64, seed: u64, epoch: u64) -> u64 {
    assert!(index < n, "place {index} of {n}");
    let half = (u64::BITS - (n - 1).leading_zeros()).div_ceil(2).max(1);
    let mask = (1u64 << half) - 1;
    let key = mix(seed ^ mix(epoch));
    let mut at = index;
    loop {
        let (mut left, mut right) = (at >> half, at & mask);
        for round in 0..4 {
            (left, right) = (right, left ^ (mix(right ^ key.rotate_left(16 * round)) & mask));
        }
        at = left << half | right;
        if at < n {
            return at;
        }
    }
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood 2014): every bit of the result depends on every bit of `x`.
pub fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_order_names_each_thing_once() {
        for n in [1, 2, 3, 5, 16, 17, 100, 1000] {
            let mut seen: Vec<u64> = (0..n).map(|i| permuted(i, n, 7, 0)).collect();
            seen.sort_unstable();
            assert_eq!(seen, (0..n).collect::<Vec<_>>());
        }
    }

    #[test]
    fn epochs_and_seeds_differ_and_the_order_is_no_drift() {
        let order = |seed, epoch| (0..1000).map(|i| permuted(i, 1000, seed, epoch)).collect::<Vec<_>>();
        assert_eq!(order(1, 0), order(1, 0));
        assert_ne!(order(1, 0), order(1, 1));
        assert_ne!(order(1, 0), order(2, 0));
        let fixed = order(1, 0).iter().enumerate().filter(|(i, x)| *i as u64 == **x).count();
        assert!(fixed < 10, "{fixed} of 1000 stay");
        let rising = order(1, 0).windows(2).filter(|w| w[0] < w[1]).count();
        assert!((400..600).contains(&rising), "{rising} of 999 steps rise");
    }
}
