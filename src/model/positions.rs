//! Rotary positions: frequencies, the table of cosines and sines, and the scale of the attention scores.
//!
//! Pair i of the dr rotated columns turns by `position * theta_i`. Letters: b `rope_theta`, f `factor`, T0
//! `original_max_position_embeddings`, Tm `max_position_embeddings`, T the length of the sequence.
//!
//! | type | theta_i, i from 0 to dr / 2 |
//! |---|---|
//! | default | `b^(-2 i / dr)` |
//! | linear | `b^(-2 i / dr) / f` |
//! | ntk | default, of the base `b f^(dr / (dr - 2))` |
//! | dynamic | default, of the base `b (f T / Tm - f + 1)^(dr / (dr - 2))` where T > Tm |
//! | yarn | `(1 - g_i) t_i + g_i t_i / f`, where `t_i = b^(-2 i / dr)` |
//!
//! YaRN's `g_i = clamp((i - lo) / (hi - lo), 0, 1)` with `cd(n) = dr ln(T0 / (2 pi n)) / (2 ln b)`, the pair that turns
//! n times within T0, `lo = max(floor(cd(beta_fast)), 0)` and `hi = min(ceil(cd(beta_slow)), dr - 1)`; hi grows by
//! 0.001 where both are equal. With `mu(k) = 0.1 k ln f + 1` it multiplies cosines and sines by
//! `mu(mscale) / mu(mscale_all_dim)` if neither is absent or 0, else by `mu(1)`, or by `attention_factor` if that is
//! given; and the scores' scale `1 / sqrt(dn + dr)` by `mu(mscale_all_dim)^2` if that is neither absent nor 0.
//!
//! The variant `seed_literal` has `t_i = dr / b^(2 i)`, factors of `mu(1)` and of 1.

use crate::config::model::ModelConfig;
use crate::config::rope::{RopeScaling, RopeType};
use std::f64::consts::PI;

/// Angle per position of each rotated pair in a sequence of `length` positions. (dr / 2)
pub fn frequencies(config: &ModelConfig, length: usize) -> Vec<f64> {
    let (scaling, width) = (&config.rope_scaling, config.qk_rope_head_dim as f64);
    let (factor, base) = (scaling.factor.unwrap_or(1.0), base(config, length));
    let plain = |i: usize| base.powf(-2.0 * i as f64 / width);
    let theta = |i: usize| match scaling.kind {
        RopeType::Linear => plain(i) / factor,
        RopeType::Yarn => {
            let own = if scaling.is_seed_literal() { width / base.powf(2.0 * i as f64) } else { plain(i) };
            let blend = blend(scaling, base, width, i);
            (1.0 - blend) * own + blend * own / factor
        }
        _ => plain(i),
    };
    (0..config.qk_rope_head_dim / 2).map(theta).collect()
}

/// The base in a sequence of `length` positions.
pub fn base(config: &ModelConfig, length: usize) -> f64 {
    let (scaling, width) = (&config.rope_scaling, config.qk_rope_head_dim as f64);
    let (factor, limit) = (scaling.factor.unwrap_or(1.0), config.max_position_embeddings);
    let larger = |by: f64| config.rope_theta * by.powf(width / (width - 2.0));
    match scaling.kind {
        RopeType::Ntk => larger(factor),
        RopeType::Dynamic if length > limit => larger(factor * length as f64 / limit as f64 - (factor - 1.0)),
        _ => config.rope_theta,
    }
}

/// Which share of pair `i` YaRN divides by the factor.
fn blend(scaling: &RopeScaling, base: f64, width: f64, i: usize) -> f64 {
    let original = scaling.original_max_position_embeddings.unwrap_or(1) as f64;
    let pair = |turns: f64| width * (original / (2.0 * PI * turns)).ln() / (2.0 * base.ln());
    let (mut low, mut high) = (pair(scaling.fast()), pair(scaling.slow()));
    if scaling.truncate.unwrap_or(true) {
        (low, high) = (low.floor(), high.ceil());
    }
    (low, high) = (low.max(0.0), high.min(width - 1.0));
    if low == high {
        high += 0.001;
    }
    ((i as f64 - low) / (high - low)).clamp(0.0, 1.0)
}

/// `mu(k)`; 1 for a factor of 1.
fn growth(scaling: &RopeScaling, k: f64) -> f64 {
    0.1 * k * scaling.factor.unwrap_or(1.0).ln() + 1.0
}

/// A key that counts unless it is 0.
fn nonzero(key: Option<f64>) -> Option<f64> {
    key.filter(|k| *k != 0.0)
}

