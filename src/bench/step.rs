//! Whole updates of a preset: forward, backward, norm, clip, AdamW.

use super::cost::{Cost, cost};
use super::report::{Ratio, Seconds};
use super::settling;
use crate::backend::Device;
use crate::config::Config;
use crate::data::Batch;
use crate::error::Result;
use crate::graph::Step;
use crate::kernels::case::indices;
use crate::model::inputs::BatchSize;
use crate::model::lora::adapted;
use crate::model::params::start_values;
use crate::model::program::{FIRST_MICRO_STEP, MICRO_STEP, Program, ProgramOptions, RESET, UPDATE};
use crate::train::session::Session;
use serde::Serialize;
use std::collections::HashMap;
use std::time::Instant;

/// Figures of a preset's update. In JSON every field is there, null where it does not apply.
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
    /// Share of the peak that the user states.
    pub mfu: Option<f64>,
    /// Share of `product_tflops`.
    pub mfu_measured: Option<f64>,
    /// Rate of a large square product on the same device in the same precision, in 1e12 operations a second.
    pub product_tflops: Option<f64>,
    /// Bytes of all buffers.
    pub plan_bytes: u64,
    /// Bytes in buffers after the samples, by the allocator; null on the CPU and beside another program.
    pub allocated_bytes: Option<u64>,
    /// Bytes that the allocator has then set aside on the device.
    pub reserved_bytes: Option<u64>,
    /// One more update by kernel, slowest first; empty unless asked for.
    pub kernels: Vec<KernelRow>,
}

/// The dispatches of one form of a kernel in an update.
#[derive(Clone, Debug, Serialize)]
pub struct KernelRow {
    /// Stem, and the suffix of a variant: `matmul.coop16`.
    pub name: String,
    /// Time of all of them; on a GPU between timestamps around each.
    pub seconds: f64,
    /// Their number.
    pub calls: u64,
    /// Operations by the formula, in 1e12 a second, where parameters tell them.
    pub tflops: Option<f64>,
    /// Bytes read and written at least, in 1e9 a second, where parameters tell them.
    pub gigabytes_a_second: Option<f64>,
}

impl Report {
    /// Sets the shares of a stated peak and of a measured product, both in 1e12 operations a second.
    pub fn hold_against(&mut self, peak: Option<f64>, product: Option<f64>) {
        let share = |whole: f64| self.tflops / whole;
        (self.mfu, self.mfu_measured, self.product_tflops) = (peak.map(share), product.map(share), product);
    }
}

/// A session of a preset with random tokens, ready to run updates.
pub struct Bench<'d> {
    device: &'d Device,
    session: Session,
    config: Config,
}

impl<'d> Bench<'d> {
    /// Builds the program of `config` on `device` and loads start values; refused if its plan exceeds `cap` bytes.
    pub fn new(config: &Config, device: &'d Device, cap: Option<u64>) -> Result<Self> {
        let size = BatchSize { batch: config.train.micro_batch, length: config.train.sequence_length };
        let options = ProgramOptions {
            size,
            binding_limit: device.binding_limit(),
            optimizer: Some(config.optimizer.clone()),
            logit_rows: None,
            stored: device.stored(),
            recompute: config.train.recompute,
        };
        let program = Program::new(&config.model, &adapted(&config.model, &config.lora), &options);
        let mut session = Session::new(program, device, cap)?;
        session.load(start_values(1))?;
        let ids = indices(1, size.tokens(), config.model.vocab_size as u32);
        let targets = indices(2, size.tokens(), config.model.vocab_size as u32);
        let mut batch = Batch::new(ids, targets, size.batch, size.length);
        batch.set_weight(batch.counted() * config.train.accumulation);
        session.feed(&batch)?;
        session.set_sequences(size.batch * config.train.accumulation)?;
        Ok(Bench { device, session, config: config.clone() })
    }

    /// Bytes of all buffers, those for transfers among them.
    pub fn plan_bytes(&self) -> u64 {
        let plan = self.session.program.plan();
        plan.bytes() + self.device.staging(&plan)
    }

    /// Runs a few updates, which compile, touch every buffer and settle the loss scale, and more until the clock is
    /// steady.
    fn warm_up(&mut self) -> Result<()> {
        let least = match self.device {
            Device::Gpu { gpu, .. } => settling(gpu),
            Device::Cpu { .. } => 0.0,
        };
        let started = Instant::now();
        (0..3).try_for_each(|_| self.updates(1).map(drop))?;
        while started.elapsed().as_secs_f64() < least {
            self.updates(1)?;
        }
        Ok(())
    }

