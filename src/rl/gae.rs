//! Generalised advantage estimation: how much better each token went than a value function expected.

use super::{mean, variance};

/// Rewards of an answer's tokens: minus `beta` times each token's divergence from the reference, and the answer's score
/// on the last, which is the mark that ends it or where it was cut. Empty without tokens.
pub fn token_rewards(divergences: &[f64], beta: f64, score: f64) -> Vec<f64> {
    let mut rewards: Vec<f64> = divergences.iter().map(|kl| -beta * kl).collect();
    if let Some(last) = rewards.last_mut() {
        *last += score;
    }
    rewards
}

/// Advantages and returns of an answer's tokens, from their rewards and the values of the states before them.
///
/// `delta_t = r_t + gamma V_{t+1} - V_t` with value 0 after the end, `A_t = delta_t + gamma lambda A_{t+1}`, returns
/// `A_t + V_t`. With lambda 0 an advantage is delta alone; with lambda and gamma 1 it is all rewards to come minus the
/// value.
///
/// Panics if there are not as many values as rewards: a broken invariant of the caller.
/// Source: Schulman et al. 2015, "High-dimensional continuous control using generalized advantage estimation".
pub fn estimate(rewards: &[f64], values: &[f64], gamma: f64, lambda: f64) -> (Vec<f64>, Vec<f64>) {
    assert_eq!(rewards.len(), values.len(), "a value for each reward");
    let mut advantages = vec![0.0; rewards.len()];
    let (mut later, mut next_value) = (0.0, 0.0);
    for t in (0..rewards.len()).rev() {
        later = rewards[t] + gamma * next_value - values[t] + gamma * lambda * later;
        next_value = values[t];
        advantages[t] = later;
    }
    let returns = advantages.iter().zip(values).map(|(a, v)| a + v).collect();
    (advantages, returns)
}

/// Brings `values` to mean 0 and variance 1, `(x - mean) / sqrt(variance + 1e-8)` with the unbiased variance; with
/// `keep_mean` the mean is added again. For the counted tokens of all answers of a batch at once.
pub fn whiten(values: &mut [f64], keep_mean: bool) {
    let (mean, factor) = (mean(values), 1.0 / (variance(values) + 1e-8).sqrt());
    let around = if keep_mean { mean } else { 0.0 };
    values.iter_mut().for_each(|x| *x = (*x - mean) * factor + around);
}

#[cfg(test)]
mod tests {
    use super::*;

    const REWARDS: [f64; 4] = [0.5, -1.0, 0.25, 2.0];
    const VALUES: [f64; 4] = [1.0, 0.5, -0.5, 3.0];

    #[test]
    fn without_lambda_an_advantage_is_one_step_s_surprise() {
        let (advantages, returns) = estimate(&REWARDS, &VALUES, 0.5, 0.0);
        assert_eq!(advantages, [-0.25, -1.75, 2.25, -1.0]);
        assert_eq!(returns, [0.75, -1.25, 1.75, 2.0]);
    }

    #[test]
    fn with_lambda_1_an_advantage_is_what_came_minus_what_was_expected() {
        let (advantages, returns) = estimate(&REWARDS, &VALUES, 1.0, 1.0);
        assert_eq!(returns, [1.75, 1.25, 2.25, 2.0], "rewards to come");
        assert_eq!(advantages, [0.75, 0.75, 2.75, -1.0]);
    }

    #[test]
    fn in_between_it_is_the_weighted_sum_of_later_surprises() {
        let (gamma, lambda) = (0.9, 0.8f64);
        let (deltas, _) = estimate(&REWARDS, &VALUES, gamma, 0.0);
        let (advantages, _) = estimate(&REWARDS, &VALUES, gamma, lambda);
        for t in 0..4 {
            let later = deltas[t..].iter().enumerate();
            let sum: f64 = later.map(|(l, delta)| (gamma * lambda).powi(l as i32) * delta).sum();
            assert!((advantages[t] - sum).abs() < 1e-14);
        }
    }

    #[test]
    fn whitened_values_have_mean_0_and_variance_1() {
        let mut values = REWARDS;
        whiten(&mut values, false);
        assert!(mean(&values).abs() < 1e-15 && (variance(&values) - 1.0).abs() < 1e-7);
        let mut kept = REWARDS;
        whiten(&mut kept, true);
        assert!((mean(&kept) - mean(&REWARDS)).abs() < 1e-15);
        assert!(kept.iter().zip(values).all(|(k, v)| (k - v - mean(&REWARDS)).abs() < 1e-15));
        let mut equal = [3.0; 3];
        whiten(&mut equal, false);
        assert_eq!(equal, [0.0; 3]);
        whiten(&mut [], false);
    }

    #[test]
    fn the_score_falls_on_the_last_token() {
        assert_eq!(token_rewards(&[1.0, 0.0, -2.0], 0.5, 3.0), [-0.5, 0.0, 4.0]);
        assert_eq!(token_rewards(&[], 0.5, 3.0), [0.0; 0]);
    }
}
