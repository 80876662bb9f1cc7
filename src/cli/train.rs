//! `hadal train`

use super::exam;
use super::fit::{self, Target};
use super::origin::{self, Origin};
use super::sft::Stage;
use super::{DeviceArgs, bytes, gib, load_weights, lora, open_weights, resume};
use crate::backend::Device;
use crate::chat::Encoder;
use crate::config::Config;
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::generate::{Generator, GeneratorOptions};
use crate::graph::plan::Plan;
use crate::model::lora::{adapted, is_adapter};
use crate::model::params::{ParamSpec, parameters, start_values};
use crate::model::program::Program;
use crate::terminal::{note, printable};
use crate::tokenizer::Tokenizer;
use crate::train::journal::Journal;
use crate::train::rotation;
use crate::train::session::Session;
use crate::train::start::{self, Machine, Source};
use crate::train::trainer::{Outcome, SAMPLE_TOKENS, Trainer};
use clap::Args;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What a run is made from.
#[derive(Args, Clone, Debug)]
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
    let out = args.out.unwrap_or_else(|| free_folder(&args.run.name()));
    train(&args.run, Stage::Pretrain, &out, args.resume).map(drop)
}

/// Trains, or goes on training, in the run folder `out`. Returns the text's entropy in nats a token, if it is known. A
/// model that was fine-tuned on the world's chats sits their exam in the end.
pub(super) fn train(args: &RunArgs, stage: Stage<'_>, out: &Path, resume: bool) -> Result<Option<f64>> {
    let started = Instant::now();
    let Setup { config: open, tokenizer, encoder } = configure(args, stage, out, resume)?;
    if resume && rotation::any(out)? {
        resume::changes(out, &open, args.allow_changes)?.iter().for_each(note);
    }
    let mut config = open.clone();
    let dataset = data(&config, &tokenizer, encoder)?;
    if let (Some(folder), false) = (&config.train.model, resume) {
        // Before the run folder is made; a resumed run may have outlived them.
        open_weights(folder, &origin::grown(folder, &config.model)?)?;
    }
    let device = args.device.open(config.train.precision)?;
    let target = Target { binding_limit: device.binding_limit(), stored: device.stored() };
    let samples = sample_options(&config, &tokenizer)?;
    let beside = for_samples(&config, samples, &device);
    let cap = args.vram.map(|memory| (memory - fit::reserve(memory)).saturating_sub(beside));
    fit::decide(&mut config, target, cap);
    let program = fit::program(&config, target);
    let head = [
        format!("running on {}", device.describe()),
        format!("data: {}", dataset.describe()),
        summary(&config, &program, &|plan| device.staging(plan)),
    ];
    head.iter().for_each(note);
    if beside > 0 {
        note(format_args!("  {:<20} {:>10.4} GiB", "for samples, beside", gib(beside)));
    }
    let profile = args.profile;
    let (open, tokenizer) = (&open, &tokenizer);
    let used = false;
    let mut source = Machines { config: &config, open, out, tokenizer, device, target, cap, samples, profile, used };
    let mut machine = source.machine()?;
    let session = &mut machine.session;
    let tuning = session.executor().tuning().map(|text| format!("  {:<20} {text}", "tiles"));
    let allocated = session.executor().allocated().map(|[held, set_aside]| {
        let [held, set_aside] = [held, set_aside].map(gib);
        format!("  {:<20} {held:>10.4} GiB in buffers, {set_aside:.4} GiB set aside on the device", "allocated")
    });
    let measured = || tuning.iter().chain(&allocated);
    measured().for_each(note);
    // The run folder keeps the question: a resume on a card with other memory answers it anew, to the same bits.
    let mut journal = Journal::create(out, open, resume)?;
    head.iter().chain(measured()).try_for_each(|line| journal.log(line))?;
    let state = match resume {
        true => start::resume(&mut source, &config, session, &mut journal, &mut |line| note(printable(line)))?,
        false => start::begin(&mut source, &config, session)?,
    };
    if resume {
        journal.set_config(open)?;
        if state.step >= config.train.steps {
            note(format_args!("all {} steps are done; raise --steps to train on", config.train.steps));
        }
    }
    let trainer = Trainer::new(&config, &mut source, machine, &dataset, tokenizer, journal, state)?;
    let outcome = trainer.run(args.profile)?;
    note(verdict(&outcome, &dataset, &source.device, out, started.elapsed()));
    exam::report(out, &config, &source.device)?;
    Ok(dataset.entropy_per_token())
}

/// What the run learns from: conversations where there is an `encoder` for them, else text.
fn data(config: &Config, tokenizer: &Tokenizer, encoder: Option<Encoder>) -> Result<Dataset> {
    let train = &config.train;
    match (&config.sft, encoder) {
        (Some(sft), Some(encoder)) => Dataset::of_chats(&config.data, sft, encoder, train.sequence_length, train.seed),
        _ => Dataset::open(&config.data, tokenizer, train.sequence_length, train.seed),
    }
}

