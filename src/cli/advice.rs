//! What is said of a run that has no room: settings with which it would have some.

use super::fit::{Fit, Room, Target, fit, largest};
use crate::config::train::{OptimizerKind, Recompute};
use crate::config::{Config, Kind};
use crate::terminal::size;

/// A setting that takes less memory, in the words of the command line.
struct Remedy {
    words: &'static str,
    change: fn(&mut Config),
    /// Whether it does anything for a run so configured.
    helps: fn(&Config) -> bool,
}

/// What changes least first.
const REMEDIES: [Remedy; 3] = [
    Remedy {
        words: "train.recompute=block",
        change: |config| config.train.recompute = Recompute::Block,
        helps: |config| !matches!(config.train.recompute, Recompute::Auto | Recompute::Block),
    },
    Remedy {
        words: "optimizer.kind=adamw8bit",
        change: |config| config.optimizer.kind = OptimizerKind::Adamw8bit,
        helps: |config| config.optimizer.kind != OptimizerKind::Adamw8bit && !config.lora.is_on(),
    },
    Remedy {
        words: "lora.rank=8 (adapters beside the weights of --model)",
        change: |config| config.lora.rank = 8,
        helps: |config| !config.lora.is_on() && !matches!(config.kind(), Kind::Reward | Kind::Ppo),
    },
];

/// What would fit in place of `config`, which does not.
pub(super) fn advice(config: &Config, target: Target, room: Room<'_>) -> String {
    let most = |config: &Config| largest(config, target, room).ok().and_then(|fit| usable(config, &fit));
    let fits = |config: &Config| fit(config, least(config), target, room).is_ok();
    let helping: Vec<&Remedy> = REMEDIES.iter().filter(|remedy| (remedy.helps)(config)).collect();
    let changed = |remedies: &[&Remedy]| {
        let mut config = config.clone();
        remedies.iter().for_each(|remedy| (remedy.change)(&mut config));
        config
    };
    let all = changed(&helping);
    let Some(fitting) = most(config) else {
        let ways = (1..=helping.len()).flat_map(|count| sets_of(&helping, count));
        let found = ways.into_iter().find(|way| fits(&changed(way)));
        let found = found.and_then(|way| Some((most(&changed(&way))?, way)));
        let none = format!("not even train.micro_batch={} fits", least(config));
        return match found {
            Some((fitting, way)) => format!("{none}; train.micro_batch={fitting} does with {}", words(&way)),
            None => none + &shorter(&all, &helping, target, room),
        };
    };
    let mut text = format!("the largest micro-batch that fits is train.micro_batch={fitting}");
    if !config.kind().draws() {
        let passes = (config.train.micro_batch * config.train.accumulation).div_ceil(fitting);
        text += &format!(" (train.accumulation={passes} keeps the batch)");
    }
    // A run from nothing has no weights for adapters to stand beside.
    let possible = |remedy: &&&Remedy| config.train.model.is_some() || !changed(&[remedy]).lora.is_on();
    let more = |remedy: &&Remedy| {
        let found = most(&changed(&[remedy])).filter(|found| *found > fitting)?;
        Some(format!("{found} with {}", remedy.words))
    };
    let more: Vec<String> = helping.iter().filter(possible).filter_map(more).collect();
    if more.is_empty() { text } else { format!("{text}, or {}", more.join(", ")) }
}

/// The smallest micro-batch.
fn least(config: &Config) -> usize {
    if config.kind().has_pairs() { 2 } else { 1 }
}

/// The micro-batch of a fit as a run takes it: pairs need an even number of sequences.
fn usable(config: &Config, fit: &Fit) -> Option<usize> {
    let odd = if config.kind().has_pairs() { fit.micro_batch % 2 } else { 0 };
    Some(fit.micro_batch - odd).filter(|sequences| *sequences > 0)
}

/// What a shorter sequence would do beside all that helps, or that nothing does.
fn shorter(all: &Config, helping: &[&Remedy], target: Target, room: Room<'_>) -> String {
    let beside = if helping.is_empty() { String::new() } else { format!(" with {}", words(helping)) };
    let one = least(all);
    let lengths = std::iter::successors(Some(all.train.sequence_length / 2), |length| Some(length / 2));
    let mut last = None;
    for length in lengths.take_while(|length| *length >= 64) {
        let mut short = all.clone();
        short.train.sequence_length = length;
        match fit(&short, one, target, room) {
            Ok(_) => return format!("; train.sequence_length={length} does{beside}"),
            Err(found) => last = Some((length, size(found.plan.bytes()))),
        }
    }
    last.map_or_else(String::new, |(length, bytes)| {
        format!(", nor does a shorter sequence: of {length} tokens it needs {bytes}{beside}")
    })
}

fn words(remedies: &[&Remedy]) -> String {
    remedies.iter().map(|remedy| remedy.words).collect::<Vec<_>>().join(" and ")
}

/// All choices of `count` remedies, those of the first ones first.
fn sets_of<'a>(all: &[&'a Remedy], count: usize) -> Vec<Vec<&'a Remedy>> {
    let Some(rest) = count.checked_sub(1) else { return vec![Vec::new()] };
    let each = all.iter().enumerate().flat_map(|(i, first)| {
        sets_of(&all[i + 1..], rest).into_iter().map(move |others| [vec![*first], others].concat())
    });
    each.collect()
}
