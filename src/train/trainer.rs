//! The training loop: windows of micro-steps, updates, evaluation, samples, checkpoints.

use super::checkpoint::{self, TrainerState};
use super::journal::Journal;
use super::pace::Pace;
use super::progress::Progress;
use super::rotation;
use super::rows::{ExpertLoad, Row, TrainRow, ValRow};
use super::schedule::learning_rate;
use super::session::{Metrics, Session};
use super::window::{validation, weigh, window};
use crate::config::Config;
use crate::data::Dataset;
use crate::data::batch::Batch;
use crate::data::prefetch::prefetch;
use crate::error::{Error, Result};
use crate::graph::Dtype;
use crate::kernels::state;
use crate::model::program::{FIRST_MICRO_STEP, MICRO_STEP, RESET, UPDATE};
use crate::plot;
use crate::sample::{Sampler, Sampling};
use crate::stop::{Signal, Stop};
use crate::terminal::{note, printable};
use crate::tokenizer::Tokenizer;
use std::collections::VecDeque;
use std::sync::mpsc::Receiver;
use std::thread::JoinHandle;

/// Updates in a row whose gradient is not finite before the run stops.
const NON_FINITE_LIMIT: u32 = 5;
/// Updates that the host may run ahead of the results it has read.
const AHEAD: usize = 2;
/// Tokens of a sample.
const SAMPLE_TOKENS: usize = 120;

/// An update whose results have not been read yet.
struct Waiting {
    step: u64,
    learning_rate: f64,
    targets: u64,
}

/// What is read of an update, in this order; its tag is [`PARTS`] times the update's number plus this.
const METRICS: u64 = 0;
const LOADS: u64 = 1;
const RESULT: u64 = 2;
const PARTS: u64 = 3;

/// What has arrived of the oldest update so far.
#[derive(Default)]
struct Arrived {
    metrics: Option<Metrics>,
    /// Pairs of each expert, layer by layer.
    loads: Vec<f32>,
}

/// One training run.
pub struct Trainer<'a> {
    config: &'a Config,
    session: Session,
    dataset: &'a Dataset,
    tokenizer: &'a Tokenizer,
    journal: Journal,
    progress: Progress,
    state: TrainerState,
    /// Step of the newest checkpoint, if this run made it or began there.
    saved: Option<u64>,
    stop: Stop,
    waiting: VecDeque<Waiting>,
    arrived: Arrived,
    pace: Pace,
    non_finite: u32,
    validation: Vec<Batch>,
    sampler: Option<Sampler>,
    /// A picture in the making.
    drawing: Option<JoinHandle<Result<()>>>,
    /// Step and loss of the last validation.
    evaluated: Option<(u64, f64)>,
    /// Validation losses: of the first weights, and the last one.
    last_losses: (Option<f64>, Option<f64>),
}

/// How a run ended.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// Validation loss of the weights that the run began with, unless it went on from a checkpoint.
    pub first_loss: Option<f64>,
    /// Last validation loss.
    pub val_loss: Option<f64>,
    /// Updates done.
    pub steps: u64,
}

impl<'a> Trainer<'a> {
    /// A run on `session` that starts or goes on at `state`.
    pub fn new(
        config: &'a Config,
        session: Session,
        dataset: &'a Dataset,
        tokenizer: &'a Tokenizer,
        journal: Journal,
        state: TrainerState,
        sampler: Option<Sampler>,
    ) -> Result<Self> {
        let validation = validation(config, dataset)?;
        let progress = Progress::new(state.step, config.train.steps, config.log.interval);
        Ok(Trainer {
            validation,
            saved: (state.step > 0).then_some(state.step),
            stop: Stop::listen()?,
            config,
            session,
            dataset,
            tokenizer,
            journal,
            progress,
            state,
            waiting: VecDeque::new(),
            arrived: Arrived::default(),
            pace: Pace::default(),
            non_finite: 0,
            sampler,
            drawing: None,
            evaluated: None,
            last_losses: (None, None),
        })
    }

    /// Trains to the configured number of updates; with `profile`, prints the time of each kernel at the end. If a
    /// signal asks to stop, what is learnt is saved first, and the error names the signal.
    pub fn run(self, profile: bool) -> Result<Outcome> {
        let (config, dataset) = (self.config, self.dataset);
        std::thread::scope(|scope| {
            let windows = prefetch(scope, self.state.step..config.train.steps, |step| window(config, dataset, step));
            self.train(&windows, profile)
        })
    }