/// Bytes of the second program, with weights of its own, that draws samples; 0 where none are wanted. A cap counts it.
fn for_samples(config: &Config, samples: Option<GeneratorOptions>, device: &Device) -> u64 {
    samples.map_or(0, |options| {
        let plan = Generator::decoder(&config.model, options, device).plan();
        plan.bytes() + device.staging(&plan)
    })
}

/// What draws the samples of a run, if it wants any.
fn sample_options(config: &Config, tokenizer: &Tokenizer) -> Result<Option<GeneratorOptions>> {
    if config.train.sample_interval == 0 {
        return Ok(None);
    }
    let (prompt, longest) =
        (1 + tokenizer.encode(&config.train.sample_prompt).len(), config.model.max_position_embeddings);
    if prompt >= longest {
        let reason = format!("has {prompt} tokens, and the model takes {longest} with the answer; shorten it");
        return Err(Error::config("train.sample_prompt", reason));
    }
    let capacity = (prompt + SAMPLE_TOKENS).min(longest);
    Ok(Some(GeneratorOptions { slots: 1, capacity, chunk: prompt, known: tokenizer.vocab_size() }))
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

/// What a run is made of before it opens its data.
struct Setup {
    config: Config,
    tokenizer: Tokenizer,
    /// Makes tokens of conversations.
    encoder: Option<Encoder>,
}

/// Layers the command line over the configuration and checks that everything fits together.
fn configure(args: &RunArgs, stage: Stage<'_>, out: &Path, resume: bool) -> Result<Setup> {
    let own = if resume && args.config.is_none() { resume::own_config(out) } else { None };
    let origin = args.model.as_deref().map(Origin::find).transpose()?;
    let mut config = match &origin {
        Some(origin) => origin.configure(stage.config(args), &args.set)?,
        None => Config::resolve(own.as_deref().or(args.config.as_deref()), &args.set)?,
    };
    let named = config.data.tokenizer.clone();
    if !args.data.is_empty() {
        // Absolute, so that the run's config.toml means the same files from any folder.
        let absolute = |path: &PathBuf| std::path::absolute(path).map_err(|e| Error::io(path, e));
        config.data.path = args.data.iter().map(absolute).collect::<Result<_>>()?;
        if config.data.tokenizer == "world" && args.tokenizer.is_none() && origin.is_none() {
            config.data.tokenizer = "byte".to_owned(); // the world's tokens suit no other text
        }
    }
    if let Some(name) = &args.tokenizer {
        config.data.tokenizer = name.clone();
    }
    if let Some(steps) = args.steps {
        config.train.steps = steps;
    }
    let mut tokenizer = Tokenizer::load(&config.data.tokenizer)?;
    stage.settle(&mut config, resume)?;
    if let Some(sft) = &config.sft {
        tokenizer = tokenizer.with_special(&sft.special_tokens())?;
    }
    // A vocabulary that is just that of the configuration's tokenizer follows the one that takes its place.
    let replaced = config.data.tokenizer != named && config.model.vocab_size == Tokenizer::load(&named)?.vocab_size();
    if config.model.vocab_size == 0 || replaced {
        config.model.vocab_size = tokenizer.vocab_size();
    }
    let encoder = config.sft.as_ref().map(|sft| exam::encoder(sft, &tokenizer)).transpose()?;
    if let Some(encoder) = &encoder {
        tokenizer = tokenizer.with_chat_template(encoder.template().source());
        config.model.vocab_size = config.model.vocab_size.max(tokenizer.vocab_size());
    }
    config.model.eos_token_id = encoder.as_ref().map_or(tokenizer.eos(), Encoder::end);
    config.model.bos_token_id = tokenizer.eos();
    config.validate()?;
    config.model.validate()?;
    let (tokens, rows) = (tokenizer.vocab_size(), config.model.vocab_size);
    if tokens > rows {
        let reason = format!("is {rows}, less than the {tokens} tokens of {}", tokenizer.name());
        return Err(Error::config("model.vocab_size", format!("{reason}; raise it, or set it to 0 for as many")));
    }
    if let Some(origin) = origin {
        origin.changes(&config)?.iter().for_each(note);
    }
    Ok(Setup { config, tokenizer, encoder })
}

/// The device of a run, and what it computes with there.
struct Machines<'a> {
    config: &'a Config,
    /// The configuration before anything was decided for this device.
    open: &'a Config,
    /// The run folder.
    out: &'a Path,
    tokenizer: &'a Tokenizer,
    device: Device,
    target: Target,
    cap: Option<u64>,
    samples: Option<GeneratorOptions>,
    profile: bool,
    /// Whether a machine was made: another wants the device opened anew.
    used: bool,
}

impl Machines<'_> {
    /// The largest micro-batch that there is room for, by trying.
    fn advice(&self) -> String {
        // Without a cap nothing but the user decides what is recomputed.
        let config = if self.cap.is_some() { self.open } else { self.config };
        let room = |plan: &Plan| self.cap.is_none_or(|cap| plan.bytes() <= cap) && self.device.has_room(plan);
        fit::advice(config, self.target, &room)
    }
}

