//! The training loop: windows of micro-steps, updates, evaluation, samples, checkpoints.

use super::answers::Answers;
use super::checkpoint::TrainerState;
use super::journal::Journal;
use super::lessons::Lessons;
use super::micro::Micro;
use super::numbers;
use super::pace::Pace;
use super::progress::Progress;
use super::results::{Arrived, LOADS, METRICS, OBJECTIVE, PARTS, RESULT, SCORES, Waiting};
use super::rows::{Row, ValRow};
use super::saving::Saving;
use super::schedule::learning_rate;
use super::session::Session;
use super::spare::Spare;
use super::start::{Machine, Source};
use super::window::weigh;
use crate::checkpoint::draft::{Disk, SystemDisk};
use crate::config::Config;
use crate::data::prefetch::prefetch;
use crate::error::{Error, Result};
use crate::generate::{Generator, Request, Sampling};
use crate::model::lora::is_adapter;
use crate::model::program::{FIRST_MICRO_STEP, MICRO_STEP, RESET, UPDATE};
use crate::plot;
use crate::stop::{Signal, Stop};
use crate::terminal::{note, printable, quoted};
use crate::tokenizer::Tokenizer;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::thread::JoinHandle;

/// Updates that the host may run ahead of the results it has read.
const AHEAD: usize = 2;
/// Tokens of a sample.
pub const SAMPLE_TOKENS: usize = 120;