    fn train(mut self, windows: &Receiver<Result<Vec<Batch>>>, profile: bool) -> Result<Outcome> {
        let train = &self.config.train;
        if self.state.step == 0 {
            self.evaluate(0)?;
        }
        self.pace.restart(self.state.tokens);
        for step in self.state.step..train.steps {
            // The thread makes a window for every step, unless it broke off with a panic.
            let window = windows.recv().map_err(|_| Error::Usage("the next batch could not be made".to_owned()))??;
            self.update(step, window)?;
            if let Some(signal) = self.stop.requested() {
                return self.interrupt(signal);
            }
            let done = step + 1;
            self.collect(self.waiting.len() > AHEAD)?;
            let due = |interval: u64| done == train.steps || (interval > 0 && done.is_multiple_of(interval));
            if due(train.eval_interval) {
                self.collect_all()?;
                self.evaluate(done)?;
            }
            if train.sample_interval > 0 && due(train.sample_interval) {
                self.collect_all()?;
                self.sample(done)?;
            }
            if due(train.checkpoint_interval) {
                self.collect_all()?;
                self.save()?;
            }
            if due(self.config.log.plot_interval) {
                self.draw()?;
            }
        }
        self.collect_all()?;
        self.finish_drawing()?;
        self.progress.finish();
        if profile {
            print_profile(&self.session.executor().profiled());
        }
        let (first_loss, val_loss) = self.last_losses;
        Ok(Outcome { first_loss, val_loss, steps: self.state.step })
    }

    /// Saves all updates that were finished; an unfinished window begins anew when the run goes on.
    fn interrupt(mut self, signal: Signal) -> Result<Outcome> {
        self.collect_all()?;
        let step = self.state.step;
        if step > 0 {
            if self.saved != Some(step) {
                self.save()?;
            }
            self.draw()?;
            self.finish_drawing()?;
        }
        self.progress.finish();
        Err(Error::Stopped { signal, step, folder: self.journal.folder().to_owned() })
    }

    /// One window and its update; does not wait for the device. Leaves a window unfinished if a signal asks to stop.
    fn update(&mut self, step: u64, mut window: Vec<Batch>) -> Result<()> {
        let train = &self.config.train;
        let (batch, passes) = (train.micro_batch, train.accumulation);
        let targets = weigh(&mut window, train.loss_reduction);
        let rate = learning_rate(self.config, step);
        self.session.run(RESET)?;
        self.session.set_sequences(batch * passes)?;
        self.session.set_learning_rate(rate)?;
        for (i, micro) in window.iter().enumerate() {
            self.session.set_keys(train.seed, step, i as u64)?;
            self.session.feed(micro)?;
            self.session.run(if i == 0 { FIRST_MICRO_STEP } else { MICRO_STEP })?;
            if i + 1 < window.len() && self.stop.requested().is_some() {
                return Ok(());
            }
        }
        self.session.run(UPDATE)?;
        let inputs = &self.session.program.inputs;
        let (metrics, loads, result) = (inputs.loss.metrics, inputs.expert_loads, inputs.loss.result);
        for (part, tensor) in [(METRICS, Some(metrics)), (LOADS, loads), (RESULT, Some(result))] {
            if let Some(tensor) = tensor {
                self.session.executor().read_later(tensor, PARTS * step + part)?;
            }
        }
        self.waiting.push_back(Waiting { step, learning_rate: rate, targets: targets as u64 });
        Ok(())
    }

    fn collect_all(&mut self) -> Result<()> {
        while !self.waiting.is_empty() {
            self.collect(true)?;
        }
        Ok(())
    }

    /// Turns results that have arrived into rows; with `wait`, waits for the oldest.
    fn collect(&mut self, wait: bool) -> Result<()> {
        for (tag, words) in self.session.executor().arrived(wait)? {
            match tag % PARTS {
                METRICS => self.arrived.metrics = Some(Metrics::of(&words)),
                LOADS => self.arrived.loads = words,
                _ => {
                    let Arrived { metrics, loads } = std::mem::take(&mut self.arrived);
                    let (Some(metrics), Some(done)) = (metrics, self.waiting.pop_front()) else { continue };
                    self.record(&done, &metrics, &loads, &words)?;
                }
            }
        }
        Ok(())
    }

    fn record(&mut self, done: &Waiting, metrics: &Metrics, loads: &[f32], result: &[f32]) -> Result<()> {
        self.state.step = done.step + 1;
        self.state.tokens = self.state.tokens.saturating_add(done.targets);
        let rate = self.pace.rate(self.state.tokens);
        let (expert_load, dropped) = self.spread(loads);
        let row = TrainRow {
            step: self.state.step,
            loss: metrics.loss(),
            balance_loss: metrics.balance,
            lr: done.learning_rate,
            grad_norm: f64::from(result[state::RESULT_NORM]),
            tokens: self.state.tokens,
            tokens_per_second: rate,
            loss_scale: f64::from(result[state::RESULT_LOSS_SCALE]),
            skipped: result[state::RESULT_SKIPPED] as u64,
            expert_load,
            dropped,
        };
        if let Some(line) = self.progress.update(&row) {
            self.journal.log(&line)?;
        }
        self.journal.record(&Row::Train(row))?;
        if result[state::RESULT_FINITE] == 1.0 {
            self.non_finite = 0;
            return Ok(());
        }
        let (step, scale) = (self.state.step, result[state::RESULT_LOSS_SCALE]);
        if self.session.program.stored == Dtype::F16 && scale > 1.0 {
            // Too large a scale, as at the beginning of a run in mixed precision: it halves until gradients fit.
            return self.say(&format!("step {step}: a gradient overflowed; update skipped, loss scale now {scale}"));
        }
        self.non_finite += 1;
        self.say(&format!("step {step}: the gradient is not finite; the update was skipped"))?;
        match self.non_finite {
            NON_FINITE_LIMIT => Err(Error::Numerics(format!(
                "step {step}: {NON_FINITE_LIMIT} gradients in a row were not finite; lower optimizer.learning_rate \
                 and go on from the last checkpoint with --resume"
            ))),
            _ => Ok(()),
        }
    }

