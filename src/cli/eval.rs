//! `hadal eval`

use super::exam;
use super::stage::allow_bad_lines;
use super::stage_eval;
use super::{DeviceArgs, existing, load_weights, model_config, model_tokenizer, positive};
use crate::config::Config;
use crate::config::data::DataConfig;
use crate::config::effects::check_measured;
use crate::config::train::{Precision, Recompute};
use crate::data::Dataset;
use crate::data::batch::Batch;
use crate::data::world::{ProbeKind, ProbeWindow, probe_windows};
use crate::error::{Error, Result};
use crate::graph::Dtype;
use crate::model::inputs::BatchSize;
use crate::model::params::parameters;
use crate::model::program::{EVALUATE, Program, ProgramOptions};
use crate::terminal::{note, print};
use crate::train::checkpoint::with_model;
use crate::train::journal;
use crate::train::rotation::CHECKPOINTS;
use crate::train::session::Session;
use clap::Args;
use std::path::{Path, PathBuf};

/// Batches of text, and sequences in one, where the arguments say nothing else.
const BATCHES: usize = 32;
const BATCH: usize = 8;
/// Windows of the world that are searched for questions.
const PROBE_WINDOWS: usize = 128;

#[derive(Args, Debug)]
pub(super) struct EvalArgs {
    /// A run folder, a checkpoint or a Hugging Face folder
    pub model: PathBuf,
    /// UTF-8 text, JSON lines or tokens, of preference training pairs or questions; what the run held out by default
    #[arg(long, value_name = "PATH")]
    pub data: Vec<PathBuf>,
    /// Batches of text at most; 32 by default
    #[arg(long, value_parser = positive())]
    pub batches: Option<usize>,
    /// Sequences in a batch of text; 8 by default
    #[arg(long, value_parser = positive())]
    pub batch: Option<usize>,
    /// Tokens in a sequence of text; that of the run, or 512, by default
    #[arg(long, value_parser = positive())]
    pub length: Option<usize>,
    /// Set one key of the run's configuration, such as reward.functions=["exact"]
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Lines of conversations, pairs or questions that may be unusable, and are left out; as in the run by default
    #[arg(long, value_name = "N")]
    max_bad_lines: Option<usize>,
    #[command(flatten)]
    pub device: DeviceArgs,
}

pub(super) fn run(args: EvalArgs) -> Result<()> {
    with_model(&existing(&args.model)?, |folder| evaluate(&args, folder))
}

/// Evaluates the model in `folder`.
fn evaluate(args: &EvalArgs, folder: &Path) -> Result<()> {
    let run = run_config(args)?;
    if let Some(config) = run.as_ref().filter(|config| stage_eval::judges(config)) {
        return stage_eval::run(args, folder, config.clone());
    }
    let config = model_config(folder)?;
    let tokenizer = model_tokenizer(folder, &config)?;
    let known = run.as_ref().map(|c| c.train.sequence_length);
    let longest = config.longest();
    if args.length.is_some_and(|length| length > longest) {
        return Err(Error::Usage(format!("--length is more than the {longest} positions that the model takes")));
    }
    let length = args.length.or(known).unwrap_or(config.max_position_embeddings.min(512)).min(longest);
    let (batches, batch) = (args.batches.unwrap_or(BATCHES), args.batch.unwrap_or(BATCH));
    config.check_pass("--batch", batch.saturating_mul(length), "lower it")?;
    let (data, seed) = source(args, run.as_ref())?;
    let sft = run.as_ref().and_then(|run| run.sft.as_ref());
    let dataset = match sft {
        Some(sft) => Dataset::of_chats(&data, sft, exam::encoder(sft, &tokenizer, folder)?, length, seed)?,
        None => Dataset::open(&data, &tokenizer, length, seed)?,
    };
    let whole = !args.data.is_empty();
    let available = if whole { dataset.train_windows() } else { dataset.val_windows().map(|n| n as u64) };
    let windows = available.unwrap_or(u64::MAX).min(batches.saturating_mul(batch) as u64) as usize;
    if windows == 0 {
        return Err(Error::Usage("there is no held-out window; give --data, or a smaller --length".to_owned()));
    }
    let size = BatchSize { batch: batch.min(windows), length };
    let device = args.device.open(Precision::F32)?;
    let options = ProgramOptions {
        size,
        binding_limit: device.binding_limit(),
        optimizer: None,
        logit_rows: None,
        stored: Dtype::F32,
        recompute: Recompute::None,
    };
    let mut session = Session::new(Program::new(&config, &parameters(&config), &options), &device, None)?;
    load_weights(folder, &config, |fill| session.load(fill))?;
    let batch = |first: usize| {
        let rows = first..windows.min(first + size.batch);
        if whole { dataset.train_batch(rows, size.batch) } else { dataset.val_batch(rows, size.batch) }
    };
    let batches: Vec<Batch> = (0..windows).step_by(size.batch).map(batch).collect::<Result<_>>()?;
    let metrics = session.evaluate(&batches)?;
    print(format_args!("loss {:.6}", metrics.loss()))?;
    print(format_args!("bits_per_byte {:.6}", metrics.loss() / std::f64::consts::LN_2 / dataset.bytes_per_token()))?;
    print(format_args!("perplexity {:.6}", metrics.loss().exp()))?;
    print(format_args!("token_accuracy {:.6}", metrics.accuracy()))?;
    print(format_args!("tokens {}", metrics.counted))?;
    if let Some(scores) = run.as_ref().map(|run| exam::sit(folder, run, &device)).transpose()?.flatten() {
        return print(scores);
    }
    if data.path.is_empty() && sft.is_none() {
        let probes = probe_windows(data.world_seed, PROBE_WINDOWS, &tokenizer, length);
        print_probes(&mut session, &probes)?;
    }
    Ok(())
}

