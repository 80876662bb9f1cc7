//! `hadal train`

use super::beside::{Beside, sample_options};
use super::exam;
use super::fit::{self, Target};
use super::machines::Machines;
use super::material::Material;
use super::origin;
use super::place::{self, PlaceArgs, with_command};
use super::setup::{Setup, configure};
use super::stage::Stage;
use super::summary::{brief, summary};
use super::{DeviceArgs, bytes, open_weights, resume};
use crate::backend::Device;
use crate::chat::Encoder;
use crate::chat::exam::Scores;
use crate::config::train::TrainConfig;
use crate::config::{Config, Kind};
use crate::data::fingerprint::Fingerprint;
use crate::error::Result;
use crate::graph::plan::Plan;
use crate::terminal::{note, print, printable, quoted, size};
use crate::tokenizer::Tokenizer;
use crate::train::journal::Journal;
use crate::train::place::Place;
use crate::train::schedule;
use crate::train::session::Session;
use crate::train::start::{self, Source};
use crate::train::trainer::{Outcome, Trainer};
use clap::Args;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What a run is made from.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct RunArgs {
    /// A preset (tiny, small, seed, seed-literal, v2-lite) or a TOML file; tiny by default
    #[arg(value_hint = clap::ValueHint::FilePath)]
    pub config: Option<String>,
    /// Start from the weights of a run folder, a checkpoint or a Hugging Face folder, with its network and tokenizer;
    /// the rest is that run's configuration, or CONFIG's
    #[arg(long, value_name = "DIR", conflicts_with = "resume")]
    pub model: Option<PathBuf>,
    /// Files or folders of UTF-8 text, JSON lines or tokens; the embedded world by default
    #[arg(long, value_name = "PATH")]
    pub data: Vec<PathBuf>,
    /// byte, gpt2, cl100k, world, or a tokenizer.json; byte for --data, if the configuration names none
    #[arg(long, value_name = "NAME|FILE")]
    pub tokenizer: Option<String>,
    /// Set one key, such as train.micro_batch=4
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Updates of a run, in all; warm-up and decay of the learning rate follow them unless they are set in steps
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub steps: Option<u64>,
    /// Learning rate after warm-up (optimizer.learning_rate); the schedule's minimum keeps its share of it
    #[arg(long, value_name = "RATE", allow_negative_numbers = true)]
    pub lr: Option<f64>,
    /// Sequences in one pass (train.micro_batch)
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub batch_size: Option<usize>,
    /// Refuse a plan that a card of this memory, such as 24GiB, has no room for; a sixteenth of it, at most 768 MiB, is
    /// left to the driver
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    pub vram: Option<u64>,
    /// With --resume: go on even if settings that decide what is learnt are not those of the run so far
    #[arg(long, requires = "resume")]
    pub allow_changes: bool,
    /// Keys of `set` that other runs share, and that may have no effect on this one.
    #[arg(skip)]
    pub shared: Vec<String>,
    /// Print parameters, compute and memory in tables at the start
    #[arg(short, long)]
    pub verbose: bool,
    /// Print the time of each kernel at the end; slows training down
    #[arg(long)]
    pub profile: bool,
    #[command(flatten)]
    pub device: DeviceArgs,
}

#[derive(Args, Debug)]
pub(super) struct TrainArgs {
    #[command(flatten)]
    run: RunArgs,
    #[command(flatten)]
    place: PlaceArgs,
}

pub(super) fn run(args: TrainArgs) -> Result<()> {
    alone(&args.run, Stage::PRETRAIN, args.place, &args.run.name())
}

/// A run by itself, whose results are said in the end, and what can be done with it.
pub(super) fn alone(args: &RunArgs, stage: Stage<'_>, place: PlaceArgs, name: &str) -> Result<()> {
    let place = place.place(name)?;
    let out = place.folder().to_owned();
    let again = || place::again(&[stage.kind.command()], &out, &args.device, args.vram);
    let reached = train(args, stage, place).map_err(|error| with_command(error, &out, again))?;
    reached.exam.as_ref().map_or(Ok(()), print)?;
    note(next(stage.kind, &out, reached.entropy.is_some()));
    Ok(())
}

/// What a run came to.
pub(super) struct Reached {
    /// The text's entropy in nats a token, if it is known.
    pub entropy: Option<f64>,
    /// The exam that a model of the world's chats sits in the end.
    pub exam: Option<Scores>,
}

