//! `hadal pipeline`: the stages of a model's training from nothing, one after the other, and what comes of it.

use super::place::{self, PlaceArgs, with_command};
use super::resume::own_config;
use super::stage::Stage;
use super::story::{Stay, table};
use super::train::{RunArgs, train};
use super::{DeviceArgs, bytes};
use crate::checkpoint::disk::replace_text;
use crate::config::effects::takes;
use crate::config::{Config, Kind};
use crate::error::{Error, Result};
use crate::input;
use crate::plot::draw_story;
use crate::terminal::{note, print};
use crate::train::place::{Place, vacant};
use clap::Args;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// What is asked for and how far it has come, the table and the picture.
const STATE: &str = "pipeline.json";
const TABLE: &str = "pipeline.md";
const PICTURE: &str = "pipeline.png";
/// Largest accepted state: it has a few lines a stage.
const STATE_BYTES: u64 = 1 << 20;
/// What is trained unless --stages says otherwise.
const STAGES: [Kind; 4] = [Kind::Pretrain, Kind::Sft, Kind::Dpo, Kind::Grpo];

#[derive(Args, Debug)]
pub(super) struct PipelineArgs {
    /// Of pretraining: a preset (tiny, small, ...) or a TOML file; tiny by default. The others begin with their presets
    config: Option<String>,
    /// The stages in order, pretrain first; by default pretrain,sft,dpo,grpo
    #[arg(long, value_enum, value_delimiter = ',', value_name = "STAGE,...")]
    stages: Vec<Kind>,
    /// Set one key of all stages, or of one, such as dpo:train.steps=100
    #[arg(long, value_name = "[STAGE:]KEY=VALUE")]
    set: Vec<String>,
    /// Refuse plans that a card of this memory, such as 24GiB, has no room for
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    vram: Option<u64>,
    #[command(flatten)]
    place: PlaceArgs,
    /// Print parameters, compute and memory of each stage in tables
    #[arg(short, long)]
    verbose: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

/// A pipeline: what is asked for, and what was done of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pipeline {
    /// The configuration of pretraining.
    config: Option<String>,
    /// The stages in order.
    stages: Vec<Kind>,
    /// Keys that are set, of all stages or of one.
    set: Vec<String>,
    /// Of each stage that has begun, in order.
    stays: Vec<Stay>,
}

pub(super) fn run(args: PipelineArgs) -> Result<()> {
    let (out, resume, _made) = args.place.clone().folder("pipeline")?;
    let mut pipeline = Pipeline::of(&args, &out, resume)?;
    for i in 0..pipeline.stages.len() {
        pipeline.train(i, &args, &out)?;
    }
    let folders: Vec<(&str, PathBuf)> =
        pipeline.stages.iter().map(|kind| (kind.name(), out.join(kind.name()))).collect();
    draw_story(&folders, &out.join(PICTURE))?;
    let text = table(&pipeline.stays, &out)?;
    replace_text(&out.join(TABLE), &format!("# hadal pipeline\n\n{text}\n![Stages]({PICTURE})\n"))?;
    note(format_args!("{PICTURE} and {TABLE} are in {}", out.display()));
    print(text.trim_end())
}

impl Pipeline {
    /// The one in `out` with what `args` add to it, or a new one there.
    fn of(args: &PipelineArgs, out: &Path, resume: bool) -> Result<Pipeline> {
        let path = out.join(STATE);
        let known = resume && path.is_file();
        if resume && !known {
            let reason = "holds no pipeline to go on with; correct the name, or begin one there without --resume";
            return Err(Error::Usage(format!("{}: {reason}", out.display())));
        }
        let mut pipeline = match known {
            true => Pipeline::read(&path)?,
            false => {
                vacant(out)?;
                let stages = if args.stages.is_empty() { STAGES.to_vec() } else { args.stages.clone() };
                Pipeline { config: None, stages, set: Vec::new(), stays: Vec::new() }
            }
        };
        if known && !args.stages.is_empty() && args.stages != pipeline.stages {
            let names: Vec<&str> = pipeline.stages.iter().map(|kind| kind.name()).collect();
            let names = names.join(",");
            return Err(Error::Usage(format!(
                "the pipeline in {} has the stages {names}; leave --stages out",
                out.display()
            )));
        }
        pipeline.config = args.config.clone().or(pipeline.config);
        pipeline.set.extend(args.set.iter().cloned());
        pipeline.check()?;
        std::fs::create_dir_all(out).map_err(|e| Error::write(out, e))?;
        pipeline.write(out)?;
        Ok(pipeline)
    }

