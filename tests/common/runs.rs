//! Short runs of the trainer on the embedded world, in folders of their own.
#![allow(dead_code, reason = "each test file uses a part of this")]

use hadal::backend::Device;
use hadal::chat::{Encoder, Template};
use hadal::config::Config;
use hadal::config::sft::SftMask;
use hadal::data::Dataset;
use hadal::data::questions::Questions;
use hadal::generate::Engine;
use hadal::gpu::device::Gpu;
use hadal::gpu::pipeline::Allowed;
use hadal::graph::Dtype;
use hadal::kernels::state;
use hadal::model::inputs::BatchSize;
use hadal::model::learning::Learning;
use hadal::model::params::{parameters, start_values};
use hadal::model::program::{Program, ProgramOptions};
use hadal::reward::Rewards;
use hadal::tokenizer::Tokenizer;
use hadal::train::answers::Answers;
use hadal::train::checkpoint;
use hadal::train::journal::{Journal, read_rows};
use hadal::train::place::Place;
use hadal::train::rotation::CHECKPOINTS;
use hadal::train::rows::Row;
use hadal::train::session::Session;
use hadal::train::start::{self, Machine, Source};
use hadal::train::trainer::Trainer;
use std::path::Path;
use std::sync::Arc;

/// A configuration of seconds: two layers, two passes of two rows an update.
pub fn config(steps: u64) -> Config {
    small(None, steps, &[])
}

/// One that draws what it learns from: two updates of each of a batch's halves, answers packed into rows, a row
/// a pass.
pub fn drawing(kind: &str, steps: u64) -> Config {
    let mut config = small(
        Some(kind),
        steps,
        &[
            "train.accumulation=1",
            "train.micro_batch=1",
            "train.sequence_length=64",
            "rollout.max_completion_length=6",
            "rollout.num_iterations=2",
            "rollout.num_mini_batches=2",
            "rollout.eval_prompts=2",
            "task.kind=arithmetic",
            "reward.functions=[\"format\"]",
            "reward.pattern=[ae].*e",
        ],
    );
    config.sft = Some(Default::default());
    if let Some(rollout) = &mut config.rollout {
        (rollout.prompts, rollout.num_generations) = if kind == "grpo" { (2, 4) } else { (8, 1) };
    }
    config
}

/// One that learns from the pairs in a file: two passes of a pair an update.
pub fn paired(kind: &str, steps: u64, data: &Path) -> Config {
    let mut config = small(Some(kind), steps, &["train.sequence_length=48", "optimizer.learning_rate=1e-3"]);
    (config.sft, config.data.path) = (Some(Default::default()), vec![data.to_owned()]);
    config
}

/// The preset `name`, or the default, made small, and `more` over it.
fn small(name: Option<&str>, steps: u64, more: &[&str]) -> Config {
    let sets = [
        "model.hidden_size=32",
        "model.num_hidden_layers=2",
        "model.num_attention_heads=2",
        "model.intermediate_size=48",
        "model.moe_intermediate_size=16",
        "model.aux_loss_alpha=0.01",
        "train.micro_batch=2",
        "train.accumulation=2",
        "train.sequence_length=16",
        "train.eval_batches=2",
        "train.eval_interval=2",
        "train.checkpoint_interval=2",
        "train.keep=0",
        "train.sample_interval=0",
        "schedule.warmup_steps=1",
        "schedule.decay_steps=600", // the same rates, however many steps a run has
        "log.interval=0",
        "log.plot_interval=0",
    ];
    let mut sets: Vec<String> = sets.iter().chain(more).map(|&s| s.to_owned()).collect();
    sets.push(format!("train.steps={steps}"));
    Config::resolve(name, &sets).unwrap()
}

/// The CPU executor.
pub fn cpu() -> Device {
    Device::Cpu { note: String::new() }
}

/// An adapter in f32.
pub fn gpu(gpu: &Arc<Gpu>) -> Device {
    Device::Gpu { gpu: gpu.clone(), allowed: Allowed::portable(), stored: Dtype::F32, note: String::new() }
}

/// An adapter that stores f16, with portable shaders.
pub fn mixed(gpu: &Arc<Gpu>) -> Device {
    Device::Gpu { gpu: gpu.clone(), allowed: Allowed::portable(), stored: Dtype::F16, note: String::new() }
}

/// The program that trains `config`.
pub fn program(config: &Config, device: &Device) -> Program {
    let size = BatchSize { batch: config.train.micro_batch, length: config.train.sequence_length };
    let optimizer = Some(config.optimizer.clone());
    let (binding_limit, stored, recompute) = (device.binding_limit(), device.stored(), config.train.recompute);
    let options = ProgramOptions { size, binding_limit, optimizer, logit_rows: None, stored, recompute };
    let learning = Learning::of(config, config.model.vocab_size, binding_limit, stored);
    let specs = learning.goal.specs(parameters(&config.model), config.model.hidden_size);
    Program::learning(&config.model, &specs, &options, learning)
}

/// A session for `config` without weights.
pub fn session(config: &Config, device: &Device) -> Session {
    Session::new(program(config, device), device, None).unwrap()
}