/// One training run.
pub struct Trainer<'a> {
    pub(super) config: &'a Config,
    pub(super) source: &'a mut dyn Source,
    pub(super) session: Session,
    pub(super) lessons: Lessons<'a>,
    pub(super) tokenizer: &'a Tokenizer,
    pub(super) journal: Journal,
    pub(super) progress: Progress,
    pub(super) state: TrainerState,
    /// Step of the newest checkpoint, if this run made it or began there.
    pub(super) saved: Option<u64>,
    pub(super) stop: Stop,
    pub(super) waiting: VecDeque<Waiting>,
    pub(super) arrived: Arrived,
    pub(super) pace: Pace,
    pub(super) device_retries: u32,
    pub(super) validation: Vec<Micro>,
    pub(super) sampler: Option<Generator>,
    pub(super) disk: Arc<dyn Disk>,
    /// A checkpoint on its way to the disk, and the lowest validation loss of those before.
    pub(super) saving: Option<(Saving, Option<f64>)>,
    /// Memory for the next checkpoint's copies.
    pub(super) spare: Spare,
    /// A picture in the making.
    pub(super) drawing: Option<JoinHandle<Result<()>>>,
    /// What draws what the run learns from, where it does.
    pub(super) answers: Option<Answers<'a>>,
    /// Step and loss of the last validation; of drawn answers minus the mean reward.
    pub(super) evaluated: Option<(u64, f64)>,
    /// Validation losses: of the first weights, and the last one.
    pub(super) last_losses: (Option<f64>, Option<f64>),
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
    /// A run on `machine`, which is `source`'s and holds the weights and moments, that starts or goes on at `state`.
    pub fn new(
        config: &'a Config,
        source: &'a mut dyn Source,
        Machine { session, sampler }: Machine,
        lessons: impl Into<Lessons<'a>>,
        tokenizer: &'a Tokenizer,
        journal: Journal,
        state: TrainerState,
    ) -> Result<Self> {
        let lessons = lessons.into();
        let validation = lessons.validation(config)?;
        let progress = Progress::new(config.kind(), state.step, config.train.steps, config.log.interval);
        Ok(Trainer {
            validation,
            saved: (state.step > 0).then_some(state.step),
            stop: Stop::listen()?,
            config,
            source,
            session,
            lessons,
            tokenizer,
            journal,
            progress,
            state,
            waiting: VecDeque::new(),
            arrived: Arrived::default(),
            pace: Pace::default(),
            device_retries: 0,
            sampler,
            disk: Arc::new(SystemDisk),
            saving: None,
            spare: Spare::default(),
            drawing: None,
            answers: None,
            evaluated: None,
            last_losses: (None, None),
        })
    }

    /// The same run that learns from answers which it draws.
    pub fn drawing(self, answers: Answers<'a>) -> Self {
        Trainer { answers: Some(answers), ..self }
    }

    /// The same run with its checkpoints on another file system.
    pub fn on_disk(self, disk: Arc<dyn Disk>) -> Self {
        Trainer { disk, ..self }
    }

    /// Trains to the configured number of updates; with `profile`, prints the time of each kernel at the end. If a
    /// signal asks to stop, what is learnt is saved first, and the error names the signal. A device that fails is
    /// opened again, and the run goes on from its newest checkpoint.
    pub fn run(mut self, profile: bool) -> Result<Outcome> {
        let (config, lessons) = (self.config, self.lessons);
        self.check_disk()?;
        let say = self.progress.voice();
        let _acknowledging = self.stop.acknowledge(move |signal| {
            say(&format!("{}: finishing this step and saving; once more ends at once, without", signal.name));
        });
        loop {
            let outcome = std::thread::scope(|scope| {
                let steps = self.state.step..config.train.steps;
                let windows = prefetch(scope, steps, |step| lessons.window(config, step));
                self.train(&windows, profile)
            });
            match outcome {
                Err(error) => self.survive(error)?,
                done => return done,
            }
        }
    }

    fn train(&mut self, windows: &Receiver<Result<Vec<Micro>>>, profile: bool) -> Result<Outcome> {
        let train = &self.config.train;
        if self.state.step == 0 {
            self.evaluate(0)?;
        }
        self.pace.restart(self.state.tokens);
        for step in self.state.step..train.steps {
            let window = match self.draws() {
                true => self.drawn_window(step)?,
                // The thread makes a window for every step, unless it broke off with a panic.
                false => windows.recv().map_err(|_| Error::Usage("the next batch could not be made".to_owned()))??,
            };
            if let Some(signal) = self.stop.requested().filter(|_| window.is_empty()) {
                return self.interrupt(signal);
            }
            self.update(step, window)?;
            if let Some(signal) = self.stop.requested() {
                return self.interrupt(signal);
            }
            let done = step + 1;
            self.collect(self.waiting.len() > AHEAD)?;
            self.watch_saving()?;
            self.foresee_save(done);
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
            // The first picture comes at once: there is something to look at, and its memory is taken at the start.
            if due(self.config.log.plot_interval) || (done == 1 && self.config.log.plot_interval > 0) {
                self.draw();
            }
        }
        self.collect_all()?;
        self.finish_saving()?;
        self.finish_drawing();
        self.progress.finish();
        self.journal.keep();
        self.journal.flush()?;
        if profile {
            print_profile(&self.session.executor().profiled());
        }
        let (first_loss, val_loss) = self.last_losses;
        Ok(Outcome { first_loss, val_loss, steps: self.state.step })
    }

    /// Saves all updates that were finished; an unfinished window begins anew when the run goes on.
    fn interrupt(&mut self, signal: Signal) -> Result<Outcome> {
        self.collect_all()?;
        let step = self.state.step;
        if step > 0 {
            if self.saved != Some(step) {
                self.save()?;
            }
            self.finish_saving()?;
            self.draw();
            self.finish_drawing();
            if let Err(e) = self.journal.flush() {
                self.progress.say(&format!("step {step}: {e}"));
            }
        }
        self.progress.finish();
        Err(Error::Stopped { signal, step, again: self.again() })
    }

    /// The command that goes on with the run.
    pub(super) fn again(&self) -> String {
        let folder = quoted(&self.journal.folder().to_string_lossy());
        format!("hadal {} --resume {folder}", self.config.kind().command())
    }

    /// One window and its update; does not wait for the device. Leaves a window unfinished if a signal asks to stop.
    fn update(&mut self, step: u64, mut window: Vec<Micro>) -> Result<()> {
        let targets = weigh(window.iter_mut().map(|micro| &mut micro.batch), self.config.train.loss_reduction);
        let real = window.iter().map(|micro| micro.batch.real_tokens()).sum();
        let seen = window.iter().map(|micro| micro.batch.text_tokens()).sum();
        let rate = self.begin_window(step, &window)?;
        for (i, micro) in window.iter().enumerate() {
            self.feed(step, i, micro)?;
            self.session.run(if i == 0 { FIRST_MICRO_STEP } else { MICRO_STEP })?;
            if i + 1 < window.len() && self.stop.requested().is_some() {
                return Ok(());
            }
        }
        self.session.run(UPDATE)?;
        let inputs = &self.session.program.inputs;
        let (metrics, loads, result) = (inputs.loss.metrics, inputs.expert_loads, inputs.loss.result);
        let [objective, scores] = self.session.program.aims.results().map(|results| results.map(|sums| sums.metrics));
        for (part, tensor) in
            [(METRICS, Some(metrics)), (LOADS, loads), (OBJECTIVE, objective), (SCORES, scores), (RESULT, Some(result))]
        {
            if let Some(tensor) = tensor {
                self.session.executor().read_later(tensor, PARTS * step + part)?;
            }
        }
        let numbers = self.state.rollout.as_ref().map(|drawn| drawn.numbers.clone()).unwrap_or_default();
        self.waiting.push_back(Waiting { step, learning_rate: rate, targets: targets as u64, real, seen, numbers });
        Ok(())
    }

    /// Clears the sums and writes what the update after `step` others needs; gives its learning rate.
    pub(super) fn begin_window(&mut self, step: u64, window: &[Micro]) -> Result<f64> {
        let train = &self.config.train;
        let rate = learning_rate(self.config, step) * self.state.numerics.rate;
        self.session.run(RESET)?;
        self.session.set_sequences(train.micro_batch * window.len())?;
        self.session.set_pairs(window.iter().map(Micro::pairs).sum())?;
        self.session.set_spike_guard(train.spike_guard);
        self.session.set_learning_rate(rate)?;
        Ok(rate)
    }

    /// Writes what micro-step number `i` of the update after `step` others needs.
    pub(super) fn feed(&mut self, step: u64, i: usize, micro: &Micro) -> Result<()> {
        self.session.set_keys(self.config.train.seed, step, i as u64)?;
        self.session.feed_micro(micro)
    }

    pub(super) fn collect_all(&mut self) -> Result<()> {
        while !self.waiting.is_empty() {
            self.collect(true)?;
        }
        Ok(())
    }

    pub(super) fn say(&mut self, line: &str) {
        self.progress.say(line);
        self.journal.log(line);
        self.tell_news();
    }

    /// Says what there is to say of a disk that does not take what is to be recorded.
    pub(super) fn tell_news(&mut self) {
        if let Some(news) = self.journal.news() {
            let line = format!("step {}: {news}", self.state.step);
            self.progress.say(&line);
            self.journal.log(&line);
        }
    }

    fn evaluate(&mut self, step: u64) -> Result<()> {
        if self.draws() {
            return self.validate_answers(step);
        }
        if self.validation.is_empty() {
            return Ok(());
        }
        let (metrics, loss, numbers) = numbers::of_micros(&mut self.session, &self.validation)?;
        let said = match self.lessons {
            Lessons::Rows(dataset) => {
                let bits_per_byte = loss / std::f64::consts::LN_2 / dataset.bytes_per_token();
                let token_accuracy = metrics.accuracy();
                let row = ValRow { step, loss, bits_per_byte, token_accuracy, numbers };
                self.journal.record(&Row::Val(row))?;
                let accuracy = 100.0 * token_accuracy;
                format!("{loss:.4} nats a token, {bits_per_byte:.4} bits a byte, accuracy {accuracy:.1} %")
            }
            _ => {
                let [accuracy, margin] = ["rewards/accuracies", "rewards/margins"].map(|name| numbers[name]);
                self.journal.record(&Row::Val(ValRow::of_stage(step, loss, numbers)))?;
                format!("{loss:.4}, accuracy {:.1} %, margin {margin:.3}", 100.0 * accuracy)
            }
        };
        self.last_losses.1 = Some(loss);
        if step == 0 {
            self.last_losses.0 = Some(loss);
        }
        self.say(&format!("step {step}: validation loss {said}"));
        self.evaluated = Some((step, loss));
        self.pace.restart(self.state.tokens); // the rate counts training alone
        Ok(())
    }

    fn sample(&mut self, step: u64) -> Result<()> {
        let Some(sampler) = &mut self.sampler else { return Ok(()) };
        let all = self.session.program.weights.all.iter().enumerate();
        let whole: Vec<usize> = all.filter(|(_, parameter)| !is_adapter(&parameter.spec)).map(|(i, _)| i).collect();
        for (number, i) in whole.into_iter().enumerate() {
            let values = self.session.merged(i)?;
            sampler.load_parameter(number, &values)?;
        }
        let prompt = &self.config.train.sample_prompt;
        let sampling = Sampling { seed: self.config.train.seed ^ step, ..Sampling::default() };
        let request = Request::text(self.tokenizer, prompt, SAMPLE_TOKENS, sampling);
        let drawn = sampler.generate(&[request])?;
        let drawn: String = drawn.iter().map(|completion| self.tokenizer.decode(&completion.tokens)).collect();
        let text = format!("{prompt}{drawn}");
        self.journal.sample(step, &text);
        self.say(&format!("step {step}: sample: {}", printable(&text.trim().replace('\n', " "))));
        self.pace.restart(self.state.tokens);
        Ok(())
    }

    /// Begins to draw the rows so far; training goes on meanwhile.
    fn draw(&mut self) {
        self.finish_drawing();
        let (folder, entropy) = (self.journal.folder().to_owned(), self.lessons.entropy_per_token());
        self.drawing = Some(std::thread::spawn(move || plot::draw_run(&folder, entropy)));
    }

    /// Waits for the picture in the making. A run does not end because it has none.
    pub(super) fn finish_drawing(&mut self) {
        let Some(drawing) = self.drawing.take() else { return };
        if let Err(e) = drawing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)) {
            self.say(&format!("step {}: {e}; the picture stays as it was", self.state.step));
        }
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
