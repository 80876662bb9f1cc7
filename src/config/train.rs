//! How long, how fast and how precisely to train: `[train]`, `[optimizer]` and `[log]`.

use crate::error::{Error, Result};
use crate::kernels::adamw8bit::is_block;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Number formats of the training step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Default, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// 32-bit floats throughout.
    F32,
    /// Products and activations in 16 bits; weights, their gradients and moments, norms and loss in 32.
    Mixed,
    /// `mixed` where the adapter has matrix units that pass a self-test, else `f32`.
    #[default]
    Auto,
}

/// What the backward pass makes again of each block but the last, rather than that it stays from the forward pass: less
/// memory for more operations, and the same gradients bit for bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum Recompute {
    /// `none` where no `--vram` caps memory, else the first of `none`, `ffn` and `block` that fits.
    #[default]
    Auto,
    /// Nothing.
    None,
    /// The feed-forward layer, dense or of experts, from the residual stream and the routers' choices; attention stays.
    Ffn,
    /// The whole block, from its input and the routers' choices.
    Block,
}

/// What a run does when updates in a row were not finite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum OnNonFinite {
    /// Ends with exit code 7 and names what went bad first.
    #[default]
    Stop,
    /// Goes back to the newest sound checkpoint and on from there at a lower learning rate; the fourth time it stops.
    RollBack,
}

/// What a run does if a checkpoint cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum OnDiskFull {
    /// Ends; the checkpoint before is intact.
    #[default]
    Stop,
    /// Waits, and tries again until it can be written.
    Wait,
}

/// How the losses of one accumulation window become one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum LossReduction {
    /// Every target token of the window weighs the same: equal to one big batch, up to rounding.
    #[default]
    Tokens,
    /// The mean of the micro-batches' means, which favours tokens of short micro-batches.
    Seed,
}

/// `[train]`: sizes and counts of the run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainConfig {
    /// Folder of the weights that the run starts from, which `--model` sets; fresh weights if absent.
    pub model: Option<PathBuf>,
    /// B: sequences in one forward and backward pass; default 8.
    pub micro_batch: usize,
    /// k: passes whose gradients are summed before an update; default 1.
    pub accumulation: usize,
    /// T: tokens in a sequence, at most `model.max_position_embeddings`; default 256.
    pub sequence_length: usize,
    /// Updates in all, also across resumptions; default 1000.
    pub steps: u64,
    /// Seed of initial weights, data order, dropout and samples; default 1.
    pub seed: u64,
    /// Number formats: `f32`, `mixed` or `auto`; default `auto`.
    pub precision: Precision,
    /// What backward makes again to save memory: `none`, `ffn`, `block` or `auto`; default `auto`.
    pub recompute: Recompute,
    /// How a window's losses are averaged: `tokens` or `seed`; default `tokens`.
    pub loss_reduction: LossReduction,
    /// Updates between validations; 0 for one before and one after training; default 100.
    pub eval_interval: u64,
    /// Fixed batches of one validation; default 8.
    pub eval_batches: usize,
    /// Updates between checkpoints; 0 for one at the end; default 500.
    pub checkpoint_interval: u64,
    /// Newest checkpoints that stay on disk; 0 for all; default 2.
    pub keep: usize,
    /// Whether the checkpoint with the lowest validation loss stays too; default true.
    pub keep_best: bool,
    /// Checkpoints at multiples of this many updates stay too; 0 for none; default 0.
    pub milestone_interval: u64,
    /// Whether every update sees the first window, to watch the model memorise it; default false.
    pub overfit: bool,
    /// Updates between sampled texts; 0 for none; default 0.
    pub sample_interval: u64,
    /// Text that the samples continue; empty for the start of a text; default empty.
    pub sample_prompt: String,
    /// Times that a run opens its device again after it was lost or hung, counted from the start of the program, before
    /// it ends with exit code 4; default 3.
    pub device_retries: u32,
    /// K: updates in a row that are not finite before `on_non_finite` applies; default 5. In mixed precision those do
    /// not count that only lower the loss scale.
    pub non_finite_limit: u32,
    /// What is done then: `stop` or `roll_back`; default `stop`.
    pub on_non_finite: OnNonFinite,
    /// Factor on the learning rate from a `roll_back` on, above 0 and at most 1; default 0.5.
    pub roll_back_rate: f64,
    /// What to do if a checkpoint cannot be written: `stop`, or `wait` and try again; default `stop`.
    pub on_disk_full: OnDiskFull,
    /// Standard deviations above the mean of the last 128 updates' losses from which on the loss of an update is a
    /// spike, and the update skipped; 0 for none; default 0.
    pub spike_guard: f64,
}

impl Default for TrainConfig {
    fn default() -> Self {
        TrainConfig {
            model: None,
            micro_batch: 8,
            accumulation: 1,
            sequence_length: 256,
            steps: 1000,
            seed: 1,
            precision: Precision::Auto,
            recompute: Recompute::Auto,
            loss_reduction: LossReduction::Tokens,
            eval_interval: 100,
            eval_batches: 8,
            checkpoint_interval: 500,
            keep: 2,
            keep_best: true,
            milestone_interval: 0,
            overfit: false,
            sample_interval: 0,
            sample_prompt: String::new(),
            device_retries: 3,
            non_finite_limit: 5,
            on_non_finite: OnNonFinite::Stop,
            roll_back_rate: 0.5,
            on_disk_full: OnDiskFull::Stop,
            spike_guard: 0.0,
        }
    }
}