    /// Seconds of one update, averaged over `count`; waits for the device before and after.
    fn updates(&mut self, count: usize) -> Result<f64> {
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
        self.warm_up()?;
        let seconds = (0..samples).map(|_| self.updates(count)).collect::<Result<Vec<f64>>>()?;
        let mut report = self.report(seconds);
        if let Some([allocated, reserved]) = self.session.executor().allocated() {
            (report.allocated_bytes, report.reserved_bytes) = (Some(allocated), Some(reserved));
        }
        if profile {
            report.kernels = self.kernels()?;
        }
        Ok(report)
    }

    fn report(&self, seconds: Vec<f64>) -> Report {
        let seconds = Seconds::of(seconds);
        let train = &self.config.train;
        let rate = self.tokens() / seconds.median;
        Report {
            batch: [train.micro_batch, train.sequence_length, train.accumulation],
            seconds,
            tokens_per_second: rate,
            tflops: self.config.model.training_flops_per_token(train.sequence_length) * rate / 1e12,
            mfu: None,
            mfu_measured: None,
            product_tflops: None,
            plan_bytes: self.plan_bytes(),
            allocated_bytes: None,
            reserved_bytes: None,
            kernels: Vec::new(),
        }
    }

    /// Tokens of an update.
    fn tokens(&self) -> f64 {
        let train = &self.config.train;
        (train.micro_batch * train.sequence_length * train.accumulation) as f64
    }

    /// Profiles one update.
    fn kernels(&mut self) -> Result<Vec<KernelRow>> {
        self.session.executor().profile()?;
        self.updates(1)?;
        let costs = self.costs();
        let row = |(name, seconds, calls): (String, f64, u64)| {
            let cost = costs.get(&name).copied().unwrap_or_default();
            let rate = |amount: Option<f64>, unit: f64| amount.map(|x| x / seconds.max(1e-12) / unit);
            let (tflops, gigabytes_a_second) = (rate(cost.flops, 1e12), rate(cost.bytes, 1e9));
            KernelRow { name, seconds, calls, tflops, gigabytes_a_second }
        };
        Ok(self.session.executor().profiled().into_iter().map(row).collect())
    }

    /// What the dispatches of an update cost, by form.
    fn costs(&self) -> HashMap<String, Cost> {
        let program = &self.session.program;
        let mut costs: HashMap<String, Cost> = HashMap::new();
        let later = self.config.train.accumulation - 1;
        for (name, times) in [(RESET, 1), (FIRST_MICRO_STEP, 1), (MICRO_STEP, later), (UPDATE, 1)] {
            for step in &program.recordings[program.recording(name)].steps {
                let sizes: Vec<usize> = step.tensors.iter().map(|&tensor| program.tensors.elements(tensor)).collect();
                let one = cost(step.kernel, &step.params, step.halves, &sizes);
                let sum = costs.entry(self.form(step)).or_default();
                let add =
                    |old: Option<f64>, new: Option<f64>| new.map(|new| old.unwrap_or(0.0) + times as f64 * new).or(old);
                *sum = Cost { flops: add(sum.flops, one.flops), bytes: add(sum.bytes, one.bytes) };
            }
        }
        costs
    }

    /// Name of what runs `step` on this device.
    fn form(&self, step: &Step) -> String {
        match self.device {
            Device::Gpu { allowed, .. } => allowed.choose(step.kernel, &step.params, step.halves).form(step.kernel),
            Device::Cpu { .. } => step.kernel.stem.to_owned(),
        }
    }
}

/// Warms both up, takes their samples by turns, each of which begins every other time, and compares pair by pair.
/// The ratio is that of tokens a second, `b` over `a`.
pub fn compare(mut a: Bench<'_>, mut b: Bench<'_>, samples: usize, count: usize) -> Result<([Report; 2], Ratio)> {
    a.warm_up()?;
    b.warm_up()?;
    let [mut of_a, mut of_b] = [Vec::new(), Vec::new()];
    for i in 0..samples {
        if i % 2 == 0 {
            of_a.push(a.updates(count)?);
            of_b.push(b.updates(count)?);
        } else {
            of_b.push(b.updates(count)?);
            of_a.push(a.updates(count)?);
        }
    }
    let work = b.tokens() / a.tokens();
    let ratio = Ratio::of(of_a.iter().zip(&of_b).map(|(a, b)| work * a / b).collect());
    Ok(([a.report(of_a), b.report(of_b)], ratio))
}