/// What cosines and sines are multiplied by.
pub fn magnitude(config: &ModelConfig) -> f64 {
    let scaling = &config.rope_scaling;
    if scaling.kind != RopeType::Yarn {
        return 1.0;
    }
    scaling.attention_factor.unwrap_or_else(|| match (nonzero(scaling.mscale), nonzero(scaling.mscale_all_dim)) {
        (Some(own), Some(all)) => growth(scaling, own) / growth(scaling, all),
        _ => growth(scaling, 1.0),
    })
}

/// What products of queries and keys are multiplied by before the softmax.
pub fn score_scale(config: &ModelConfig) -> f64 {
    let grown = nonzero(config.rope_scaling.mscale_all_dim).map_or(1.0, |k| growth(&config.rope_scaling, k));
    grown * grown / (config.qk_head_dim() as f64).sqrt()
}

/// Cosine and sine of `position * theta_i` times the magnitude, for the first `positions` positions of sequences of
/// `length`: (positions, dr / 2, 2). In f64, since shader sines are loose.
pub fn turns(config: &ModelConfig, positions: usize, length: usize) -> impl Iterator<Item = f64> {
    let (theta, m) = (frequencies(config, length), magnitude(config));
    (0..positions).flat_map(move |p| {
        theta.iter().map(|t| p as f64 * t).flat_map(|a| [m * a.cos(), m * a.sin()]).collect::<Vec<_>>()
    })
}

