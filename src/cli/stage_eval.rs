//! `hadal eval` of a run of preference training: pairs that it ranks right, or what its answers are worth.

use super::eval::EvalArgs;
use super::exam;
use super::material::Material;
use super::{load_weights, model_config, model_tokenizer};
use crate::backend::Device;
use crate::checkpoint::weights::Weights;
use crate::config::hf::read_config;
use crate::config::train::{Precision, Recompute};
use crate::config::{Config, Kind};
use crate::data::preferences::Preferences;
use crate::error::{Error, Result};
use crate::generate::{CHUNK, Generator, GeneratorOptions};
use crate::graph::Dtype;
use crate::model::inputs::BatchSize;
use crate::model::learning::Learning;
use crate::model::params::parameters;
use crate::model::program::{Program, ProgramOptions};
use crate::terminal::print;
use crate::train::lessons::{Lessons, PairLessons};
use crate::train::numbers;
use crate::train::references::References;
use crate::train::rows::Numbers;
use crate::train::session::Session;
use std::path::Path;

/// Whether a run has measures of its own.
pub(super) fn judges(config: &Config) -> bool {
    !matches!(config.kind(), Kind::Pretrain | Kind::Sft)
}

/// Prints what the model in `folder`, of the run `config`, reaches on what the run held out, or on all of other files.
pub(super) fn run(args: &EvalArgs, folder: &Path, mut config: Config) -> Result<()> {
    let other = !args.data.is_empty();
    if other {
        config.data = super::eval::source(args, Some(&config))?.0;
        // All of them.
        config.train.eval_batches = usize::MAX;
        config.rollout.iter_mut().for_each(|rollout| rollout.eval_prompts = usize::MAX);
    }
    let model = read_config(folder)?.0;
    let tokenizer = model_tokenizer(folder, &model)?;
    let encoder = config.sft.as_ref().map(|sft| exam::encoder(sft, &tokenizer)).transpose()?;
    let material = Material::open(&config, &tokenizer, encoder)?;
    let material = if other { material.held_out() } else { material };
    let device = args.device.open(Precision::F32)?;
    let numbers = match &material {
        Material::Pairs(pairs) => of_pairs(args, folder, &config, pairs, &device)?,
        _ => of_answers(folder, &config, &material, tokenizer.vocab_size(), &device)?,
    };
    numbers.iter().try_for_each(|(name, value)| print(format_args!("{name} {value:.6}")))?;
    if other {
        return Ok(());
    }
    exam::sit(folder, &config, &device)?.map_or(Ok(()), print)
}

/// Loss and rewards of held-out pairs.
fn of_pairs(args: &EvalArgs, folder: &Path, config: &Config, pairs: &Preferences, device: &Device) -> Result<Numbers> {
    let mut references = None;
    if config.kind() == Kind::Dpo {
        if !args.data.is_empty() {
            let reason = "what the weights that a run of dpo began with think of other pairs is not known";
            return Err(Error::Usage(format!("--data: {reason}; leave it out for the pairs that the run held out")));
        }
        references = References::read(&args.model, pairs, config)?;
        if references.is_none() && pairs.validated(config) > 0 {
            return Err(Error::file(&args.model, "lacks what the weights that it began with think of its pairs"));
        }
    }
    let lessons = PairLessons { pairs, references };
    let micros = Lessons::Pairs(&lessons).validation(config)?;
    if micros.is_empty() {
        return Err(Error::Usage("there is no held-out pair; give --data".to_owned()));
    }
    let (model, _) = read_config(folder)?;
    model.validate()?;
    let options = ProgramOptions {
        size: BatchSize { batch: config.train.micro_batch, length: config.train.sequence_length },
        binding_limit: device.binding_limit(),
        optimizer: None,
        logit_rows: None,
        stored: Dtype::F32,
        recompute: Recompute::None,
    };
    let goal = Learning::of(config, model.vocab_size, options.binding_limit, options.stored).goal;
    let specs = goal.specs(parameters(&model), model.hidden_size);
    let weights = Weights::open(folder)?;
    weights.check(&specs)?;
    let learning = Learning { goal, ..Learning::default() };
    let mut session = Session::new(Program::learning(&model, &specs, &options, learning), device, None)?;
    weights.load_all(|fill| session.load(fill))?;
    let (_, loss, mut numbers) = numbers::of_micros(&mut session, &micros)?;
    numbers.insert("loss".to_owned(), loss);
    numbers.insert("pairs".to_owned(), pairs.validated(config) as f64);
    Ok(numbers)
}

/// Rewards and lengths of greedy answers to held-out questions.
fn of_answers(folder: &Path, config: &Config, material: &Material, known: usize, device: &Device) -> Result<Numbers> {
    let model = model_config(folder)?;
    let slots = config.rollout.as_ref().map_or(1, |rollout| rollout.slots());
    // A row takes one token more than it has positions: the last is a target alone.
    let capacity = (config.train.sequence_length + 1).min(model.max_position_embeddings);
    let options = GeneratorOptions { slots, capacity, chunk: CHUNK, known };
    let scorer = material.judge(config)?.map(|judge| judge.open(device)).transpose()?;
    let program = Generator::decoder(&model, options, device);
    let mut executor = device.executor(&program.tensors, &program.recordings, None)?;
    load_weights(folder, &model, |fill| program.decoder.weights.load(executor.as_mut(), fill))?;
    let answers = material.answers(config, Some(program.decoder), scorer)?;
    let found = answers.map(|mut answers| answers.held_out(executor.as_mut(), config)).transpose()?.flatten();
    let Some((questions, mut numbers)) = found else {
        return Err(Error::Usage("there is no held-out question; give --data".to_owned()));
    };
    numbers.insert("questions".to_owned(), questions as f64);
    Ok(numbers)
}
