//! What a panel shows: the loss, what a stage of training is judged by, and the rest of what rows hold, under TRL's
//! names.

use super::PlotOptions;
use super::axis::{Axis, Scale, extent, short};
use super::fit::{learning_axis, norm_axis, usual};
use super::run::{Run, TOKEN_ACCURACY};
use super::series::Point;
use std::borrow::Cow;

/// A kind of panel.
#[derive(Clone, Debug, PartialEq)]
pub struct Kind {
    /// What it shows.
    pub title: Cow<'static, str>,
    /// The names of its numbers, and what they are called beside others in the panel.
    pub curves: &'static [(&'static str, &'static str)],
    fit: Fit,
}

/// Which values the vertical axis has.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fit {
    /// Those of losses: see [`learning_axis`].
    Loss,
    /// Those of shares that learning raises, and these.
    Share(&'static [f64]),
    /// Those of the curves, and these.
    Holds(&'static [f64]),
    /// From 0.
    Zero,
    /// From 0, or logarithmic where a few large values would flatten the others.
    Norm,
    /// From 0, of a curve without noise.
    Exact,
}

type Names = &'static [(&'static str, &'static str)];

const fn kind(title: &'static str, curves: Names, fit: Fit) -> Kind {
    Kind { title: Cow::Borrowed(title), curves, fit }
}

/// Losses, whose title also says their unit.
const LOSS: Kind = kind("loss", &[("loss", "")], Fit::Loss);
/// Rewards of answers.
const REWARD: Kind = kind("reward", &[("reward", "")], Fit::Holds(&[]));
/// How often the better answer has the higher reward.
const ACCURACY: Kind = kind("pairs ranked right", &[("rewards/accuracies", "")], Fit::Share(&[0.5, 1.0]));
/// How evenly tokens fall on experts.
const EXPERTS: Kind =
    kind("experts' shares of tokens", &[("expert_load/max", "busiest"), ("expert_load/min", "idlest")], Fit::Zero);
const GRAD_NORM: Kind = kind("gradient norm before clipping", &[("grad_norm", "")], Fit::Norm);
const LEARNING_RATE: Kind = kind("learning rate", &[("lr", "")], Fit::Exact);

/// Every kind of panel, in the order in which they come.
const KINDS: [Kind; 12] = [
    LOSS,
    kind("share of tokens predicted", &[(TOKEN_ACCURACY, "")], Fit::Share(&[1.0])),
    REWARD,
    ACCURACY,
    kind("margin between the rewards of a pair", &[("rewards/margins", "")], Fit::Holds(&[0.0])),
    kind("KL divergence from the reference", &[("kl", "")], Fit::Holds(&[0.0])),
    kind("entropy", &[("entropy", "")], Fit::Holds(&[0.0])),
    kind(
        "share that is clipped",
        &[
            ("clip_ratio/low_mean", "low"),
            ("clip_ratio/high_mean", "high"),
            ("policy/clipfrac_avg", "policy"),
            ("val/clipfrac_avg", "value"),
        ],
        Fit::Holds(&[0.0]),
    ),
    kind(
        "tokens of an answer",
        &[("completions/mean_length", "mean"), ("completions/max_length", "longest")],
        Fit::Holds(&[0.0]),
    ),
    EXPERTS,
    GRAD_NORM,
    LEARNING_RATE,
];

/// What these runs are judged by: the pairs ranked right or the reward where all of them have it, else the loss; or
/// the one number that is asked for.
pub(super) fn main(runs: &[Run], options: &PlotOptions) -> Kind {
    if let Some(metric) = &options.metric {
        return Kind { title: Cow::Owned(metric.clone()), ..LOSS };
    }
    let all = |kind: &Kind| !runs.is_empty() && runs.iter().all(|run| kind.has(std::slice::from_ref(run)));
    [ACCURACY, REWARD].into_iter().find(all).unwrap_or(LOSS)
}

/// The kinds of the smaller panels beside the `main` one: all that have something to show of these runs.
pub(super) fn others(runs: &[Run], main: &Kind, options: &PlotOptions) -> Vec<Kind> {
    let shown = |kind: &Kind| kind != main && kind.has(runs);
    if options.metric.is_some() { Vec::new() } else { KINDS.into_iter().filter(shown).collect() }
}

impl Kind {
    /// Whether it shows losses.
    pub fn is_loss(&self) -> bool {
        self.title == LOSS.title
    }

    /// Whether its curves are without noise, so that they need no smoothing.
    pub(super) fn is_exact(&self) -> bool {
        self.fit == Fit::Exact
    }

    /// Whether any run has a number to show.
    fn has(&self, runs: &[Run]) -> bool {
        runs.iter().any(|run| self.shown(run).any(|(_, _, train, val)| numbers(train) || numbers(val)))
    }

    /// Number and short name of each curve that the run has, with its points of updates and of validations.
    pub(super) fn shown<'r>(
        &self,
        run: &'r Run,
    ) -> impl Iterator<Item = (usize, &'static str, &'r [Point], &'r [Point])> {
        // Preference training has the tokens' accuracy too, but is not about it.
        let kept = |name: &str| name != TOKEN_ACCURACY || !run.prefers();
        let all = self.curves.iter().enumerate().filter(move |(_, (name, _))| kept(name));
        let all = all.map(|(i, (name, short))| (i, *short, run.curve(name)));
        all.filter(|(_, _, [train, val])| !train.is_empty() || !val.is_empty())
            .map(|(i, short, [train, val])| (i, short, train, val))
    }

    /// Names of its curves where these runs have several.
    pub(super) fn names(&self, runs: &[Run]) -> Vec<(usize, &'static str)> {
        let mut names: Vec<_> = runs.iter().flat_map(|run| self.shown(run)).map(|s| (s.0, s.1)).collect();
        names.sort_unstable();
        names.dedup();
        if names.len() > 1 { names } else { Vec::new() }
    }

    /// The share of each expert in balance, and how that is written, where all runs have equally many.
    pub(super) fn balance(&self, runs: &[Run]) -> Option<(f64, String)> {
        let experts = runs.first()?.facts.experts.filter(|experts| *self == EXPERTS && *experts > 0)?;
        let alike = runs.iter().all(|run| run.facts.experts == Some(experts));
        alike.then(|| (1.0 / experts as f64, format!("1/{experts}")))
    }

    /// Holds the validations, and the numbers of updates but for the extreme hundredth.
    pub(super) fn axis(&self, runs: &[Run], options: &PlotOptions) -> Axis {
        let entropy: Vec<f64> = options.entropy.filter(|_| self.is_loss()).into_iter().collect();
        let curves = || runs.iter().flat_map(|run| self.shown(run));
        let pairs = || curves().map(|(_, _, train, val)| [train, val]).collect::<Vec<_>>();
        let raw = || curves().flat_map(|(_, _, train, val)| train.iter().chain(val).map(|p| p.1));
        match self.fit {
            _ if options.log && *self == main(runs, options) => Axis::log(raw().chain(entropy), 0.05),
            Fit::Loss => learning_axis(&pairs(), &entropy, true, options),
            Fit::Share(holds) => learning_axis(&pairs(), holds, false, options),
            Fit::Zero => Axis::from_zero(raw().chain(self.balance(runs).map(|(share, _)| share))),
            Fit::Exact => Axis::from_zero(raw()),
            Fit::Norm => norm_axis(raw()),
            Fit::Holds(holds) => {
                let mut values = holds.to_vec();
                for (_, _, train, val) in curves() {
                    values.extend(usual(train, options));
                    values.extend(val.iter().map(|p| p.1));
                }
                match holds {
                    [0.0] if values.iter().all(|value| *value >= 0.0 || value.is_nan()) => {
                        Axis::from_zero(values.into_iter())
                    }
                    _ => Axis::linear(values.into_iter(), 0.07),
                }
            }
        }
    }

    /// What stands above its panel, whose vertical axis is `y`.
    pub(super) fn heading(&self, y: &Axis, runs: &[Run]) -> String {
        let mut title = self.title.to_string();
        if self.is_loss() && !runs.iter().any(Run::prefers) {
            // Losses of preference training have no unit that all of them share.
            title += " in nats per token";
        }
        let curves = || runs.iter().flat_map(|run| self.shown(run)).map(|(_, _, train, val)| [train, val]);
        if y.scale == Scale::Log {
            title += ", logarithmic";
        } else if matches!(self.fit, Fit::Loss | Fit::Share(_)) {
            let first = curves().flatten().filter_map(|points| points.first()).map(|point| point.1);
            if let Some((low, high)) = extent(first).filter(|(low, high)| *high > y.high || *low < y.low) {
                title += &format!(", the start at {} left out", short(if high > y.high { high } else { low }));
            }
        }
        if self.is_exact() {
            let peak = extent(curves().flatten().flat_map(|points| points.iter().map(|p| p.1)));
            title += &peak.map_or(String::new(), |(_, peak)| format!(", peak {}", short(peak)));
        }
        title
    }
}

fn numbers(points: &[Point]) -> bool {
    points.iter().any(|(_, value)| value.is_finite())
}
