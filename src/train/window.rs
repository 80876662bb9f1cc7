//! Which text the updates and validations of a run see.

use crate::config::Config;
use crate::config::train::LossReduction;
use crate::data::Dataset;
use crate::data::batch::Batch;
use crate::error::Result;

/// The micro-batches of the update after `step` others: a function of the step alone.
pub fn window(config: &Config, dataset: &Dataset, step: u64) -> Result<Vec<Batch>> {
    let train = &config.train;
    let (window, batch) = (if train.overfit { 0 } else { step }, train.micro_batch as u64);
    let micro = |pass: u64| {
        let first = (window * train.accumulation as u64 + pass) * batch;
        dataset.train_batch(first as usize..(first + batch) as usize, batch as usize)
    };
    (0..train.accumulation as u64).map(micro).collect()
}

/// Gives the targets of a window's micro-batches their loss weights; returns the number of targets.
pub fn weigh<'b>(window: impl IntoIterator<Item = &'b mut Batch>, reduction: LossReduction) -> usize {
    let window: Vec<&mut Batch> = window.into_iter().collect();
    let counted: Vec<usize> = window.iter().map(|micro| micro.counted()).collect();
    let (targets, passes) = (counted.iter().sum(), window.len());
    for (micro, &own) in window.into_iter().zip(&counted) {
        match reduction {
            LossReduction::Tokens => micro.set_weight(targets),
            LossReduction::Seed => micro.set_weight(own * passes),
        }
    }
    targets
}

/// The fixed batches of every validation.
pub fn validation(config: &Config, dataset: &Dataset) -> Result<Vec<Batch>> {
    let batch = config.train.micro_batch;
    let wanted = config.train.eval_batches.saturating_mul(batch);
    let windows = dataset.val_windows().map_or(wanted, |held_out| held_out.min(wanted));
    let starts = (0..windows).step_by(batch);
    starts.map(|first| dataset.val_batch(first..windows.min(first + batch), batch)).collect()
}
