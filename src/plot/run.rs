//! The curves of a run: what its rows say, and what its configuration says about it.

use super::axis::{extent, short};
use super::series::Point;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::train::events::tagged;
use crate::train::journal::{self, CONFIG};
use crate::train::rows::{ExpertLoad, Numbers, Row, Stamped};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Numbers by name, each (steps done, value) in ascending order.
pub type Curves = BTreeMap<String, Vec<Point>>;

/// The name that fine-tuning has its token accuracy under.
pub(super) const TOKEN_ACCURACY: &str = "mean_token_accuracy";

/// The curves of one run: (steps done, value) in ascending order; values that are not finite are gaps.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Run {
    /// Name in the legend.
    pub name: String,
    /// What is known of it beside its rows.
    pub facts: Facts,
    /// Training loss, in nats per token but for preference training.
    pub train: Vec<Point>,
    /// Validation loss, likewise.
    pub val: Vec<Point>,
    /// Target tokens trained on since the beginning.
    pub tokens: Vec<Point>,
    /// Seconds since the beginning, where the rows know them.
    pub elapsed: Vec<Point>,
    /// Learning rate.
    pub learning_rate: Vec<Point>,
    /// Norm of the gradient before clipping; empty if it was not recorded.
    pub grad_norm: Vec<Point>,
    /// Largest share of a layer's load on one expert, over the layers; empty for models without experts.
    pub busiest: Vec<Point>,
    /// Smallest share.
    pub idlest: Vec<Point>,
    /// Numbers of steps that only some stages have, such as rewards and the token accuracy of fine-tuning.
    pub numbers: Curves,
    /// The same of validations.
    pub val_numbers: Curves,
}

/// What a run's configuration says of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// Parameters of the model.
    pub parameters: Option<u64>,
    /// What it learns from.
    pub data: Option<String>,
    /// Routed experts of a layer that has such.
    pub experts: Option<usize>,
}

impl Facts {
    /// Those of a configuration.
    pub fn of(config: &Config) -> Facts {
        let name = |path: &Path| path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let data = match &config.data.path[..] {
            [] => "the embedded world".to_owned(),
            [path] => name(path),
            [path, rest @ ..] => format!("{} and {} more", name(path), rest.len()),
        };
        let moe = (0..config.model.num_hidden_layers).any(|layer| config.model.is_moe(layer));
        Facts {
            parameters: Some(config.model.total_parameters()),
            data: Some(data),
            experts: moe.then_some(config.model.n_routed_experts),
        }
    }
}

/// What runs from left to right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum By {
    /// Steps done
    #[default]
    Steps,
    /// Target tokens trained on
    Tokens,
    /// Time since the run began, without what lay between a stop and going on
    Time,
}

impl Run {
    /// The curves in the rows of a journal.
    pub fn from_rows(name: &str, rows: &[Stamped]) -> Run {
        let mut run = Run { name: name.to_owned(), ..Run::default() };
        for Stamped { row, elapsed, .. } in rows {
            let step = row.step() as f64;
            if run.elapsed.last().is_none_or(|(last, _)| *last < step) && elapsed.is_finite() {
                run.elapsed.push((step, elapsed.max(0.0)));
            }
            match row {
                Row::Train(row) => {
                    run.train.push((step, row.loss));
                    run.tokens.push((step, row.tokens as f64));
                    run.learning_rate.push((step, row.lr));
                    run.grad_norm.push((step, row.grad_norm));
                    add(&mut run.numbers, step, &row.numbers);
                    if let Some(sft) = &row.sft {
                        push(&mut run.numbers, TOKEN_ACCURACY, (step, sft.mean_token_accuracy));
                    }
                    if !row.expert_load.is_empty() {
                        let over = |pick: fn(f64, f64) -> f64, share: fn(&ExpertLoad) -> f64| {
                            row.expert_load.iter().map(share).fold(f64::NAN, pick)
                        };
                        run.busiest.push((step, over(f64::max, |load| load.max)));
                        run.idlest.push((step, over(f64::min, |load| load.min)));
                    }
                }
                Row::Val(row) => {
                    run.val.push((step, row.loss));
                    add(&mut run.val_numbers, step, &row.numbers);
                }
            }
        }
        if !run.prefers() && run.numbers.contains_key(TOKEN_ACCURACY) {
            let accuracy = |Stamped { row, .. }: &Stamped| match row {
                Row::Val(row) => Some((row.step as f64, row.token_accuracy)),
                Row::Train(_) => None,
            };
            run.val_numbers.insert(TOKEN_ACCURACY.to_owned(), rows.iter().filter_map(accuracy).collect());
        }
        run
    }

    /// The same run with a number of its rows in place of the losses and nothing below them: a name such as `lr` or
    /// `reward`, or one that TensorBoard shows, such as `val/loss` or `expert_load/layer_1/max`.
    ///
    /// Errors: no row has it.
    pub fn of_metric(name: &str, rows: &[Stamped], metric: &str) -> Result<Run> {
        let Run { name, tokens, elapsed, .. } = Run::from_rows(name, rows);
        let mut run = Run { name, tokens, elapsed, ..Run::default() };
        let mut known = BTreeSet::new();
        let wanted = if metric == "lr" { "learning_rate" } else { metric };
        for Stamped { row, .. } in rows {
            for (tag, value) in tagged(row) {
                let short = tag.strip_prefix("train/").or_else(|| tag.strip_prefix("val/")).unwrap_or(&tag);
                if tag == wanted || short == wanted {
                    match row {
                        Row::Train(_) => run.train.push((row.step() as f64, value)),
                        Row::Val(_) => run.val.push((row.step() as f64, value)),
                    }
                } else if !known.contains(short) {
                    known.insert(short.to_owned());
                }
            }
        }
        if run.train.iter().chain(&run.val).any(|point| point.1.is_finite()) {
            return Ok(run);
        }
        let known: Vec<String> = known.into_iter().collect();
        let hint = if known.is_empty() { "it has no rows".to_owned() } else { format!("it has {}", known.join(", ")) };
        Err(Error::Usage(format!("--metric {metric}: run {} has no such number; {hint}", run.name)))
    }

