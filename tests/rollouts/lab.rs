//! One program that trains, draws, and measures what was drawn.

use super::common;
use super::models::Fixture;
use hadal::chat::Encoded;
use hadal::chat::pack::row;
use hadal::config::lora::LoraConfig;
use hadal::config::train::{OptimizerConfig, Recompute};
use hadal::data::batch::{Batch, Row};
use hadal::generate::{Completion, Engine, Event, Finish, Generator, GeneratorOptions, Request};
use hadal::gpu::device::Gpu;
use hadal::gpu::executor::GpuExecutor;
use hadal::gpu::pipeline::Allowed;
use hadal::graph::objective::Objective;
use hadal::graph::run_cpu::CpuExecutor;
use hadal::graph::tape::Tape;
use hadal::graph::{Dtype, Executor, Recording, Tensor, Tensors};
use hadal::model::decoder::Decoder;
use hadal::model::inputs::BatchSize;
use hadal::model::lora::adapted;
use hadal::model::params::parameters;
use hadal::model::program::{FIRST_MICRO_STEP, Program, ProgramOptions, RESET, UPDATE};
use hadal::model::transformer;
use hadal::model::weights::Weights;
use hadal::train::session::Session;
use std::sync::Arc;

/// Temperature of the draws, and of the log-probabilities.
pub const TEMPERATURE: f64 = 0.7;
/// Fewer slots than requests, prompts longer than a pass together.
pub const OPTIONS: GeneratorOptions = GeneratorOptions { slots: 3, capacity: LENGTH, chunk: 12, known: 17 };
pub const ROWS: usize = 6;
const LENGTH: usize = 24;
/// Log-probabilities by the trained weights, and by frozen ones.
pub const SCORE: &str = "score";
pub const REFERENCE: &str = "reference";

/// Where tests run: no adapter stands for the CPU.
pub type Place = Option<Arc<Gpu>>;

pub fn places(stored: Dtype) -> Vec<Place> {
    let adapter = common::gpu().filter(|gpu| stored == Dtype::F32 || gpu.summary.has_f16());
    [None].into_iter().chain(adapter.map(Some)).collect()
}

pub fn executor(place: &Place, tensors: &Tensors, recordings: &[Recording]) -> Box<dyn Executor> {
    match place {
        None => Box::new(CpuExecutor::<f32>::new(tensors, recordings)),
        Some(gpu) => Box::new(GpuExecutor::new(gpu.clone(), tensors, recordings, &Allowed::portable()).unwrap()),
    }
}

/// The program, its weights and its engine.
pub struct Lab {
    pub fixture: Fixture,
    pub session: Session,
    pub engine: Engine,
    /// Logits of the pass that takes prompts in.
    first: Tensor,
    score: Objective,
    pub frozen: Weights,
    reference: Objective,
}

/// Records the log-probabilities by `weights` of what the program is fed.
fn record(program: &mut Program, name: &'static str, weights: &Weights, limit: u64) -> Objective {
    let objective = Objective::new(&mut program.tensors, program.inputs.size.tokens(), None);
    let mut t = Tape::evaluation(&mut program.tensors, limit).storing(program.stored);
    let h = transformer::hidden(&mut t, &program.config, weights, &program.inputs, Recompute::None);
    let h = t.scale(h, (1.0 / TEMPERATURE) as f32);
    t.head_loss(h, transformer::head(&program.config, weights), program.inputs.loss, Some(objective));
    let recording = t.finish(name);
    program.recordings.push(recording);
    objective
}

impl Lab {
    /// The fixture's weights are trained, frozen ones in the same table are zeros. Beside adapters the decoder reads
    /// the frozen ones.
    pub fn new(fixture: Fixture, stored: Dtype, place: &Place, lora: &LoraConfig) -> Lab {
        let (config, limit) = (&fixture.config, fixture.binding_limit);
        let size = BatchSize { batch: ROWS, length: LENGTH };
        let (optimizer, recompute) = (Some(OptimizerConfig::default()), Recompute::None);
        let options = ProgramOptions { size, binding_limit: limit, optimizer, logit_rows: None, stored, recompute };
        let mut program = Program::new(config, &adapted(config, lora), &options);
        let frozen = Weights::frozen(&mut program.tensors, &parameters(config), limit, stored, "reference.");
        let trained = program.weights.clone();
        let score = record(&mut program, SCORE, &trained, limit);
        let reference = record(&mut program, REFERENCE, &frozen, limit);
        let read = if lora.is_on() { frozen.clone() } else { trained.read() };
        let Program { tensors, recordings, .. } = &mut program;
        let decoder = Decoder::add(tensors, recordings, config, read, OPTIONS.decoder(limit, stored));
        let first = decoder.prefill.draw.logits;
        let executor = executor(place, tensors, recordings);
        let mut session = Session::on(program, executor).unwrap();
        session.load(|spec, values| copy(&fixture.params[&spec.name], values)).unwrap();
        Lab { fixture, session, engine: Engine::new(decoder), first, score, frozen, reference }
    }