/// Trains, or goes on training, in the run folder `place`, which was taken before all else: a folder that cannot be had
/// is known at once.
pub(super) fn train(args: &RunArgs, stage: Stage<'_>, place: Place) -> Result<Reached> {
    let started = Instant::now();
    let (out, resume) = (&*place.folder().to_owned(), place.resumes());
    let Setup { config: open, tokenizer, encoder } = configure(args, stage, out, resume)?;
    let inputs = inputs(&open, encoder.as_ref())?;
    if resume {
        resume::changes(out, &open, args.allow_changes)?.iter().for_each(note);
        resume::changed_inputs(out, &open, &inputs, args.allow_changes)?.iter().for_each(note);
    }
    let material = Material::open(&open, &tokenizer, encoder)?;
    if let (Some(folder), false) = (&open.train.model, resume) {
        // Before the run folder is made; a resumed run may have outlived them.
        open_weights(folder, &origin::grown(folder, &open.model)?)?;
    }
    let device = args.device.open(open.train.precision)?;
    let fitted = Fitted::new(args, &open, &material, &tokenizer, &device)?;
    let Fitted { config, target, limit, beside, mut head, details } = fitted;
    head.push(format!("run folder: {}", out.display()));
    head.extend(schedule::warnings(&config));
    head.iter().chain(details.iter().filter(|_| args.verbose)).for_each(note);
    let profile = args.profile;
    let (open, tokenizer) = (&open, &tokenizer);
    let used = false;
    let mut source = Machines { config: &config, open, out, tokenizer, device, target, limit, beside, profile, used };
    let mut machine = source.machine()?;
    let session = &mut machine.session;
    let measured = measured(session);
    measured.iter().filter(|_| args.verbose).for_each(note);
    let answers = material.answers(&config, session.program.decoder.clone(), source.scorer()?)?;
    // The run folder keeps the question: a resume on a card with other memory answers it anew, to the same bits.
    let mut journal = Journal::create(place, open)?;
    head.iter().chain(&details).chain(&measured).for_each(|line| journal.log(line));
    let mut state = match resume {
        true => start::resume(&mut source, &config, session, &mut journal, &mut |line| note(printable(line)))?,
        false => start::begin(&mut source, &config, session)?,
    };
    state.inputs = inputs;
    if resume {
        journal.keep_config()?;
        if state.step >= config.train.steps {
            note(done(&config, out));
        }
    }
    let pairs = material.pairs(&mut source, session, &mut journal, &config, &state)?;
    let lessons = material.lessons(pairs.as_ref());
    let mut trainer = Trainer::new(&config, &mut source, machine, lessons, tokenizer, journal, state)?;
    if let Some(answers) = answers {
        trainer = trainer.drawing(answers);
    }
    let outcome = trainer.run(args.profile)?;
    let entropy = material.entropy_per_token();
    note(verdict(&outcome, entropy, &source.device, out, started.elapsed()));
    Ok(Reached { entropy, exam: exam::of_run(out, &config, &source.device)? })
}

/// What a run learns from, in a few bytes.
fn inputs(config: &Config, encoder: Option<&Encoder>) -> Result<Vec<Fingerprint>> {
    let mut all = Fingerprint::of_data(&config.data)?;
    all.extend(encoder.map(|encoder| Fingerprint::of_text("sft.chat_template", encoder.template().source())));
    Ok(all)
}

/// What is decided for a run on its device.
struct Fitted {
    /// With nothing left open.
    config: Config,
    target: Target,
    /// Bytes that all may take, what is beside training too.
    limit: Option<u64>,
    beside: Beside,
    /// What there is to say of it, a line each.
    head: Vec<String>,
    /// The same in tables, and reasons.
    details: Vec<String>,
}

impl Fitted {
    fn new(
        args: &RunArgs,
        open: &Config,
        material: &Material,
        tokenizer: &Tokenizer,
        device: &Device,
    ) -> Result<Fitted> {
        let mut config = open.clone();
        let known = tokenizer.vocab_size();
        let target = Target { binding_limit: device.binding_limit(), stored: device.stored(), known };
        let beside = Beside::new(&config, target, sample_options(&config, tokenizer)?, material.judge(&config)?);
        let staging = |plan: &Plan| device.staging(plan);
        let limit = args.vram.map(|memory| memory - fit::reserve(memory));
        let cap = beside.cap(&config, limit, &staging);
        fit::decide(&mut config, target, cap);
        let program = fit::program(&config, target);
        let plan = program.plan();
        let taken = plan.bytes() + staging(&plan) + beside.bytes(&config, &staging);
        let mut head = vec![device.training(), format!("data: {}", material.describe())];
        head.extend(brief(&config, taken));
        let mut details: Vec<String> = device.reason().map(str::to_owned).into_iter().collect();
        details.push(summary(&config, &program, &staging) + &beside.lines(&config, &staging));
        Ok(Fitted { config, target, limit, beside, head, details })
    }
}