/// Tokenizer and text of `config`.
pub fn text(config: &Config) -> (Tokenizer, Dataset) {
    let tokenizer = Tokenizer::load(&config.data.tokenizer).unwrap();
    let dataset = Dataset::open(&config.data, &tokenizer, config.train.sequence_length, config.train.seed).unwrap();
    (tokenizer, dataset)
}

/// A device that is opened once.
pub struct Steady<'a> {
    pub config: &'a Config,
    pub device: &'a Device,
}

impl Source for Steady<'_> {
    fn machine(&mut self) -> hadal::error::Result<Machine> {
        Ok(Machine { session: session(self.config, self.device), sampler: None })
    }

    fn first_weights(&mut self, session: &mut Session) -> hadal::error::Result<()> {
        session.load(start_values(self.config.train.seed))
    }

    fn reference(&mut self, session: &mut Session) -> hadal::error::Result<()> {
        load_reference(self.config, session)
    }
}

/// Loads the first weights where the program keeps them as a reference.
pub fn load_reference(config: &Config, session: &mut Session) -> hadal::error::Result<()> {
    let Some(reference) = session.program.reference.clone() else { return Ok(()) };
    reference.load(session.executor(), start_values(config.train.seed))
}

/// A tokenizer that has ChatML's marks, and what makes its tokens of conversations.
pub fn encoder(config: &Config) -> (Tokenizer, Encoder) {
    let tokenizer = Tokenizer::load(&config.data.tokenizer).unwrap();
    let template = Template::chatml(&tokenizer).unwrap();
    (tokenizer.clone(), Encoder::new(template, tokenizer, SftMask::Answers).unwrap())
}

/// Questions, and what asks them.
pub struct School {
    pub tokenizer: Tokenizer,
    encoder: Encoder,
    questions: Questions,
}

impl School {
    /// Of a configuration that draws answers.
    pub fn new(config: &Config) -> School {
        let (tokenizer, encoder) = encoder(config);
        let (task, functions) = (config.task.clone().unwrap(), &config.reward.as_ref().unwrap().functions);
        let questions = Questions::open(&task, &config.data, functions, 0, config.train.seed).unwrap();
        School { tokenizer, encoder, questions }
    }

    /// What draws and judges answers with the weights of `session`.
    pub fn answers(&self, config: &Config, session: &Session) -> Answers<'_> {
        let rewards = Rewards::open(&config.reward.clone().unwrap(), None).unwrap();
        let engine = Engine::new(session.program.decoder.clone().unwrap());
        Answers::new(&self.questions, &self.encoder, rewards, engine, config).unwrap()
    }
}

/// What a run begins with.
pub enum Start<'a> {
    /// Fresh weights.
    Fresh,
    /// The same, at this loss scale.
    AtScale(f32),
    /// A checkpoint's folder.
    From(&'a Path),
}

/// Trains in the new folder `run`; returns the rows of metrics.
pub fn train(
    config: &Config,
    device: &Device,
    (tokenizer, dataset): &(Tokenizer, Dataset),
    run: &Path,
    start: Start<'_>,
) -> Vec<Row> {
    let mut source = Steady { config, device };
    let mut machine = source.machine().unwrap();
    let session = &mut machine.session;
    let journal = Journal::create(Place::of(run, false).unwrap(), config).unwrap();
    let state = if let Start::From(folder) = start {
        checkpoint::load(folder, session).unwrap()
    } else {
        start::begin(&mut source, config, session).unwrap()
    };
    if let Start::AtScale(scale) = start {
        session.load_result(&state::first_result(scale)).unwrap();
    }
    let trainer = Trainer::new(config, &mut source, machine, dataset, tokenizer, journal, state).unwrap();
    trainer.run(false).unwrap();
    read_rows(run).unwrap()
}

/// Losses of the updates.
pub fn losses(rows: &[Row]) -> Vec<f64> {
    let loss = |row: &Row| if let Row::Train(row) = row { Some(row.loss) } else { None };
    rows.iter().filter_map(loss).collect()
}

/// What must not differ between runs: the files of the checkpoint of `step`, and the rows without their times.
pub fn evidence(run: &Path, step: u64, mut rows: Vec<Row>) -> Vec<(String, Vec<u8>)> {
    let checkpoint = run.join(CHECKPOINTS).join(format!("step-{step:08}"));
    let mut found = Vec::new();
    for file in ["model.safetensors", "optimizer.safetensors", "trainer_state.json"] {
        found.push((file.to_owned(), std::fs::read(checkpoint.join(file)).unwrap()));
    }
    for row in &mut rows {
        if let Row::Train(row) = row {
            row.tokens_per_second = 0.0;
            row.numbers.retain(|name, _| !name.starts_with("seconds/"));
        }
        let text = serde_json::to_vec(row).unwrap(); // shortest decimals that read back as the same bits
        found.push((format!("row of step {}", row.step()), text));
    }
    found
}

/// The first piece of evidence that differs.
pub fn difference(a: &[(String, Vec<u8>)], b: &[(String, Vec<u8>)]) -> Option<String> {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).find(|(a, b)| a != b).map(|(a, _)| a.0.clone())
}