impl TrainConfig {
    /// Tokens that one update sees: B k T.
    pub fn tokens_per_update(&self) -> u64 {
        (self.micro_batch as u64).saturating_mul(self.accumulation as u64).saturating_mul(self.sequence_length as u64)
    }

    /// Refuses counts that no run can have.
    pub fn validate(&self) -> Result<()> {
        let counts = [
            ("train.micro_batch", self.micro_batch as u64),
            ("train.accumulation", self.accumulation as u64),
            ("train.sequence_length", self.sequence_length as u64),
            ("train.steps", self.steps),
            ("train.eval_batches", self.eval_batches as u64),
            ("train.non_finite_limit", self.non_finite_limit.into()),
        ];
        if let Some((key, _)) = counts.iter().find(|(_, count)| *count == 0) {
            return Err(Error::config(*key, "is 0, and must be at least 1"));
        }
        // TOML, in which the run keeps its configuration, has no larger numbers.
        for (key, number) in [("train.seed", self.seed), ("train.steps", self.steps)] {
            if number > i64::MAX as u64 {
                return Err(Error::config(key, format!("is {number}, and must be at most {}", i64::MAX)));
            }
        }
        let rate = self.roll_back_rate;
        demand(rate > 0.0 && rate <= 1.0, "train.roll_back_rate", rate, "above 0 and at most 1")?;
        let guard = self.spike_guard;
        let wanted = "a positive number, or 0 for no guard";
        demand(guard >= 0.0 && guard.is_finite(), "train.spike_guard", guard, wanted)
    }
}

/// Rule by which gradients change weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum OptimizerKind {
    /// Adam with decoupled weight decay, moments in 32 bits.
    #[default]
    Adamw,
    /// The same with moments in 8 bits, but for parameters of fewer than 4096 elements.
    Adamw8bit,
}

/// `[optimizer]`: the update rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OptimizerConfig {
    /// The rule: `adamw` or `adamw8bit`; default `adamw`.
    pub kind: OptimizerKind,
    /// η: learning rate after warm-up; default 1e-3.
    pub learning_rate: f64,
    /// β₁: share of the first moment kept by an update; default 0.9.
    pub beta1: f64,
    /// β₂: share of the second moment kept by an update; default 0.95.
    pub beta2: f64,
    /// ε: added to the root of the corrected second moment; default 1e-8.
    pub epsilon: f64,
    /// λ: share of a weight removed by an update, times the learning rate; default 0.1.
    pub weight_decay: f64,
    /// Whether norm weights decay too, and not only tensors of two or more dimensions; default false.
    pub decay_all: bool,
    /// c: norm to which the whole gradient is shortened; 0 for no clipping; default 1.
    pub clip_norm: f64,
    /// Elements that share a factor in `adamw8bit`, a multiple of 4 up to 2048; default 256.
    pub block_size: usize,
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        OptimizerConfig {
            kind: OptimizerKind::Adamw,
            learning_rate: 1e-3,
            beta1: 0.9,
            beta2: 0.95,
            epsilon: 1e-8,
            weight_decay: 0.1,
            decay_all: false,
            clip_norm: 1.0,
            block_size: 256,
        }
    }
}

/// Refuses `value` at `key` unless `good`; `wanted` completes "must be".
pub(super) fn demand(good: bool, key: &str, value: f64, wanted: &str) -> Result<()> {
    if good { Ok(()) } else { Err(Error::config(key, format!("is {value}, and must be {wanted}"))) }
}

impl OptimizerConfig {
    /// Refuses values outside of the range in which the rule means something.
    pub fn validate(&self) -> Result<()> {
        let rate = self.learning_rate;
        demand(rate > 0.0 && rate.is_finite(), "optimizer.learning_rate", rate, "a positive number")?;
        for (key, beta) in [("optimizer.beta1", self.beta1), ("optimizer.beta2", self.beta2)] {
            demand((0.0..1.0).contains(&beta), key, beta, "at least 0 and below 1")?;
        }
        let epsilon = self.epsilon;
        demand(epsilon > 0.0 && epsilon.is_finite(), "optimizer.epsilon", epsilon, "a positive number")?;
        let decay = self.weight_decay;
        demand(decay >= 0.0 && decay.is_finite(), "optimizer.weight_decay", decay, "0 or a positive number")?;
        // From a product of 1 on, a single update would erase or flip every weight.
        demand(rate * decay < 1.0, "optimizer.weight_decay", decay, "below 1 / optimizer.learning_rate")?;
        let clip = self.clip_norm;
        demand(
            clip >= 0.0 && clip.is_finite(),
            "optimizer.clip_norm",
            clip,
            "a positive number, or 0 for no clipping",
        )?;
        let block = self.block_size;
        demand(is_block(block), "optimizer.block_size", block as f64, "a multiple of 4 from 4 to 2048")
    }
}

/// `[log]`: what a run reports, and how often.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// Updates between progress lines in `log.txt` and on a standard error that is no terminal; 0 for none; default 10.
    pub interval: u64,
    /// Updates between drawings of `loss.png`; 0 for one at the end; default 50.
    pub plot_interval: u64,
    /// Whether the rows of `metrics.jsonl` are also written as event files for TensorBoard; default true.
    pub tensorboard: bool,
}

impl Default for LogConfig {
    fn default() -> Self {
        LogConfig { interval: 10, plot_interval: 50, tensorboard: true }
    }
}