/// What is known of a program once it is on its device.
fn measured(session: &mut Session) -> Vec<String> {
    let tuning = session.executor().tuning().map(|text| format!("  {:<20} {text}", "tiles"));
    let allocated = session.executor().allocated().map(|[held, set_aside]| {
        let [held, set_aside] = [held, set_aside].map(size);
        format!("  {:<20} {held:>12} in buffers, {set_aside} set aside on the device", "allocated")
    });
    tuning.into_iter().chain(allocated).collect()
}

impl RunArgs {
    /// Sets the keys that have options of their own.
    pub(super) fn lay_over(&self, config: &mut Config) {
        if let Some(steps) = self.steps {
            config.train.steps = steps;
        }
        if let Some(batch_size) = self.batch_size {
            config.train.micro_batch = batch_size;
        }
        let Some(rate) = self.lr else { return };
        const LOWEST: &str = "schedule.min_learning_rate";
        if !self.set.iter().any(|set| set.split('=').next().is_some_and(|key| key.trim() == LOWEST)) {
            config.schedule.min_learning_rate *= rate / config.optimizer.learning_rate;
        }
        config.optimizer.learning_rate = rate;
    }

    /// The configuration's name, without the ending of a file.
    pub(super) fn name(&self) -> String {
        let of_model = self.model.as_deref().map(Path::as_os_str);
        let named = self.config.as_deref().map(AsRef::as_ref).or(of_model).unwrap_or("tiny".as_ref());
        let stem = Path::new(named).file_stem();
        stem.map_or("run".to_owned(), |stem| stem.to_string_lossy().into_owned())
    }
}

/// What to say of a run that has no step left.
fn done(config: &Config, out: &Path) -> String {
    let (steps, kind) = (config.train.steps, config.kind().command());
    let more = config.train.steps.saturating_mul(2);
    let out = quoted(&out.to_string_lossy());
    let follows = schedule::moved(
        config,
        &Config { train: TrainConfig { steps: more, ..config.train.clone() }, ..config.clone() },
    );
    let allow = if follows.is_some() { " --allow-changes" } else { "" };
    format!("all {steps} steps are done; raise --steps to train on: hadal {kind} --resume {out} --steps {more}{allow}")
}

/// Commands that go on from a finished run, to copy.
fn next(kind: Kind, out: &Path, is_world: bool) -> String {
    let out = quoted(&out.to_string_lossy());
    let prompt = if is_world { "One morning" } else { "Once upon a time" };
    let lines = match kind {
        Kind::Pretrain => [format!("hadal sample {out} --prompt \"{prompt}\""), format!("hadal sft --model {out}")],
        Kind::Sft => [format!("hadal chat {out}"), format!("hadal dpo --model {out}")],
        Kind::Reward => [
            format!("hadal eval {out}"),
            format!("hadal grpo --model MODEL --set reward.functions=model --set reward.model={out}"),
        ],
        Kind::Dpo | Kind::Grpo | Kind::Ppo => {
            [format!("hadal chat {out}"), format!("hadal export {out} --out {out}-hf")]
        }
    };
    format!("next:\n    {}", lines.join("\n    "))
}

/// What ran where, and how far it got.
fn verdict(outcome: &Outcome, entropy: Option<f64>, device: &Device, out: &Path, time: Duration) -> String {
    let mut text = format!(
        "step {} reached after {:.1} s on {}; loss.png, metrics and checkpoints in {}",
        outcome.steps,
        time.as_secs_f64(),
        device.name(),
        out.display()
    );
    if let (Some(last), Some(entropy)) = (outcome.val_loss, entropy) {
        text += &format!("\nvalidation loss {last:.4}; the text's own entropy is {entropy:.4} nats a token");
        if let Some(first) = outcome.first_loss {
            let way = 100.0 * (first - last) / (first - entropy);
            text += &format!(": {way:.1} % of the way from {first:.4}, the first weights'");
        }
    }
    text
}
