//! `hadal train`

use super::beside::{Beside, sample_options};
use super::exam;
use super::fit::{self, Target};
use super::machines::Machines;
use super::material::Material;
use super::origin;
use super::setup::{Setup, configure};
use super::stage::Stage;
use super::summary::summary;
use super::{DeviceArgs, bytes, gib, open_weights, resume};
use crate::backend::Device;
use crate::chat::Encoder;
use crate::chat::exam::Scores;
use crate::config::Config;
use crate::data::fingerprint::Fingerprint;
use crate::error::Result;
use crate::graph::plan::Plan;
use crate::terminal::{note, printable};
use crate::tokenizer::Tokenizer;
use crate::train::journal::Journal;
use crate::train::place::Place;
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
    /// Updates of a run, in all
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub steps: Option<u64>,
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
    /// Run folder; runs/NAME-N by default
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Go on from the newest checkpoint in --out, with the run's own configuration unless CONFIG names another
    #[arg(long, requires = "out")]
    resume: bool,
}

pub(super) fn run(args: TrainArgs) -> Result<()> {
    let place = args.out.map_or_else(|| Place::next(&args.run.name()), |out| Place::of(&out, args.resume))?;
    train(&args.run, Stage::PRETRAIN, place).map(drop)
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
    let Fitted { config, target, limit, beside, head } = Fitted::new(args, &open, &material, &tokenizer, &device)?;
    head.iter().for_each(note);
    let profile = args.profile;
    let (open, tokenizer) = (&open, &tokenizer);
    let used = false;
    let mut source = Machines { config: &config, open, out, tokenizer, device, target, limit, beside, profile, used };
    let mut machine = source.machine()?;
    let session = &mut machine.session;
    let measured = measured(session);
    measured.iter().for_each(note);
    let answers = material.answers(&config, session.program.decoder.clone(), source.scorer()?)?;
    // The run folder keeps the question: a resume on a card with other memory answers it anew, to the same bits.
    let mut journal = Journal::create(place, open)?;
    head.iter().chain(&measured).for_each(|line| journal.log(line));
    let mut state = match resume {
        true => start::resume(&mut source, &config, session, &mut journal, &mut |line| note(printable(line)))?,
        false => start::begin(&mut source, &config, session)?,
    };
    state.inputs = inputs;
    if resume {
        journal.keep_config()?;
        if state.step >= config.train.steps {
            note(format_args!("all {} steps are done; raise --steps to train on", config.train.steps));
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
    Ok(Reached { entropy, exam: exam::report(out, &config, &source.device)? })
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
    /// What there is to say of it.
    head: Vec<String>,
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
        let head = vec![
            format!("running on {}", device.describe()),
            format!("data: {}", material.describe()),
            summary(&config, &program, &staging) + &beside.lines(&config, &staging),
        ];
        Ok(Fitted { config, target, limit, beside, head })
    }
}

/// What is known of a program once it is on its device.
fn measured(session: &mut Session) -> Vec<String> {
    let tuning = session.executor().tuning().map(|text| format!("  {:<20} {text}", "tiles"));
    let allocated = session.executor().allocated().map(|[held, set_aside]| {
        let [held, set_aside] = [held, set_aside].map(gib);
        format!("  {:<20} {held:>10.4} GiB in buffers, {set_aside:.4} GiB set aside on the device", "allocated")
    });
    tuning.into_iter().chain(allocated).collect()
}

impl RunArgs {
    /// The configuration's name, without the ending of a file.
    pub(super) fn name(&self) -> String {
        let of_model = self.model.as_deref().map(Path::as_os_str);
        let named = self.config.as_deref().map(AsRef::as_ref).or(of_model).unwrap_or("tiny".as_ref());
        let stem = Path::new(named).file_stem();
        stem.map_or("run".to_owned(), |stem| stem.to_string_lossy().into_owned())
    }
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