    /// Whether it is one of preference training, whose loss is none of text.
    pub fn prefers(&self) -> bool {
        let mut names = self.numbers.keys().chain(self.val_numbers.keys());
        names.any(|name| name != TOKEN_ACCURACY)
    }

    /// The curves of a run folder, under the folder's name.
    pub fn read(folder: &Path) -> Result<Run> {
        Ok(Run { facts: facts(folder), ..Run::from_rows(&folder_name(folder)?, &journal::read_stamped(folder)?) })
    }

    /// The run with one number in place of the losses: see [`Run::of_metric`].
    pub fn read_metric(folder: &Path, metric: &str) -> Result<Run> {
        let run = Run::of_metric(&folder_name(folder)?, &journal::read_stamped(folder)?, metric)?;
        Ok(Run { facts: facts(folder), ..run })
    }

    /// The points of updates and of validations that go by this name.
    pub(super) fn curve(&self, name: &str) -> [&[Point]; 2] {
        let of = |curves| Curves::get(curves, name).map_or(&[][..], Vec::as_slice);
        match name {
            "loss" => [&self.train, &self.val],
            "lr" => [&self.learning_rate, &[]],
            "grad_norm" => [&self.grad_norm, &[]],
            "expert_load/max" => [&self.busiest, &[]],
            "expert_load/min" => [&self.idlest, &[]],
            _ => [of(&self.numbers), of(&self.val_numbers)],
        }
    }

    /// The same run by its tokens or seconds, over `unit`. A point of which these are not known is left out.
    pub(super) fn by(&self, by: By, unit: f64) -> Run {
        let known = match by {
            By::Steps => return self.clone(),
            By::Tokens => &self.tokens,
            By::Time => &self.elapsed,
        };
        let place = |(step, value): &Point| {
            let found = known.binary_search_by(|(known, _)| known.total_cmp(step)).ok().map(|i| known[i].1);
            let found = if *step == 0.0 && by == By::Tokens { Some(0.0) } else { found };
            found.map(|x| (x / unit, *value))
        };
        let places = |points: &[Point]| -> Vec<Point> { points.iter().filter_map(place).collect() };
        let all = |curves: &Curves| curves.iter().map(|(name, points)| (name.clone(), places(points))).collect();
        Run {
            name: self.name.clone(),
            facts: self.facts.clone(),
            train: places(&self.train),
            val: places(&self.val),
            tokens: self.tokens.clone(),
            elapsed: self.elapsed.clone(),
            learning_rate: places(&self.learning_rate),
            grad_norm: places(&self.grad_norm),
            busiest: places(&self.busiest),
            idlest: places(&self.idlest),
            numbers: all(&self.numbers),
            val_numbers: all(&self.val_numbers),
        }
    }
}

/// The runs from left to right as asked, and the name of that axis.
pub(super) fn placed(runs: &[Run], by: By) -> (Vec<Run>, &'static str) {
    let (unit, name) = match by {
        By::Steps => (1.0, "steps"),
        By::Tokens => (1.0, "tokens"),
        By::Time => {
            let last =
                extent(runs.iter().flat_map(|run| run.elapsed.iter().map(|p| p.1))).map_or(0.0, |(_, last)| last);
            let units = [(86_400.0, "days"), (3_600.0, "hours"), (60.0, "minutes")];
            units.into_iter().find(|(unit, _)| last >= 3.0 * unit).unwrap_or((1.0, "seconds"))
        }
    };
    (runs.iter().map(|run| run.by(by, unit)).collect(), name)
}

/// What stands behind the title: what all of the runs have in common of parameters, data and tokens.
pub(super) fn about(runs: &[Run]) -> String {
    let common = |fact: &dyn Fn(&Run) -> Option<String>| -> Option<String> {
        let first = fact(runs.first()?)?;
        runs.iter().all(|run| fact(run).as_ref() == Some(&first)).then_some(first)
    };
    let parameters = common(&|run| Some(format!("{} parameters", short(run.facts.parameters? as f64))));
    let data = common(&|run| run.facts.data.clone());
    let tokens = common(&|run| run.tokens.last().map(|(_, tokens)| format!("{} tokens", short(*tokens))));
    [parameters, data, tokens].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// What a folder's configuration says; a picture needs it less than rows, so a folder may lack it.
fn facts(folder: &Path) -> Facts {
    let path = folder.join(CONFIG);
    let config = path.is_file().then(|| Config::resolve(path.to_str(), &[]).ok().filter(|c| c.validate().is_ok()));
    config.flatten().as_ref().map_or_else(Facts::default, Facts::of)
}

fn folder_name(folder: &Path) -> Result<String> {
    let whole = folder.canonicalize().map_err(|e| Error::io(folder, e))?;
    Ok(whole.file_name().map_or("run".into(), |name| name.to_string_lossy()).into_owned())
}

fn add(curves: &mut Curves, step: f64, numbers: &Numbers) {
    for (name, value) in numbers {
        push(curves, name, (step, *value));
    }
}

fn push(curves: &mut Curves, name: &str, point: Point) {
    match curves.get_mut(name) {
        Some(curve) => curve.push(point),
        None => drop(curves.insert(name.to_owned(), vec![point])),
    }
}
