//! Counter-based random numbers for dropout: a function of key, site and element alone, mirrored by
//! `shaders/shared/random.wgsl` bit for bit.
//!
//! The element passes two keyed rounds of one permutation. One round would not do: `mix(element ^ key)` gives any two
//! keys the same sequence in another order, and a mask of 2^31 attention weights covers the whole orbit.

/// A permutation of the 32-bit integers with strong avalanche: two multiplications between shifts.
///
/// Multipliers: the `lowbias32` search of C. Wellons, 2018 (public domain).
const fn mix(value: u32) -> u32 {
    let mut x = value ^ (value >> 16);
    x = x.wrapping_mul(0x7feb_352d);
    x ^= x >> 15;
    x = x.wrapping_mul(0x846c_a68b);
    x ^ (x >> 16)
}

/// What key and site contribute to [`random_at`]; the same for all elements, so take it out of loops.
pub const fn random_key(key0: u32, key1: u32, site: u32) -> [u32; 2] {
    [
        mix(mix(mix(site.wrapping_add(0x9e37_79b9)) ^ key0) ^ key1),
        mix(mix(mix(site.wrapping_add(0x85eb_ca6b)) ^ key1) ^ key0),
    ]
}

/// The random number of `element` under a [`random_key`].
pub const fn random_at(key: [u32; 2], element: u32) -> u32 {
    mix(mix(element ^ key[0]).wrapping_add(key[1]))
}

/// The key of one row of a matrix under a [`random_key`], for [`random_at`] with the number of a column. A matrix may
/// have more elements than there are 32-bit numbers: no two of its rows draw the same.
pub const fn random_row(key: [u32; 2], row: u32) -> [u32; 2] {
    [key[0], mix(row ^ key[1])]
}

/// A random number that depends on nothing but its arguments.
///
/// `key0`, `key1`: seed, step and micro-step; `site`: the place in the network; `element`: index in the tensor there.
pub const fn random_u32(key0: u32, key1: u32, site: u32, element: u32) -> u32 {
    random_at(random_key(key0, key1, site), element)
}

/// `floor(rate * 2^32)`: dropout at `rate` (0 to below 1) keeps an element iff its random number is at least this.
pub fn keep_threshold(rate: f32) -> u32 {
    (f64::from(rate) * 4_294_967_296.0) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_arguments_give_known_numbers() {
        // Any change here makes interrupted runs continue with other masks.
        let found = [random_u32(0, 0, 0, 0), random_u32(1, 2, 3, 4), random_u32(!0, !0, !0, !0)];
        assert_eq!(found, [1_834_629_252, 527_979_244, 2_852_226_340]);
    }

    #[test]
    fn thresholds_are_exact() {
        let found = [0.0, 0.5, 0.1, 1.0 - f32::EPSILON / 2.0].map(keep_threshold);
        assert_eq!(found, [0, 1 << 31, 429_496_736, 0xffff_ff00]);
    }

    /// How far `ones` of `n` fair draws lies from one half, in standard deviations.
    fn deviations(ones: u32, n: u32) -> f64 {
        (f64::from(ones) - f64::from(n) / 2.0).abs() / (f64::from(n).sqrt() / 2.0)
    }

    #[test]
    fn every_bit_is_fair_along_elements_sites_and_keys() {
        const N: u32 = 1 << 16;
        let along: [fn(u32) -> u32; 4] = [
            |i| random_u32(7, 8, 9, i),
            |i| random_u32(7, 8, i, 9),
            |i| random_u32(7, i, 8, 9),
            |i| random_u32(i, 7, 8, 9),
        ];
        for (which, draw) in along.iter().enumerate() {
            for bit in 0..32 {
                let ones = (0..N).map(|i| draw(i) >> bit & 1).sum();
                assert!(deviations(ones, N) < 4.5, "argument {which}, bit {bit}: {ones} ones");
            }
        }
    }

    #[test]
    fn flipping_any_input_bit_flips_every_output_bit_half_the_time() {
        const N: u32 = 1 << 14;
        for argument in 0..4 {
            for input in 0..32 {
                let mut flips = [0u32; 32];
                for i in 0..N {
                    let mut words = [i, !i, i / 3, i.wrapping_mul(5)];
                    let before = random_u32(words[0], words[1], words[2], words[3]);
                    words[argument] ^= 1 << input;
                    let changed = before ^ random_u32(words[0], words[1], words[2], words[3]);
                    for (bit, count) in flips.iter_mut().enumerate() {
                        *count += changed >> bit & 1;
                    }
                }
                let worst = flips.into_iter().map(|ones| deviations(ones, N)).fold(0.0, f64::max);
                assert!(worst < 6.0, "argument {argument}, bit {input}: {worst} deviations");
            }
        }
    }

    #[test]
    fn the_share_of_kept_elements_is_one_minus_the_rate() {
        const N: u32 = 1 << 20;
        let key = random_key(1, 2, 3);
        for rate in [0.01f32, 0.1, 0.5, 0.9] {
            let kept = (0..N).filter(|&i| random_at(key, i) >= keep_threshold(rate)).count();
            let (n, q) = (f64::from(N), 1.0 - f64::from(rate));
            let deviation = (kept as f64 - n * q).abs() / (n * q * (1.0 - q)).sqrt();
            assert!(deviation < 4.0, "rate {rate}: {kept} kept");
        }
    }

    /// Attention's probabilities of a few heads of 65,536 tokens are more than 2^32 elements.
    #[test]
    fn rows_of_a_matrix_beyond_32_bits_draw_different_masks() {
        const N: u32 = 1 << 14;
        let key = random_key(5, 6, 7);
        let length = 1 << 16;
        // The same query of the next head, the next query, the same place 2^32 elements further on.
        for (row, other) in [(3, 3 + length), (3, 4), (0, length), (length - 1, 16 * length - 1)] {
            let (a, b) = (random_row(key, row), random_row(key, other));
            let differ = (0..N).map(|i| (random_at(a, i) ^ random_at(b, i)) >> 31).sum();
            assert!(deviations(differ, N) < 4.0, "rows {row} and {other}: {differ} of {N} differ");
        }
        // Every bit is fair along a row and down a column.
        for bit in 0..32 {
            let along = (0..N).map(|i| random_at(random_row(key, 9), i) >> bit & 1).sum();
            let down = (0..N).map(|i| random_at(random_row(key, i), 9) >> bit & 1).sum();
            assert!(deviations(along, N) < 4.5 && deviations(down, N) < 4.5, "bit {bit}: {along} {down}");
        }
    }

    #[test]
    fn two_sites_agree_no_more_often_than_chance() {
        const N: u32 = 1 << 16;
        let (a, b) = (random_key(5, 6, 0), random_key(5, 6, 1));
        // Neighbours in the sequence and equal elements of neighbouring sites: both would show as structure in masks.
        let same_site = (0..N).map(|i| (random_at(a, i) ^ random_at(a, i + 1)) >> 31).sum();
        let across = (0..N).map(|i| (random_at(a, i) ^ random_at(b, i)) >> 31).sum();
        assert!(deviations(same_site, N) < 4.0 && deviations(across, N) < 4.0, "{same_site} {across}");
    }
}
