//! Advantages of the answers to a prompt over one another, without a value function.

use super::{deviation, mean};

/// What differences from the group's mean are divided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spread {
    /// The standard deviation of the group.
    Group,
    /// That of all rewards of the batch.
    Batch,
    /// Nothing: a group of nearly equal rewards then counts little.
    None,
}

/// Keeps quotients finite where rewards are equal.
const EPSILON: f64 = 1e-4;

/// Advantages of rewards that lie in groups of `group`: `(R - mean of the group) / (deviation + 1e-4)`, with unbiased
/// standard deviations, which of one reward are 0. They sum to 0 over a group, and are 0 where its rewards are equal.
///
/// Panics if groups are not whole: a broken invariant of the caller.
/// Source: Shao et al. 2024, "DeepSeekMath"; without division as in Liu et al. 2025, "Understanding R1-Zero-like
/// training".
pub fn group_advantages(rewards: &[f64], group: usize, spread: Spread) -> Vec<f64> {
    assert!(group > 0 && rewards.len().is_multiple_of(group), "{} rewards in groups of {group}", rewards.len());
    let batch = deviation(rewards);
    let advantages = rewards.chunks(group).flat_map(|rewards| {
        let mean = mean(rewards);
        let divisor = match spread {
            Spread::Group => deviation(rewards) + EPSILON,
            Spread::Batch => batch + EPSILON,
            Spread::None => 1.0,
        };
        rewards.iter().map(move |reward| (reward - mean) / divisor)
    });
    advantages.collect()
}

/// Share of the groups whose rewards are all equal, from which nothing is learnt.
pub fn share_of_equal_groups(rewards: &[f64], group: usize) -> f64 {
    let equal = |rewards: &&[f64]| rewards.iter().all(|reward| *reward == rewards[0]);
    let groups = rewards.chunks(group);
    let all = groups.len().max(1);
    groups.filter(equal).count() as f64 / all as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advantages_of_a_group_sum_to_0_and_have_its_spread() {
        let rewards = [1.0, 0.0, 0.5, 0.7, -2.0, 3.0, 3.0, 3.0];
        for spread in [Spread::Group, Spread::Batch, Spread::None] {
            let advantages = group_advantages(&rewards, 4, spread);
            for group in advantages.chunks(4) {
                assert!(group.iter().sum::<f64>().abs() < 1e-12, "{spread:?}");
            }
        }
        let [low, high] = group_advantages(&[0.0, 2.0], 2, Spread::Group)[..] else { panic!("two") };
        let expected = 1.0 / (2f64.sqrt() + 1e-4);
        assert!((high - expected).abs() < 1e-15 && (low + expected).abs() < 1e-15);
        assert_eq!(group_advantages(&[0.0, 2.0], 2, Spread::None), [-1.0, 1.0]);
    }

    #[test]
    fn equal_rewards_have_no_advantage() {
        let rewards = [0.1; 7];
        assert_eq!(group_advantages(&rewards, 7, Spread::Group), [0.0; 7]);
        assert_eq!(group_advantages(&[5.0, -1.0], 1, Spread::Group), [0.0; 2], "of one there is no deviation");
        assert_eq!(share_of_equal_groups(&[0.1, 0.1, 0.1, 0.2, 1.0, 1.0], 2), 2.0 / 3.0);
        assert_eq!(share_of_equal_groups(&[], 2), 0.0);
    }
}
