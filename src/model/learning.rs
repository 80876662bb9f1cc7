//! What the configuration of a stage makes of a program: its goal, and what it has beside the weights that are trained.

use super::decoder::DecoderOptions;
use super::goal::Goal;
use crate::config::dpo::DpoConfig;
use crate::config::rollout::RolloutConfig;
use crate::config::{Config, Kind};
use crate::generate::{CHUNK, GeneratorOptions};
use crate::graph::Dtype;

/// What preference training adds to a program.
#[derive(Clone, Copy, Debug, Default)]
pub struct Learning {
    /// What updates lower.
    pub goal: Goal,
    /// Whether the weights that the run begins with stay beside those that are trained.
    pub reference: bool,
    /// What draws answers with the weights that are trained.
    pub draws: Option<DecoderOptions>,
}

impl Learning {
    /// What a run of `config` learns by; answers have tokens below `known`.
    pub fn of(config: &Config, known: usize, binding_limit: u64, stored: Dtype) -> Learning {
        let goal = match config.kind() {
            Kind::Pretrain | Kind::Sft => Goal::CrossEntropy,
            Kind::Reward => {
                let centring = config.reward_model.as_ref().map_or(0.0, |model| model.center_rewards_coefficient);
                Goal::Reward { centring: centring as f32 }
            }
            Kind::Dpo => {
                let DpoConfig { beta, label_smoothing, .. } = config.dpo.clone().unwrap_or_default();
                Goal::Preference { beta: beta as f32, smoothing: label_smoothing as f32 }
            }
            Kind::Grpo => {
                let grpo = config.grpo.clone().unwrap_or_default();
                Goal::Policy {
                    clip: grpo.clip().map(|x| x as f32),
                    beta: grpo.beta as f32,
                    entropy_bonus: grpo.ent_coef as f32,
                    temperature: temperature(config),
                    value: None,
                }
            }
            Kind::Ppo => {
                let ppo = config.ppo.clone().unwrap_or_default();
                let value = Some([ppo.cliprange_value as f32, ppo.vf_coef as f32]);
                Goal::Policy {
                    clip: [ppo.cliprange as f32; 2],
                    beta: 0.0,
                    entropy_bonus: ppo.ent_coef as f32,
                    temperature: temperature(config),
                    value,
                }
            }
        };
        let grpo = config.grpo.as_ref().is_some_and(|grpo| grpo.beta > 0.0);
        let ppo = config.ppo.as_ref().is_some_and(|ppo| ppo.kl_coef > 0.0);
        // A row takes one token more than it has positions: the last is a target alone.
        let capacity = config.train.sequence_length + 1;
        // Prompts come all at once: as many tokens of them in a pass as an update's pass has, or more.
        let chunk = (config.train.micro_batch * config.train.sequence_length).clamp(CHUNK, LARGEST_CHUNK);
        let options = |rollout: &RolloutConfig| {
            let slots = rollout.slots();
            GeneratorOptions { slots, capacity, chunk, known }.decoder(binding_limit, stored)
        };
        let draws = config.rollout.as_ref().filter(|_| config.kind().draws()).map(options);
        Learning { goal, reference: draws.is_some() && (grpo || ppo), draws }
    }
}

/// Most tokens of prompts in a pass: more fill no device better.
const LARGEST_CHUNK: usize = 8192;

/// What logits are divided by where answers are drawn.
fn temperature(config: &Config) -> f32 {
    config.rollout.as_ref().map_or(1.0, |rollout| rollout.temperature as f32)
}
