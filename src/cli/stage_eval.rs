//! `hadal eval` of a run of preference training: pairs that it ranks right, or what its answers are worth.

use super::eval::EvalArgs;
use super::exam;
use super::material::Material;
use super::stage::set_sections;
use super::{load_weights, model_tokenizer};
use crate::backend::Device;
use crate::checkpoint::weights::Weights;
use crate::config::hf::read_config;
use crate::config::reward::RewardKind;
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
use crate::terminal::{note, print, printable};
use crate::train::lessons::PairLessons;
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
    let (other, kind) = (!args.data.is_empty(), config.kind());
    refuse(args, kind)?;
    let (model, warnings) = read_config(folder)?;
    warnings.iter().for_each(|warning| note(format_args!("warning: {}", printable(warning))));
    config.model = model;
    set_sections(&mut config, kind);
    config.validate()?;
    if other {
        config.data = super::eval::source(args, Some(&config))?.0;
        // All of them.
        config.train.eval_batches = usize::MAX;
        config.rollout.iter_mut().for_each(|rollout| rollout.eval_prompts = usize::MAX);
    }
    let tokenizer = model_tokenizer(folder, &config.model)?;
    let encoder = config.sft.as_ref().map(|sft| exam::encoder(sft, &tokenizer, folder)).transpose()?;
    let material = Material::open(&config, &tokenizer, encoder)?;
    let material = if other { material.held_out() } else { material };
    let device = args.device.open(Precision::F32)?;
    note(format_args!("model: {}", folder.display()));
    let numbers = match &material {
        Material::Pairs(pairs) => of_pairs(&args.model, folder, &config, pairs, &device)?,
        _ => of_answers(folder, &config, &material, tokenizer.vocab_size(), &device)?,
    };
    numbers.iter().try_for_each(|(name, value)| print(format_args!("{name} {value:.6}")))?;
    if other {
        return Ok(());
    }
    exam::sit(folder, &config, &device)?.map_or(Ok(()), print)
}

/// Refuses arguments that a run of this kind has no use for.
fn refuse(args: &EvalArgs, kind: Kind) -> Result<()> {
    let sizes =
        [("--length", args.length.is_some()), ("--batch", args.batch.is_some()), ("--batches", args.batches.is_some())];
    if let Some((name, _)) = sizes.into_iter().find(|(_, given)| *given) {
        let reason = format!("{name} is for text; a run of `hadal {}` has sizes of its own", kind.command());
        return Err(Error::Usage(reason));
    }
    if kind == Kind::Dpo && !args.data.is_empty() {
        let reason = "--data: what the weights that a run of `hadal dpo` began with think of other pairs is not known";
        return Err(Error::Usage(reason.to_owned()));
    }
    Ok(())
}

/// Loss and rewards of held-out pairs by the model in `folder`, of the run folder `run`.
fn of_pairs(run: &Path, folder: &Path, config: &Config, pairs: &Preferences, device: &Device) -> Result<Numbers> {
    if pairs.validated(config) == 0 {
        return Err(Error::Usage("the run held out no pair to judge".to_owned()));
    }
    let mut references = None;
    if config.kind() == Kind::Dpo {
        references = References::of_held_out(run, pairs, config)?;
        if references.is_none() {
            let reason = "lacks what the weights that it began with think of its pairs; `hadal dpo --resume` makes it";
            return Err(Error::file(run, reason));
        }
    }
    let lessons = PairLessons { pairs, references };
    let options = ProgramOptions {
        size: BatchSize { batch: config.train.micro_batch, length: config.train.sequence_length },
        binding_limit: device.binding_limit(),
        optimizer: None,
        logit_rows: None,
        stored: Dtype::F32,
        recompute: Recompute::None,
    };
    let goal = Learning::of(config, config.model.vocab_size, options.binding_limit, options.stored).goal;
    let specs = goal.specs(parameters(&config.model), config.model.hidden_size);
    let weights = Weights::open(folder)?;
    weights.check(&specs)?;
    let learning = Learning { goal, ..Learning::default() };
    let mut session = Session::new(Program::learning(&config.model, &specs, &options, learning), device, None)?;
    weights.load_all(|fill| session.load(fill))?;
    let (_, loss, mut numbers) = numbers::of_micros(&mut session, lessons.validation(config))?;
    numbers.insert("loss".to_owned(), loss);
    numbers.insert("pairs".to_owned(), pairs.validated(config) as f64);
    Ok(numbers)
}

/// Rewards and lengths of greedy answers to held-out questions.
fn of_answers(folder: &Path, config: &Config, material: &Material, known: usize, device: &Device) -> Result<Numbers> {
    let slots = config.rollout.as_ref().map_or(1, |rollout| rollout.slots());
    // As in training: a row takes one token more than it has positions, since the last is a target alone.
    let options = GeneratorOptions { slots, capacity: config.train.sequence_length + 1, chunk: CHUNK, known };
    let scorer = material.judge(config)?.map(|judge| judge.open(&config.train, device)).transpose()?;
    let program = Generator::decoder(&config.model, options, device);
    let mut executor = device.executor(&program.tensors, &program.recordings, None)?;
    load_weights(folder, &config.model, |fill| program.decoder.weights.load(executor.as_mut(), fill))?;
    let reward = config.reward.clone().unwrap_or_default();
    if reward.functions.contains(&RewardKind::Command) {
        note(format_args!("reward.command of the run is started: {}", printable(&reward.command.join(" "))));
    }
    let answers = material.answers(config, Some(program.decoder), scorer)?;
    let found = answers.map(|mut answers| answers.held_out(executor.as_mut(), config)).transpose()?.flatten();
    let Some((questions, mut numbers)) = found else {
        return Err(Error::Usage("there is no held-out question; give --data".to_owned()));
    };
    numbers.insert("questions".to_owned(), questions as f64);
    Ok(numbers)
}