/// The configuration of the run that the model belongs to, if it is a run folder, with what the arguments set.
fn run_config(args: &EvalArgs) -> Result<Option<Config>> {
    let file = args.model.join(journal::CONFIG);
    let is_run = args.model.join(CHECKPOINTS).is_dir() && file.is_file();
    if !is_run && (!args.set.is_empty() || args.max_bad_lines.is_some()) {
        return Err(Error::Usage("--set and --max-bad-lines are for run folders, and MODEL is none".to_owned()));
    }
    let resolve = || -> Result<Config> {
        let mut config = Config::resolve(Some(&file.to_string_lossy()), &args.set)?;
        check_measured(&config, &args.set)?.iter().for_each(note);
        let kind = config.kind();
        args.max_bad_lines.iter().for_each(|&lines| allow_bad_lines(&mut config, kind, lines));
        // Somebody may have written on the file.
        config.validate()?;
        Ok(config)
    };
    is_run.then(resolve).transpose()
}

/// What to evaluate on: the given files as a whole, or what the run held out.
pub(super) fn source(args: &EvalArgs, run: Option<&Config>) -> Result<(DataConfig, u64)> {
    if !args.data.is_empty() {
        let own = run.map(|config| config.data.clone()).unwrap_or_default();
        let (path, val_path) = (args.data.clone(), Vec::new());
        let data = DataConfig { path, val_path, val_fraction: 0.0, shuffle: false, ..own };
        return Ok((data, 0));
    }
    match run {
        Some(config) => Ok((config.data.clone(), config.train.seed)),
        None => Err(Error::Usage("--data is needed where MODEL is not a run folder".to_owned())),
    }
}

/// Accuracy on the world's questions, the two kinds apart, beside two baselines that look at no model.
fn print_probes(session: &mut Session, windows: &[ProbeWindow]) -> Result<()> {
    let size = session.program.inputs.size;
    let kinds = [("fact", ProbeKind::Fact), ("story", ProbeKind::Story)];
    let mut sums = [[0usize; 4]; 2]; // questions, right, majority right, last named right
    for chunk in windows.chunks(size.batch) {
        let ids: Vec<Vec<u32>> = chunk.iter().map(|w| w.ids.clone()).collect();
        session.feed(&Batch::padded(&ids, size.batch))?;
        session.run(EVALUATE)?;
        let slots = session.program.inputs.loss;
        let correct = session.read(slots.correct)?;
        for (row, window) in chunk.iter().enumerate() {
            for probe in &window.probes {
                let Some(kind) = kinds.iter().position(|(_, kind)| *kind == probe.kind) else { continue };
                // Position t predicts token t + 1 of the window.
                let right = probe.tokens.clone().all(|t| correct[row * size.length + t - 1] == 1.0);
                sums[kind][0] += 1;
                sums[kind][1] += usize::from(right);
                sums[kind][2] += usize::from(probe.majority_right);
                sums[kind][3] += usize::from(probe.last_named_right);
            }
        }
    }
    for ((name, _), [asked, right, majority, last]) in kinds.iter().zip(sums) {
        let share = |n: usize| n as f64 / asked.max(1) as f64;
        print(format_args!("world_{name}_questions {asked}"))?;
        print(format_args!("world_{name}_accuracy {:.6}", share(right)))?;
        print(format_args!("world_{name}_majority_baseline {:.6}", share(majority)))?;
        print(format_args!("world_{name}_last_named_baseline {:.6}", share(last)))?;
    }
    Ok(())
}