    fn read(path: &Path) -> Result<Pipeline> {
        let object =
            input::json_object(&input::read(path, STATE_BYTES)?).map_err(|reason| Error::file(path, reason))?;
        serde_json::from_value(object.into())
            .map_err(|e| Error::file(path, format!("is no pipeline's state: {}", input::one_line(&e))))
    }

    fn write(&self, out: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self).map_err(|e| Error::Usage(e.to_string()))?;
        replace_text(&out.join(STATE), &(text + "\n"))
    }

    /// Refuses stages that cannot follow each other, and keys that no stage has, before any of them begins.
    fn check(&self) -> Result<()> {
        let refuse = |reason: &str| Err(Error::Usage(format!("--stages {reason}")));
        if self.stages.first() != Some(&Kind::Pretrain) {
            return refuse("must begin with pretrain, which makes the first weights");
        }
        if self.stages.iter().enumerate().any(|(i, kind)| self.stages[..i].contains(kind)) {
            return refuse("has a stage twice; each has one run folder");
        }
        for key in self.shared() {
            let section = key.split('.').next().unwrap_or_default();
            if !self.stages.iter().any(|&kind| takes(kind, section)) {
                return Err(Error::config(&key, format!("has no effect: no stage of the pipeline takes [{section}]")));
            }
        }
        self.stages.iter().try_for_each(|&kind| {
            let preset = if kind == Kind::Pretrain { self.config.as_deref() } else { Some(kind.command()) };
            Config::resolve(preset, &self.sets(kind)?).map(drop)
        })
    }

    /// Keys that are set for all stages, of which each has an effect on some.
    fn shared(&self) -> Vec<String> {
        let keys = self.set.iter().filter_map(|set| set.split('=').next());
        let key = |key: &str| key.trim().split('.').take(2).collect::<Vec<_>>().join(".");
        keys.filter(|key| !key.contains(':')).map(key).collect()
    }

    /// What is set for a stage.
    fn sets(&self, kind: Kind) -> Result<Vec<String>> {
        let mut found = Vec::new();
        for set in &self.set {
            let stage = set.split('=').next().and_then(|key| key.split_once(':')).map(|(stage, _)| stage.trim());
            let Some(stage) = stage else {
                found.push(set.clone());
                continue;
            };
            if !self.stages.iter().any(|kind| kind.name() == stage) {
                return Err(Error::Usage(format!("--set {set}: {stage:?} is none of the stages of this pipeline")));
            }
            found.extend(set.split_once(':').filter(|_| stage == kind.name()).map(|(_, set)| set.to_owned()));
        }
        Ok(found)
    }

    /// Trains stage number `i`, or goes on with it, unless it is done.
    fn train(&mut self, i: usize, args: &PipelineArgs, out: &Path) -> Result<()> {
        let (kind, all) = (self.stages[i], self.stages.len());
        let folder = out.join(kind.name());
        if self.stays.get(i).is_some_and(|stay| stay.finished) {
            return Ok(());
        }
        note(format_args!("stage {} of {all}: {}", i + 1, kind.name()));
        let begun = own_config(&folder).is_some();
        // A reward model writes nothing.
        let policy = self.stages[..i].iter().rfind(|kind| **kind != Kind::Reward).map(|kind| out.join(kind.name()));
        let config = if begun { &args.config } else { &self.config };
        let own = RunArgs {
            config: config.clone().filter(|_| kind == Kind::Pretrain),
            model: policy.filter(|_| !begun),
            set: self.sets(kind)?,
            shared: self.shared(),
            vram: args.vram,
            verbose: args.verbose,
            device: args.device.clone(),
            ..RunArgs::default()
        };
        let started = Instant::now();
        let reached = Place::of(&folder, begun).and_then(|place| train(&own, Stage::of(kind), place));
        self.stays.resize(i + 1, Stay::new(kind));
        let stay = &mut self.stays[i];
        stay.seconds += started.elapsed().as_secs_f64();
        if let Ok(reached) = &reached {
            stay.finish(reached);
            reached.exam.iter().for_each(note); // the results of the pipeline are its table
        }
        if out.is_dir() {
            self.write(out)?;
        }
        let again = || place::again(&["pipeline"], out, &args.device, args.vram);
        reached.map(drop).map_err(|error| with_command(error, out, again))
    }
}
