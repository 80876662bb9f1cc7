//! Whole updates of a preset: forward, backward, norm, clip, AdamW.

use super::report::Seconds;
use crate::backend::Device;
use crate::config::Config;
use crate::data::Batch;
use crate::error::Result;
use crate::kernels::case::indices;
use crate::model::inputs::BatchSize;
use crate::model::params::{initial, parameters};
use crate::model::program::{FIRST_MICRO_STEP, MICRO_STEP, Program, ProgramOptions, RESET, UPDATE};
use crate::train::session::Session;
use serde::Serialize;
use std::time::Instant;

/// Figures of a preset's update.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Sequences a micro-batch, tokens a sequence, micro-batches an update.
    pub batch: [usize; 3],
    /// Time of an update.
    pub seconds: Seconds,
    /// Tokens a second at the median.
    pub tokens_per_second: f64,
    /// By the closed form of `hadal plan`, in 1e12 operations a second.
    pub tflops: f64,
    /// Bytes of all buffers.
    pub plan_bytes: u64,
    /// Seconds by kernel over one more update, slowest first; on a GPU with a timestamp around each dispatch.
    pub kernels: Vec<(String, f64, u64)>,
}

/// A session of a preset with random tokens, ready to run updates.
pub struct Bench {
    session: Session,
    config: Config,
    plan_bytes: u64,
}

impl Bench {
    /// Builds the program of `config` on `device` and loads start values.
    pub fn new(config: &Config, device: &Device, cap: Option<u64>) -> Result<Self> {
        let size = BatchSize { batch: config.train.micro_batch, length: config.train.sequence_length };
        let options = ProgramOptions {
            size,
            binding_limit: device.binding_limit(),
            optimizer: Some(config.optimizer.clone()),
            logit_rows: None,
            stored: device.stored(),
            recompute: config.train.recompute,
        };
        let program = Program::new(&config.model, &parameters(&config.model), &options);
        let plan_bytes = program.plan().bytes();
        let mut session = Session::new(program, device, cap)?;
        session.load(|spec| Ok(initial(spec, 1)))?;
        let ids = indices(1, size.tokens(), config.model.vocab_size as u32);
        let targets = indices(2, size.tokens(), config.model.vocab_size as u32);
        let mut batch = Batch::new(ids, targets, size.batch, size.length);
        batch.set_weight(batch.counted() * config.train.accumulation);
        session.feed(&batch)?;
        session.set_sequences(size.batch * config.train.accumulation)?;
        Ok(Bench { session, config: config.clone(), plan_bytes })
    }

    /// Seconds of one update, averaged over `count`; waits for the device before and after.
    pub fn updates(&mut self, count: usize) -> Result<f64> {
        self.session.metrics()?;
        let started = Instant::now();
        for step in 0..count as u64 {
            self.session.run(RESET)?;
            self.session.set_learning_rate(1e-5)?;
            for pass in 0..self.config.train.accumulation as u64 {
                self.session.set_keys(1, step, pass)?;
                self.session.run(if pass == 0 { FIRST_MICRO_STEP } else { MICRO_STEP })?;
            }
            self.session.run(UPDATE)?;
        }
        self.session.metrics()?;
        Ok(started.elapsed().as_secs_f64() / count as f64)
    }

    /// Warms up, takes `samples` of `count` updates, then profiles one update if asked.
    pub fn measure(mut self, samples: usize, count: usize, profile: bool) -> Result<Report> {
        (0..3).try_for_each(|_| self.updates(1).map(|_| ()))?; // compiles, touches every buffer, settles the loss scale
        let seconds = (0..samples).map(|_| self.updates(count)).collect::<Result<Vec<f64>>>()?;
        let seconds = Seconds::of(seconds);
        let kernels = if profile {
            self.session.executor().profile()?;
            self.updates(1)?;
            self.session.executor().profiled()
        } else {
            Vec::new()
        };
        let train = &self.config.train;
        let tokens = (train.micro_batch * train.sequence_length * train.accumulation) as f64;
        let rate = tokens / seconds.median;
        let flops = self.config.model.training_flops_per_token(train.sequence_length);
        Ok(Report {
            batch: [train.micro_batch, train.sequence_length, train.accumulation],
            seconds,
            tokens_per_second: rate,
            tflops: flops * rate / 1e12,
            plan_bytes: self.plan_bytes,
            kernels,
        })
    }
}
