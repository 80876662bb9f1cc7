//! How far each rotated pair turns, scaled positions included; written from DeepSeek-V2's and YaRN's papers and from
//! what transformers' configuration keys mean, apart from `model/`.

use crate::config::model::ModelConfig;
use crate::config::rope::RopeType;
use std::f64::consts::TAU;

/// Rotation of one sequence length.
pub(super) struct Turns {
    /// Radians per position of each pair.
    speeds: Vec<f64>,
    /// Factor on the rotated columns.
    stretch: f64,
}

impl Turns {
    /// For sequences of which the longest has `longest` tokens.
    pub(super) fn new(c: &ModelConfig, longest: usize) -> Turns {
        let pairs = 0..c.qk_rope_head_dim / 2;
        Turns { speeds: pairs.map(|i| speed(c, i, longest)).collect(), stretch: stretch(c) }
    }

    /// Cosine and sine of pair `i` at `position`, stretched.
    pub(super) fn at(&self, i: usize, position: usize) -> (f64, f64) {
        let (sin, cos) = (position as f64 * self.speeds[i]).sin_cos();
        (self.stretch * cos, self.stretch * sin)
    }
}

fn speed(c: &ModelConfig, i: usize, longest: usize) -> f64 {
    let (scaling, share) = (&c.rope_scaling, 2.0 * i as f64 / c.qk_rope_head_dim as f64);
    let factor = scaling.factor.unwrap_or(1.0);
    // Raising the base so that the last pair, of share 1 - 2 / dr, turns `by` times slower.
    let slower = |by: f64| c.rope_theta.powf(-share) * by.powf(-share / (1.0 - 2.0 / c.qk_rope_head_dim as f64));
    let plain = c.rope_theta.powf(-share);
    match scaling.kind {
        RopeType::Default => plain,
        RopeType::Linear => plain / factor,
        RopeType::Ntk => slower(factor),
        RopeType::Dynamic => {
            let excess = longest as f64 / c.max_position_embeddings as f64 - 1.0;
            if excess > 0.0 { slower(1.0 + factor * excess) } else { plain }
        }
        RopeType::Yarn => {
            let slowed = slowed_share(c, i);
            let own = match scaling.is_seed_literal() {
                true => c.qk_rope_head_dim as f64 / c.rope_theta.powi(2 * i as i32),
                false => plain,
            };
            own * (1.0 - slowed * (1.0 - 1.0 / factor))
        }
    }
}

/// 0 for pairs that turn often within the original length, 1 for those that hardly turn, a ramp between.
fn slowed_share(c: &ModelConfig, i: usize) -> f64 {
    let scaling = &c.rope_scaling;
    let original = scaling.original_max_position_embeddings.unwrap_or(1) as f64;
    // The (real) pair whose wavelength fits `times` times into the original length.
    let pair = |times: f64| {
        let wavelength = original / times;
        0.5 * c.qk_rope_head_dim as f64 * (wavelength / TAU).log(c.rope_theta)
    };
    let (mut first, mut last) = (pair(scaling.beta_fast.unwrap_or(32.0)), pair(scaling.beta_slow.unwrap_or(1.0)));
    if scaling.truncate != Some(false) {
        (first, last) = (first.floor(), last.ceil());
    }
    let (first, last) = (first.max(0.0), last.min(c.qk_rope_head_dim as f64 - 1.0));
    let span = if first == last { 0.001 } else { last - first };
    ((i as f64 - first) / span).clamp(0.0, 1.0)
}

/// 1 + k ln(factor) / 10.
fn temperature(c: &ModelConfig, k: f64) -> f64 {
    1.0 + k * c.rope_scaling.factor.unwrap_or(1.0).ln() / 10.0
}

fn stretch(c: &ModelConfig) -> f64 {
    let scaling = &c.rope_scaling;
    match (scaling.kind, scaling.attention_factor) {
        (RopeType::Yarn, Some(given)) => given,
        (RopeType::Yarn, None) => {
            let (own, all) = (scaling.mscale.unwrap_or(0.0), scaling.mscale_all_dim.unwrap_or(0.0));
            let both = own * all != 0.0;
            if both { temperature(c, own) / temperature(c, all) } else { temperature(c, 1.0) }
        }
        _ => 1.0,
    }
}

/// What attention scores are multiplied by.
pub(super) fn score_scale(c: &ModelConfig) -> f64 {
    // Without `mscale_all_dim` this is 1.
    let temperature = temperature(c, c.rope_scaling.mscale_all_dim.unwrap_or(0.0));
    temperature * temperature * (c.qk_head_dim() as f64).powf(-0.5)
}
