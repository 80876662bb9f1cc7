//! From rewards of whole answers to advantages of their tokens, as GRPO and PPO make them.

use super::advantage::{Spread, group_advantages};
use super::gae::{estimate, token_rewards, whiten};
use crate::config::Config;
use crate::config::rollout::{GrpoConfig, KlEstimator, PpoConfig, ScaleRewards};
use crate::train::numbers::named;
use crate::train::rollout::Answer;
use crate::train::rows::Numbers;

/// A judged answer.
#[derive(Debug)]
pub struct Drawn<'d> {
    /// The answer, with log-probabilities and values; advantages and returns are still to come.
    pub answer: &'d mut Answer,
    /// Its reward.
    pub reward: f64,
    /// Whether a token ended it.
    pub ended: bool,
}

/// Gives all answers their advantages, and returns where there are values; what there is to say of that, under TRL's
/// names.
pub fn judge(config: &Config, drawn: &mut [Drawn<'_>]) -> Numbers {
    match &config.ppo {
        Some(ppo) => by_values(ppo, drawn),
        None => {
            let group = config.rollout.as_ref().map_or(1, |rollout| rollout.num_generations);
            by_groups(config.grpo.as_ref(), group, drawn)
        }
    }
}

/// Every token of an answer has the answer's advantage over the others to its prompt.
fn by_groups(grpo: Option<&GrpoConfig>, group: usize, drawn: &mut [Drawn<'_>]) -> Numbers {
    let spread = match grpo.map(|grpo| grpo.scale_rewards) {
        Some(ScaleRewards::Group) | None => Spread::Group,
        Some(ScaleRewards::Batch) => Spread::Batch,
        Some(ScaleRewards::None) => Spread::None,
    };
    let rewards: Vec<f64> = drawn.iter().map(|one| one.reward).collect();
    for (one, advantage) in drawn.iter_mut().zip(group_advantages(&rewards, group, spread)) {
        one.answer.advantages = vec![advantage as f32; one.answer.tokens.len()];
    }
    Numbers::new()
}

/// Advantages by the value function, of rewards from which the divergence from the reference is taken token by token.
fn by_values(ppo: &PpoConfig, drawn: &mut [Drawn<'_>]) -> Numbers {
    let wide = |values: &[f32]| values.iter().map(|&x| f64::from(x)).collect::<Vec<f64>>();
    let (mut divergence, mut ended, mut scored) = (0.0, 0, 0.0);
    let mut rewards = Vec::new();
    for Drawn { answer, reward, ended: end } in drawn.iter() {
        let pairs = answer.old.iter().zip(&answer.reference);
        let mut divergences: Vec<f64> = pairs.map(|(&old, &reference)| kl(ppo.kl_estimator, old, reference)).collect();
        divergences.resize(answer.tokens.len(), 0.0); // without a reference there is no divergence
        let score = reward - if *end { 0.0 } else { ppo.missing_eos_penalty };
        rewards.push(token_rewards(&divergences, ppo.kl_coef, score));
        divergence += divergences.iter().sum::<f64>();
        ended += usize::from(*end);
        scored += score;
    }
    if ppo.whiten_rewards {
        let mut all = rewards.concat();
        whiten(&mut all, true);
        let mut all = all.into_iter();
        rewards.iter_mut().flatten().for_each(|reward| *reward = all.next().unwrap_or(*reward));
    }
    let mut advantages = Vec::new();
    for (one, rewards) in drawn.iter_mut().zip(&rewards) {
        let (own, returns) = estimate(rewards, &wide(&one.answer.values), ppo.gamma, ppo.lam);
        one.answer.returns = returns.iter().map(|&x| x as f32).collect();
        advantages.extend(own);
    }
    whiten(&mut advantages, false);
    let mut all = advantages.into_iter();
    for one in drawn.iter_mut() {
        one.answer.advantages = all.by_ref().take(one.answer.tokens.len()).map(|x| x as f32).collect();
    }
    let (answers, tokens) = (drawn.len().max(1) as f64, drawn.iter().map(|one| one.answer.tokens.len()).sum::<usize>());
    let (score, divergence_each) = (scored / answers, divergence / answers);
    named([
        ("kl", divergence / tokens.max(1) as f64),
        ("objective/kl", divergence_each),
        ("objective/scores", score),
        ("objective/non_score_reward", -ppo.kl_coef * divergence_each),
        ("objective/rlhf_reward", score - ppo.kl_coef * divergence_each),
        ("val/num_eos_tokens", ended as f64),
    ])
}

/// A token's divergence from the reference.
fn kl(estimator: KlEstimator, old: f32, reference: f32) -> f64 {
    let delta = f64::from(reference) - f64::from(old);
    match estimator {
        KlEstimator::K1 => -delta,
        KlEstimator::K3 => delta.exp() - 1.0 - delta,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::rollout::RolloutConfig;

    fn answers(lengths: &[usize]) -> Vec<Answer> {
        let answer = |&n: &usize| {
            let numbers = |factor: f32| (0..n).map(|i| factor * (i as f32 + 1.0)).collect::<Vec<f32>>();
            Answer {
                prompt: vec![1],
                tokens: vec![2; n],
                old: numbers(-0.5),
                reference: numbers(-0.75),
                values: numbers(0.25),
                ..Answer::default()
            }
        };
        lengths.iter().map(answer).collect()
    }

    fn judged(config: &Config, answers: &mut [Answer], rewards: &[f64]) -> Numbers {
        let ended = |i: usize| i != 1;
        let both = answers.iter_mut().zip(rewards).enumerate();
        let mut drawn: Vec<_> = both.map(|(i, (answer, &reward))| Drawn { answer, reward, ended: ended(i) }).collect();
        judge(config, &mut drawn)
    }

    #[test]
    fn every_token_of_a_group_has_its_answers_advantage() {
        let rollout = RolloutConfig { num_generations: 2, ..RolloutConfig::default() };
        let grpo = GrpoConfig { scale_rewards: ScaleRewards::None, ..GrpoConfig::default() };
        let config = Config { rollout: Some(rollout), grpo: Some(grpo), ..Config::default() };
        let mut answers = answers(&[2, 1, 3, 1]);
        judged(&config, &mut answers, &[1.0, 0.0, 0.5, 0.5]);
        let advantages: Vec<&[f32]> = answers.iter().map(|answer| &answer.advantages[..]).collect();
        assert_eq!(advantages, [&[0.5, 0.5][..], &[-0.5], &[0.0; 3], &[0.0]]);
    }

    #[test]
    fn the_divergence_is_taken_from_rewards_and_returns_are_advantages_and_values_before_whitening() {
        let ppo = PpoConfig { kl_coef: 0.5, lam: 1.0, missing_eos_penalty: 2.0, ..PpoConfig::default() };
        let config = Config { ppo: Some(ppo.clone()), rollout: Some(RolloutConfig::default()), ..Config::default() };
        let mut some = answers(&[3, 2]);
        let numbers = judged(&config, &mut some, &[1.0, 3.0]);
        // Divergences are 0.25 t; with lambda and gamma 1 a return is the sum of all rewards to come.
        let expected = [[1.0 - 0.5 * 1.5, 1.0 - 0.5 * 1.25, 1.0 - 0.5 * 0.75].as_slice(), &[1.0 - 0.5 * 0.75, 0.75]];
        for (answer, expected) in some.iter().zip(expected) {
            answer.returns.iter().zip(expected).for_each(|(a, b)| assert!((a - b).abs() < 1e-6, "{a} and not {b}"));
        }
        assert_eq!((numbers["objective/scores"], numbers["val/num_eos_tokens"]), (1.0, 1.0));
        assert!((numbers["objective/kl"] - (1.5 + 0.75) / 2.0).abs() < 1e-6);
        assert!((numbers["objective/rlhf_reward"] - (1.0 - 0.5 * 1.125)).abs() < 1e-6);
        let all: Vec<f32> = some.iter().flat_map(|answer| answer.advantages.clone()).collect();
        let mean = all.iter().sum::<f32>() / 5.0;
        let variance = all.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / 4.0;
        assert!(mean.abs() < 1e-6 && (variance - 1.0).abs() < 1e-5, "whitened over all tokens: {mean} {variance}");
        // Without a reference there is nothing to take.
        let mut bare = answers(&[2]);
        bare[0].reference.clear();
        assert_eq!(judged(&config, &mut bare, &[1.0])["objective/kl"], 0.0);
    }

    #[test]
    fn estimators_of_the_divergence_agree_where_there_is_none_and_differ_in_sign() {
        for estimator in [KlEstimator::K1, KlEstimator::K3] {
            assert_eq!(kl(estimator, -1.5, -1.5), 0.0);
        }
        assert!(kl(KlEstimator::K1, -2.0, -1.0) < 0.0 && kl(KlEstimator::K3, -2.0, -1.0) > 0.0);
    }
}