    /// How evenly a window fell on the experts, and how many pairs of a token and an expert are missing.
    fn spread(&self, loads: &[f32]) -> (Vec<ExpertLoad>, u64) {
        let (model, train) = (&self.config.model, &self.config.train);
        let layers = (0..model.num_hidden_layers).filter(|&layer| model.is_moe(layer));
        let rows = layers.zip(loads.chunks(model.n_routed_experts.max(1)));
        let spread: Vec<ExpertLoad> = rows.map(|(layer, pairs)| ExpertLoad::of(layer, pairs)).collect();
        let tokens = train.accumulation * train.micro_batch * train.sequence_length;
        let expected = spread.len() * tokens * model.num_experts_per_tok;
        let taken: f64 = loads.iter().map(|&x| f64::from(x)).sum();
        (spread, (expected as f64 - taken).max(0.0) as u64)
    }

    fn say(&mut self, line: &str) -> Result<()> {
        self.progress.say(line);
        self.journal.log(line)
    }

    fn evaluate(&mut self, step: u64) -> Result<()> {
        if self.validation.is_empty() {
            return Ok(());
        }
        let metrics = self.session.evaluate(&self.validation)?;
        let loss = metrics.loss();
        let bits_per_byte = loss / std::f64::consts::LN_2 / self.dataset.bytes_per_token();
        let row = ValRow { step, loss, bits_per_byte, token_accuracy: metrics.accuracy() };
        self.journal.record(&Row::Val(row))?;
        self.last_losses.1 = Some(loss);
        if step == 0 {
            self.last_losses.0 = Some(loss);
        }
        self.say(&format!(
            "step {step}: validation loss {loss:.4} nats a token, {bits_per_byte:.4} bits a byte, accuracy {:.1} %",
            100.0 * metrics.accuracy()
        ))?;
        self.evaluated = Some((step, loss));
        self.pace.restart(self.state.tokens); // the rate counts training alone
        Ok(())
    }

    fn sample(&mut self, step: u64) -> Result<()> {
        let Some(sampler) = &mut self.sampler else { return Ok(()) };
        for i in 0..self.session.program.weights.all.len() {
            let values = self.session.parameter(i)?;
            sampler.load_parameter(i, &values)?;
        }
        let prompt = &self.config.train.sample_prompt;
        let sampling = Sampling { seed: self.config.train.seed ^ step, ..Sampling::default() };
        let text = sampler.text(self.tokenizer, prompt, SAMPLE_TOKENS, &sampling)?;
        self.journal.sample(step, &text)?;
        self.say(&format!("step {step}: sample: {}", printable(&text.trim().replace('\n', " "))))?;
        self.pace.restart(self.state.tokens);
        Ok(())
    }

    fn save(&mut self) -> Result<()> {
        let run = self.journal.folder().to_owned();
        // The best of those that can be gone back to: a checkpoint that was not validated is none of them.
        let loss = self.evaluated.and_then(|(step, loss)| (step == self.state.step).then_some(loss));
        let best = loss.filter(|&loss| self.state.best_val_loss.is_none_or(|best| loss < best));
        self.state.best_val_loss = best.or(self.state.best_val_loss);
        checkpoint::save(&run, &mut self.session, self.tokenizer, &self.state)?;
        if best.is_some() {
            rotation::mark_best(&run, self.state.step)?;
        }
        rotation::rotate(&run, self.state.step, &self.config.train)?;
        self.saved = Some(self.state.step);
        self.pace.restart(self.state.tokens);
        Ok(())
    }

    /// Begins to draw the rows so far; training goes on meanwhile.
    fn draw(&mut self) -> Result<()> {
        self.finish_drawing()?;
        let (folder, entropy) = (self.journal.folder().to_owned(), self.dataset.entropy_per_token());
        self.drawing = Some(std::thread::spawn(move || plot::draw_run(&folder, entropy)));
        Ok(())
    }

    fn finish_drawing(&mut self) -> Result<()> {
        let Some(drawing) = self.drawing.take() else { return Ok(()) };
        drawing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

/// One line a kernel, slowest first.
fn print_profile(rows: &[(String, f64, u64)]) {
    let total: f64 = rows.iter().map(|(_, seconds, _)| seconds).sum();
    for (stem, seconds, calls) in rows {
        let share = 100.0 * seconds / total.max(f64::MIN_POSITIVE);
        note(format_args!("{stem:<28} {seconds:>10.4} s {share:>5.1} % {calls:>8} calls"));
    }
}
