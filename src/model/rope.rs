//! Rotary positions: frequencies and the table of cosines and sines.

use crate::config::model::ModelConfig;

/// Angle per position of each rotated pair: `theta_i = rope_theta^(-2 i / dr)`, i from 0 to dr / 2.
pub fn frequencies(config: &ModelConfig) -> Vec<f64> {
    let width = config.qk_rope_head_dim as f64;
    (0..config.qk_rope_head_dim / 2).map(|i| config.rope_theta.powf(-2.0 * i as f64 / width)).collect()
}

/// Cosine and sine of `position * theta_i`: (positions, dr / 2, 2). Computed in f64, since shader sines are loose.
pub fn table(config: &ModelConfig, positions: usize) -> Vec<f32> {
    let theta = frequencies(config);
    let angle = |p: usize| theta.iter().map(move |t| p as f64 * t);
    (0..positions).flat_map(|p| angle(p).flat_map(|a| [a.cos() as f32, a.sin() as f32]).collect::<Vec<_>>()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_holds_the_angles_of_the_paper() {
        let config = ModelConfig { qk_rope_head_dim: 4, rope_theta: 100.0, ..Default::default() };
        assert_eq!(frequencies(&config), [1.0, 0.1]);
        let table = table(&config, 3);
        assert_eq!(table.len(), 3 * 2 * 2);
        assert_eq!(table[..4], [1.0, 0.0, 1.0, 0.0]);
        approx::assert_relative_eq!(table[2 * 4 + 3], 0.2f32.sin());
    }
}