/// [`turns`], rounded once.
pub fn table(config: &ModelConfig, positions: usize, length: usize) -> Vec<f32> {
    turns(config, positions, length).map(|x| x as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::rope::YarnVariant;
    use approx::assert_relative_eq;

    fn model(kind: RopeType, factor: f64) -> ModelConfig {
        let rope_scaling = RopeScaling { kind, factor: Some(factor), ..RopeScaling::default() };
        ModelConfig { qk_rope_head_dim: 64, max_position_embeddings: 512, rope_scaling, ..Default::default() }
    }

    /// DeepSeek-V2-Lite's.
    fn lite() -> ModelConfig {
        let mut c = model(RopeType::Yarn, 40.0);
        c.qk_nope_head_dim = 128;
        c.rope_scaling.original_max_position_embeddings = Some(4096);
        (c.rope_scaling.mscale, c.rope_scaling.mscale_all_dim) = (Some(0.707), Some(0.707));
        c
    }

    /// The from-scratch project's, in transformers' way.
    fn seed() -> ModelConfig {
        let mut c = model(RopeType::Yarn, 4.0);
        c.qk_nope_head_dim = 128;
        c.rope_scaling.original_max_position_embeddings = Some(128);
        c
    }

    #[test]
    fn the_table_holds_the_angles_of_the_paper() {
        let config = ModelConfig { qk_rope_head_dim: 4, rope_theta: 100.0, ..Default::default() };
        assert_eq!(frequencies(&config, 3), [1.0, 0.1]);
        let table = table(&config, 3, 3);
        assert_eq!(table.len(), 3 * 2 * 2);
        assert_eq!(table[..4], [1.0, 0.0, 1.0, 0.0]);
        assert_relative_eq!(table[2 * 4 + 3], 0.2f32.sin());
    }

    #[test]
    fn a_factor_of_1_changes_nothing() {
        let plain = ModelConfig { rope_scaling: RopeScaling::default(), ..seed() };
        for kind in [RopeType::Linear, RopeType::Ntk, RopeType::Dynamic, RopeType::Yarn] {
            let mut c = model(kind, 1.0);
            c.qk_nope_head_dim = 128;
            if kind == RopeType::Yarn {
                c.rope_scaling.original_max_position_embeddings = Some(128);
                c.rope_scaling.mscale_all_dim = Some(0.707);
            }
            // The dynamic base grows beyond the limit of 512 whatever the factor.
            for length in if kind == RopeType::Dynamic { [100, 512] } else { [100, 4096] } {
                assert_eq!(table(&c, 100, length), table(&plain, 100, length), "{kind:?}");
            }
            assert_eq!(score_scale(&c), 1.0 / 192f64.sqrt());
        }
    }

    #[test]
    fn linear_divides_and_ntk_raises_the_base() {
        let linear = frequencies(&model(RopeType::Linear, 4.0), 512);
        assert_eq!((linear[0], linear[16]), (0.25, 0.0025)); // b^(-1/2) / 4
        let ntk = frequencies(&model(RopeType::Ntk, 4.0), 512);
        assert_eq!(ntk[0], 1.0);
        // The base is 10000 * 4^(64 / 62) = 41829.4; the lowest frequency is the plain one over 4.
        assert_relative_eq!(ntk[16], 41_829.365_928_9f64.powf(-0.5), max_relative = 1e-8);
        assert_relative_eq!(ntk[31], 10_000f64.powf(-62.0 / 64.0) / 4.0, max_relative = 1e-14);
        // One pair turns by 1 whatever the base.
        assert_eq!(frequencies(&ModelConfig { qk_rope_head_dim: 2, ..model(RopeType::Ntk, 4.0) }, 512), [1.0]);
    }

    #[test]
    fn dynamic_begins_beyond_the_limit() {
        let (dynamic, plain) = (model(RopeType::Dynamic, 2.0), model(RopeType::Linear, 1.0));
        for length in [1, 511, 512] {
            assert_eq!(frequencies(&dynamic, length), frequencies(&plain, length));
        }
        // At twice the limit: 2 * 2 - 1 = 3 times, as ntk by 3.
        assert_eq!(frequencies(&dynamic, 1024), frequencies(&model(RopeType::Ntk, 3.0), 1024));
        assert!(frequencies(&dynamic, 513)[31] < frequencies(&plain, 513)[31]);
    }

    #[test]
    fn yarn_gives_the_published_models_numbers() {
        let theta = frequencies(&lite(), 4096);
        assert_eq!(theta[10], 10_000f64.powf(-20.0 / 64.0)); // lo is 10, hi is 23
        for (i, expected) in [(11, 0.039_006_926_5), (16, 0.0055), (23, 3.333_8e-5), (31, 3.333_8e-6)] {
            assert_relative_eq!(theta[i], expected, max_relative = 1e-5);
        }
        assert_relative_eq!(theta[11], 0.039_006_926_5, max_relative = 1e-8);
        assert_eq!(magnitude(&lite()), 1.0);
        assert_relative_eq!(score_scale(&lite()), 0.114_721_386_8, max_relative = 1e-9);
        let theta = frequencies(&seed(), 512);
        for (i, expected) in [(1, 0.698_765), (5, 0.156_295), (11, 0.010_542_4)] {
            assert_relative_eq!(theta[i], expected, max_relative = 1e-5);
        }
        assert_relative_eq!(magnitude(&seed()), 1.138_629_436, max_relative = 1e-9);
        assert_eq!(score_scale(&seed()), 1.0 / 192f64.sqrt());
    }

    #[test]
    fn each_mscale_alone_and_the_attention_factor_have_their_effects() {
        let with = |mscale, mscale_all_dim, attention_factor| {
            let mut c = seed();
            c.rope_scaling = RopeScaling { mscale, mscale_all_dim, attention_factor, ..c.rope_scaling };
            [magnitude(&c), score_scale(&c) * 192f64.sqrt()]
        };
        let mu = |k: f64| 0.1 * k * 4f64.ln() + 1.0;
        let close = |found: [f64; 2], expected: [f64; 2]| {
            found.iter().zip(expected).for_each(|(f, e)| assert_relative_eq!(*f, e, max_relative = 1e-14));
        };
        close(with(Some(0.5), None, None), [mu(1.0), 1.0]);
        close(with(Some(0.5), Some(0.0), None), [mu(1.0), 1.0]);
        close(with(None, Some(0.5), None), [mu(1.0), mu(0.5).powi(2)]);
        close(with(Some(0.8), Some(0.5), None), [mu(0.8) / mu(0.5), mu(0.5).powi(2)]);
        close(with(Some(0.8), Some(0.5), Some(1.5)), [1.5, mu(0.5).powi(2)]);
        let mut c = ModelConfig { qk_rope_head_dim: 4, ..seed() };
        c.rope_scaling.attention_factor = Some(1.5);
        assert_eq!(table(&c, 1, 1), [1.5, 0.0, 1.5, 0.0]);
    }

    #[test]
    fn the_literal_variant_spoils_the_frequencies_as_its_original_does() {
        let mut c = seed();
        c.rope_scaling.yarn_variant = Some(YarnVariant::SeedLiteral);
        let theta = frequencies(&c, 512);
        assert_eq!(theta[0], 64.0);
        // b^-2 * 64 = 6.4e-7, of which an eleventh is divided by 4.
        assert_relative_eq!(theta[1], 6.4e-7 * (10.0 + 0.25) / 11.0, max_relative = 1e-12);
        assert!(theta[2..].iter().all(|&t| t < 1e-14));
        assert_relative_eq!(magnitude(&c), 1.138_629_436, max_relative = 1e-9);
        assert_eq!(score_scale(&c), 1.0 / 192f64.sqrt());
    }

    #[test]
    fn bounds_that_are_not_rounded_move_the_blend() {
        let mut c = lite();
        c.rope_scaling.truncate = Some(false);
        // lo = 10.47224, hi = 22.51344.
        let blend = (16.0 - 10.472_24) / (22.513_44 - 10.472_24);
        assert_relative_eq!(frequencies(&c, 4096)[16], 0.01 * (1.0 - blend) + 0.01 * blend / 40.0, max_relative = 1e-6);
    }
}