    /// Writes what is trained, adapters merged, into the frozen weights.
    pub fn freeze(&mut self) {
        for (i, parameter) in self.frozen.all.iter().enumerate() {
            let trained = &self.session.program.weights.all;
            let at = trained.iter().position(|p| p.spec.name == parameter.spec.name).unwrap();
            let values = self.session.merged(at).unwrap();
            self.frozen.load_parameter(self.session.executor(), i, &values).unwrap();
        }
    }

    pub fn generate(&mut self, requests: &[Request]) -> Vec<Completion> {
        self.engine.generate(self.session.executor(), requests).unwrap()
    }

    /// What one request gets, alone, and its log-probabilities by the sampler.
    pub fn drawn(&mut self, request: &Request) -> (Vec<u32>, Vec<f64>) {
        let executor = self.session.executor();
        let row = |logits: Vec<f32>| logits[..self.fixture.config.vocab_size].to_vec();
        self.engine.submit(request.clone()).unwrap();
        let mut completion = Completion::default();
        let mut logits = Vec::new();
        while !self.engine.is_idle() {
            for event in self.engine.advance(executor).unwrap() {
                match event {
                    Event::Token { token, .. } => completion.tokens.push(token),
                    Event::Done { finish, .. } => completion.finish = finish,
                }
            }
            if logits.is_empty() {
                logits.push(row(executor.download(self.first).unwrap()));
            }
            logits.push(row(self.engine.logits(executor).unwrap())); // of the pass that this call ran
        }
        self.engine.generate(executor, &[]).unwrap(); // lets what is on its way arrive
        let tokens = whole(&completion);
        let log_probs = tokens.iter().zip(logits).map(|(&token, logits)| log_prob(&logits, token)).collect();
        (tokens, log_probs)
    }

    /// Log-probabilities of each completion's tokens by the recording called `name`, and the losses of all positions.
    pub fn measured(
        &mut self,
        name: &str,
        requests: &[Request],
        completions: &[Completion],
    ) -> (Vec<Vec<f64>>, Vec<f32>) {
        let batch = batch(requests, completions);
        self.session.feed(&batch).unwrap();
        self.session.run(name).unwrap();
        let objective = if name == SCORE { self.score } else { self.reference };
        let all = self.session.read(objective.log_probs).unwrap();
        let of = |(i, (request, completion)): (usize, (&Request, &Completion))| {
            let first = i * LENGTH + request.prompt.len() - 1;
            all[first..first + whole(completion).len()].iter().map(|&x| f64::from(x)).collect()
        };
        let rows = requests.iter().zip(completions).enumerate().map(of).collect();
        (rows, self.session.read(self.session.program.inputs.loss.losses).unwrap())
    }

    /// A generator with a copy of what is trained.
    pub fn generator(&mut self, place: &Place) -> Generator {
        let (config, stored) = (&self.fixture.config, self.session.program.stored);
        let alone = Generator::decoder_of(config, OPTIONS, self.fixture.binding_limit, stored);
        let executor = executor(place, &alone.tensors, &alone.recordings);
        let mut generator = Generator::on(alone, executor);
        for i in 0..self.session.program.weights.all.len() {
            generator.load_parameter(i, &self.session.parameter(i).unwrap()).unwrap();
        }
        generator
    }

    /// One update on what was drawn.
    pub fn update(&mut self, requests: &[Request], completions: &[Completion]) {
        let mut batch = batch(requests, completions);
        batch.set_weight(batch.counted());
        self.session.set_sequences(ROWS).unwrap();
        self.session.set_learning_rate(1e-2).unwrap();
        self.session.feed(&batch).unwrap();
        for name in [RESET, FIRST_MICRO_STEP, UPDATE] {
            self.session.run(name).unwrap();
        }
    }
}

pub fn copy(from: &[f64], to: &mut [f32]) -> hadal::error::Result<()> {
    to.iter_mut().zip(from).for_each(|(value, &x)| *value = x as f32);
    Ok(())
}

/// The tokens of an answer and the one that ended it.
pub fn whole(completion: &Completion) -> Vec<u32> {
    let end = match completion.finish {
        Finish::Stop(token) => Some(token),
        Finish::Length => None,
    };
    completion.tokens.iter().copied().chain(end).collect()
}

fn log_prob(logits: &[f32], token: u32) -> f64 {
    let scaled: Vec<f64> = logits.iter().map(|&x| f64::from(x) / TEMPERATURE).collect();
    let largest = scaled.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    scaled[token as usize] - largest - scaled.iter().map(|x| (x - largest).exp()).sum::<f64>().ln()
}

/// Prompts and answers, a row each; answers alone have targets.
fn batch(requests: &[Request], completions: &[Completion]) -> Batch {
    let made = |(request, completion): (&Request, &Completion)| {
        let ids: Vec<u32> = request.prompt.iter().copied().chain(whole(completion)).collect();
        let counted = (0..ids.len()).map(|i| i >= request.prompt.len()).collect();
        row([&Encoded { ids, counted }], LENGTH)
    };
    let rows: Vec<Row> = requests.iter().zip(completions).map(made).collect();
    Batch::of_rows(&rows, ROWS)
}