impl Source for Machines<'_> {
    fn machine(&mut self) -> Result<Machine> {
        if std::mem::replace(&mut self.used, true) {
            self.device = self.device.reopen()?;
        }
        let (device, target) = (&self.device, self.target);
        let program = fit::program(self.config, target);
        let mut session = Session::new(program, device, self.cap).map_err(|e| match e {
            Error::Memory(text) => Error::Memory(format!("{text}; {}", self.advice())),
            e => e,
        })?;
        if self.profile {
            session.executor().profile()?;
        }
        let sampler = self.samples.map(|options| Generator::new(&self.config.model, options, device)).transpose()?;
        Ok(Machine { session, sampler })
    }

    fn first_weights(&mut self, session: &mut Session) -> Result<()> {
        let config = self.config;
        let Some(folder) = &config.train.model else {
            return session.load(start_values(config.train.seed));
        };
        note(format_args!("starting from the weights in {}", folder.display()));
        let own = origin::grown(folder, &config.model)?;
        if config.lora.is_on() {
            return lora::first_weights(self.out, folder, config, self.tokenizer, session);
        }
        load_weights(folder, &own, |fill| session.load(|spec, values| origin::fill(&own, spec, values, fill)))
    }
}

/// The first of runs/NAME-1, runs/NAME-2, ... that does not exist.
pub(super) fn free_folder(name: &str) -> PathBuf {
    let mut number = 1;
    loop {
        let folder = Path::new("runs").join(format!("{name}-{number}"));
        if !folder.exists() {
            return folder;
        }
        number += 1;
    }
}

/// Parameter table, compute and memory, as printed before the first step.
pub(super) fn summary(config: &Config, program: &Program, staging: &dyn Fn(&Plan) -> u64) -> String {
    let model = &config.model;
    let (length, train, specs) = (config.train.sequence_length, &config.train, parameters(model));
    let trained = || specs.iter().filter(|spec| spec.trained);
    let of =
        |pattern: &str| -> u64 { trained().filter(|s| s.name.contains(pattern)).map(|s| s.elements() as u64).sum() };
    let (embedding, attention) = (of("embed_tokens") + of("lm_head"), of("self_attn"));
    let (experts, shared, router) = (of(".experts."), of("shared_experts"), of("mlp.gate.weight"));
    let total = model.total_parameters();
    let dense = of(".mlp.") - experts - shared - router;
    let norms = total - embedding - attention - experts - shared - router - dense;
    let rows = [
        ("embedding and head", embedding),
        ("attention", attention),
        ("dense feed-forward", dense),
        ("routed experts", experts),
        ("shared experts", shared),
        ("routers", router),
        ("norms", norms),
        ("total", total),
        ("active for a token", model.activated_parameters()),
    ];
    let mut text = String::from("parameters\n");
    for (name, count) in rows {
        text += &format!("  {name:<20} {:>15}\n", grouped(count));
    }
    let adapters = adapted(model, &config.lora);
    let adapters: usize = adapters.iter().filter(|spec| is_adapter(spec)).map(ParamSpec::elements).sum();
    if adapters > 0 {
        let share = 100.0 * adapters as f64 / (total + adapters as u64) as f64;
        text += &format!("  {:<20} {:>15}, {share:.3} % of all\n", "trained: adapters", grouped(adapters as u64));
    }
    text += &format!(
        "compute: {:.4e} FLOP a token (forward and backward, {length} positions)\n",
        fit::training_flops(config)
    );
    text += &match fit::repeated_flops(program) {
        0.0 => format!("recompute: {}\n", fit::spelt(train.recompute)),
        more => format!("recompute: {}, {more:.4e} FLOP a token more\n", fit::spelt(train.recompute)),
    };
    text += &format!(
        "batch: {} x {} tokens a pass, {} passes an update, {} tokens an update\n",
        train.micro_batch,
        length,
        train.accumulation,
        grouped(train.tokens_per_update())
    );
    let plan = program.plan();
    text + &fit::table(&plan, staging(&plan))
}

pub(super) fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// What ran where, and how far it got.
fn verdict(outcome: &Outcome, dataset: &Dataset, device: &Device, out: &Path, time: Duration) -> String {
    let mut text = format!(
        "step {} reached after {:.1} s on {}; loss.png, metrics and checkpoints in {}",
        outcome.steps,
        time.as_secs_f64(),
        device.name(),
        out.display()
    );
    if let (Some(last), Some(entropy)) = (outcome.val_loss, dataset.entropy_per_token()) {
        text += &format!("\nvalidation loss {last:.4}; the text's own entropy is {entropy:.4} nats a token");
        if let Some(first) = outcome.first_loss {
            let way = 100.0 * (first - last) / (first - entropy);
            text += &format!(": {way:.1} % of the way from {first:.4}, the first weights'");
        }
    }
    text
}
