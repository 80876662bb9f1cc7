//! `hadal study`: runs that differ in one thing, one after the other, and what comes of it.

use super::place::{self, PlaceArgs, with_command};
use super::resume::own_config;
use super::stage::Stage;
use super::summary::grouped;
use super::train::{RunArgs, train};
use crate::checkpoint::disk::replace_text;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::plot::axis::Scale;
use crate::plot::compare::Curve;
use crate::plot::series::{Point, end, smoothed_end};
use crate::plot::{PlotOptions, Run, draw_comparison};
use crate::terminal::{note, print, printable};
use crate::train::place::{Place, vacant};
use crate::train::schedule;
use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// The table, beside the pictures.
const TABLE: &str = "study.md";
/// What the arms set, and --set therefore may not.
const VARIED: [&str; 2] = ["train.accumulation", "optimizer.clip_norm"];

#[derive(Args, Debug)]
pub(super) struct StudyArgs {
    /// What to compare
    #[arg(value_enum)]
    experiment: Experiment,
    #[command(flatten)]
    run: RunArgs,
    #[command(flatten)]
    place: PlaceArgs,
}

/// What sets the arms apart. All make as many updates (--steps) with the same micro-batch and the same first weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Experiment {
    /// Gradients of 1, 4 and 8 micro-batches an update without clipping, and of 8 clipped to a norm of 1
    Accumulation,
    /// Gradients of 8 micro-batches an update, without clipping and clipped to a norm of 1
    Clipping,
}

/// One run of a study.
struct Arm {
    name: &'static str,
    /// Micro-batches an update.
    accumulation: usize,
    /// 0 for no clipping.
    clip_norm: f64,
}

const fn arm(name: &'static str, accumulation: usize, clip_norm: f64) -> Arm {
    Arm { name, accumulation, clip_norm }
}

impl Experiment {
    fn name(self) -> &'static str {
        match self {
            Experiment::Accumulation => "accumulation",
            Experiment::Clipping => "clipping",
        }
    }

    fn arms(self) -> Vec<Arm> {
        let (eight, clipped) = (arm("accumulation-8", 8, 0.0), arm("accumulation-8-clip-1", 8, 1.0));
        match self {
            Experiment::Accumulation => {
                vec![arm("accumulation-1", 1, 0.0), arm("accumulation-4", 4, 0.0), eight, clipped]
            }
            Experiment::Clipping => vec![eight, clipped],
        }
    }
}

pub(super) fn run(args: StudyArgs) -> Result<()> {
    for set in &args.run.set {
        let key = set.split('=').next().unwrap_or_default().trim();
        if VARIED.contains(&key) {
            return Err(Error::config(key, "is what the arms of the study differ in; leave it out"));
        }
    }
    let name = args.experiment.name();
    let (out, resume, _made) = args.place.folder(&format!("{}-{name}", args.run.name()))?;
    let arms = args.experiment.arms();
    let folders: Vec<PathBuf> = arms.iter().map(|arm| out.join(arm.name)).collect();
    let mut base = args.run;
    match resume {
        false => vacant(&out)?,
        true if !folders.iter().any(|folder| folder.is_dir()) => {
            let reason = "holds no study to go on with; correct the name, or begin one there without --resume";
            return Err(Error::Usage(format!("{}: {reason}", out.display())));
        }
        // Arms that have not begun yet know no configuration of their own.
        true => base.config = base.config.or_else(|| folders.iter().find_map(|folder| own_config(folder))),
    }
    let again = || place::again(&["study", name], &out, &base.device, base.vram);
    let mut entropy = None;
    for (i, (arm, folder)) in arms.iter().zip(&folders).enumerate() {
        note(format_args!("arm {} of {}: {}", i + 1, arms.len(), arm.name));
        let mut own = base.clone();
        own.set.push(format!("train.accumulation={}", arm.accumulation));
        own.set.push(format!("optimizer.clip_norm={:.1}", arm.clip_norm));
        let begun = resume && own_config(folder).is_some();
        match Place::of(folder, begun).and_then(|place| train(&own, Stage::PRETRAIN, place)) {
            // That training without clipping breaks down is a result, not the end of the study.
            Err(e @ Error::Numerics(_)) => note(format_args!("{}: {}", arm.name, printable(&e.to_string()))),
            found => {
                let left = folders.iter().find(|folder| folder.is_dir()).unwrap_or(folder);
                entropy = found.map_err(|error| with_command(error, left, again))?.entropy.or(entropy);
            }
        }
    }
    let config = Config::resolve(folders.first().and_then(|folder| own_config(folder)).as_deref(), &[])?;
    let rates = schedule::describe(&config);
    for (curve, title, file) in
        [(Curve::Train, "training loss", "train.png"), (Curve::Validation, "validation loss", "validation.png")]
    {
        let title = Some(format!("{name}: {title}; learning rate {rates}"));
        let options = PlotOptions { title, entropy, ..PlotOptions::default() };
        draw_comparison(&folders, curve, &options, &out.join(file))?;
    }
    let text = report(name, &config, &folders, entropy)?;
    replace_text(&out.join(TABLE), &text)?;
    note(format_args!("train.png, validation.png and {TABLE} are in {}", out.display()));
    print(text.trim_end())
}

/// The table in words that stand for themselves, beside the pictures.
fn report(name: &str, config: &Config, folders: &[PathBuf], entropy: Option<f64>) -> Result<String> {
    let runs: Vec<Run> = folders.iter().map(|folder| Run::read(folder)).collect::<Result<_>>()?;
    let (model, train) = (&config.model, &config.train);
    let mut text = format!(
        "# hadal study {name}\n\n{} parameters, micro-batches of {} x {} tokens, {} updates an arm. The learning \
         rate is {}. Losses are in nats a token.",
        grouped(model.total_parameters()),
        train.micro_batch,
        train.sequence_length,
        grouped(train.steps),
        schedule::describe(config),
    );
    if let Some(entropy) = entropy {
        text += &format!(" The text's own entropy is {entropy:.4}.");
    }
    text += "\n\n| arm | updates | tokens | best validation loss | at update | at tokens | last validation loss \
             | last training loss, smoothed |\n|---|---|---|---|---|---|---|---|\n";
    for run in &runs {
        text += &row(run);
    }
    Ok(text + "\n![Training loss](train.png)\n\n![Validation loss](validation.png)\n")
}

fn row(run: &Run) -> String {
    let loss = |loss: Option<f64>| loss.map_or("-".to_owned(), |loss| format!("{loss:.4}"));
    let count = |count: Option<f64>| count.map_or("-".to_owned(), |count| grouped(count as u64));
    let tokens = |step: f64| run.tokens.iter().find(|p| p.0 == step).map_or(0.0, |p| p.1);
    let best = run.val.iter().filter(|p| p.1.is_finite()).min_by(|a: &&Point, b| a.1.total_cmp(&b.1));
    let last = run.tokens.last();
    let cells = [
        run.name.clone(),
        count(last.map(|p| p.0)),
        count(last.map(|p| p.1)),
        loss(best.map(|p| p.1)),
        count(best.map(|p| p.0)),
        count(best.map(|p| tokens(p.0))),
        loss(end(&run.val)),
        loss(smoothed_end(&run.train, Scale::Linear)),
    ];
    format!("| {} |\n", cells.join(" | "))
}
