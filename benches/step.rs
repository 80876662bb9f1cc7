//! Time of whole updates: forward, backward, norm, clip, AdamW. `cargo bench --bench step -- [PRESET] [auto|gpu|cpu]`
//!
//! Prints the median of several samples, each of several updates, with the device idle before and after. It cannot show
//! what reading data, evaluation, samples and checkpoints cost in a run, nor how two settings compare: run them in turn.

use clap::ValueEnum;
use hadal::backend::{Backend, Device};
use hadal::config::Config;
use hadal::data::Batch;
use hadal::error::{Error, Result};
use hadal::kernels::case::indices;
use hadal::model::inputs::BatchSize;
use hadal::model::params::{initial, parameters};
use hadal::model::program::{MICRO_STEP, Program, ProgramOptions, RESET, UPDATE};
use hadal::train::session::Session;
use std::time::Instant;

const SAMPLES: usize = 7;
const UPDATES: u64 = 5;

fn main() -> Result<()> {
    // Cargo passes --bench on.
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let preset = args.first().map_or("tiny", String::as_str);
    let backend = Backend::from_str(args.get(1).map_or("auto", String::as_str), true).map_err(Error::Usage)?;
    let config = Config::resolve(Some(preset), &[])?;
    let size = BatchSize { batch: config.train.micro_batch, length: config.train.sequence_length };
    let device = Device::open(backend, None, config.train.precision)?;
    let options = ProgramOptions {
        size,
        binding_limit: device.binding_limit(),
        optimizer: Some(config.optimizer.clone()),
        logit_rows: None,
        stored: device.stored(),
        recompute: config.train.recompute,
    };
    let program = Program::new(&config.model, &parameters(&config.model), &options);
    let mut session = Session::new(program, &device, None)?;
    session.load(|spec| Ok(initial(spec, 1)))?;
    let ids = indices(1, size.tokens(), config.model.vocab_size as u32);
    let targets = indices(2, size.tokens(), config.model.vocab_size as u32);
    let mut batch = Batch::new(ids, targets, size.batch, size.length);
    batch.set_weight(batch.counted());
    session.feed(&batch)?;
    session.set_sequences(size.batch)?;
    updates(&mut session)?; // compiles, and touches every buffer
    let mut seconds = (0..SAMPLES).map(|_| updates(&mut session)).collect::<Result<Vec<f64>>>()?;
    seconds.sort_by(f64::total_cmp);
    let (fastest, median, slowest) = (seconds[0], seconds[SAMPLES / 2], seconds[SAMPLES - 1]);
    let rate = size.tokens() as f64 / median;
    println!("{preset}, {} x {} tokens, on {}", size.batch, size.length, device.describe());
    println!("update: median {median:.4} s of {SAMPLES} samples, from {fastest:.4} to {slowest:.4}");
    let flops = config.model.training_flops_per_token(size.length) * rate;
    println!("{rate:.0} tokens/s, {:.3} TFLOP/s by the closed form of `hadal plan`", flops / 1e12);
    Ok(())
}

/// Seconds of one update, averaged over a few; waits for the device before and after.
fn updates(session: &mut Session) -> Result<f64> {
    session.metrics()?;
    let started = Instant::now();
    for step in 0..UPDATES {
        session.run(RESET)?;
        session.set_keys(1, step, 0)?;
        session.set_learning_rate(1e-4)?;
        session.run(MICRO_STEP)?;
        session.run(UPDATE)?;
    }
    session.metrics()?;
    Ok(started.elapsed().as_secs_f64() / UPDATES as f64)
}
