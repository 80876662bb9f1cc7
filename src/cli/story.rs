//! What the stages of a pipeline came to, as a table.

use super::summary::grouped;
use super::train::Reached;
use crate::chat::exam::Score;
use crate::config::Kind;
use crate::error::Result;
use crate::plot::Run;
use crate::plot::series::Point;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// What a pipeline remembers of a stage.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Stay {
    stage: Kind,
    /// Whether it is done.
    pub finished: bool,
    /// Time that it took, without what a kill cut off.
    pub seconds: f64,
    /// The text's entropy in nats a token, if it is known.
    entropy: Option<f64>,
    /// Shares of the exam's questions that were answered exactly: on facts, and on the story.
    exam: Option<[f64; 2]>,
}

impl Stay {
    /// One that has just begun.
    pub(super) fn new(stage: Kind) -> Stay {
        Stay { stage, finished: false, seconds: 0.0, entropy: None, exam: None }
    }

    /// Notes what the stage came to in its end.
    pub(super) fn finish(&mut self, reached: &Reached) {
        let share = |score: Score| score.right as f64 / score.asked.max(1) as f64;
        self.finished = true;
        self.entropy = reached.entropy;
        self.exam = reached.exam.map(|scores| [share(scores.fact), share(scores.story)]);
    }
}

/// The table, of the run folders in `out`.
pub(super) fn table(stays: &[Stay], out: &Path) -> Result<String> {
    let mut text = "| stage | updates | time | on held-out data | before | after | exam: facts | exam: story |\n\
                    |---|---|---|---|---|---|---|---|\n"
        .to_owned();
    for stay in stays {
        text += &row(stay, &Run::read(&out.join(stay.stage.name()))?);
    }
    let seconds: f64 = stays.iter().map(|stay| stay.seconds).sum();
    text += &format!("\n{seconds:.1} s in all.");
    if let Some(entropy) = stays.iter().find_map(|stay| stay.entropy) {
        text += &format!(" The text of pretraining has an entropy of {entropy:.4} nats a token.");
    }
    Ok(text + "\n")
}

fn row(stay: &Stay, run: &Run) -> String {
    let percent = |share: f64| format!("{:.1} %", 100.0 * share);
    let number = |value: f64| format!("{value:.4}");
    let of = |name: &str| run.val_numbers.get(name).map_or(&[][..], Vec::as_slice);
    let (what, points, shown): (&str, &[Point], &dyn Fn(f64) -> String) = match stay.stage {
        Kind::Pretrain | Kind::Sft => ("loss, nats a token", &run.val, &number),
        Kind::Reward | Kind::Dpo => ("pairs ranked right", of("rewards/accuracies"), &percent),
        Kind::Grpo | Kind::Ppo => ("reward of an answer", of("reward"), &number),
    };
    let at = |point: Option<&Point>| point.map_or("-".to_owned(), |point| shown(point.1));
    let exam = |i: usize| stay.exam.map_or("-".to_owned(), |shares| percent(shares[i]));
    let cells = [
        stay.stage.name().to_owned(),
        run.train.last().map_or("0".to_owned(), |point| grouped(point.0 as u64)),
        format!("{:.1} s", stay.seconds),
        what.to_owned(),
        at(points.first()),
        at(points.last()),
        exam(0),
        exam(1),
    ];
    format!("| {} |\n", cells.join(" | "))
}
