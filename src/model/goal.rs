//! What a program's updates lower: cross-entropy, or a loss of preference training with what it needs beside the model.

use super::inputs::Inputs;
use super::params::{DiskTensor, Init, ParamSpec};
use super::transformer;
use super::weights::Weights;
use crate::config::model::ModelConfig;
use crate::graph::objective::{self, Objective, Policy, Preference, Results, Reward, ScoreGoal, Value};
use crate::graph::recording::Recorder;
use crate::graph::tape::Tape;
use crate::graph::{Tensor, Tensors};
use crate::kernels::state::{
    HISTORY_LOSSES_KEPT, METRIC_COUNTED, METRIC_GOAL, METRIC_GOAL_OTHER, METRIC_LOSS, PAIR_COUNTED, PAIR_LOSS,
    TOKEN_LOSS, VALUE_LOSS,
};
use crate::kernels::{copy_columns, spike_guard};

/// The matrix of a reward model's head, as transformers' `DeepseekV2ForSequenceClassification` calls it. (1, d)
pub const SCORE: &str = "score.weight";
/// The matrix of a value head, beside the head over the vocabulary. (1, d)
pub const VALUE: &str = "v_head.weight";
/// The head over the vocabulary, where it is not the embedding.
const HEAD: &str = "lm_head.weight";

/// What updates lower.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Goal {
    /// Cross-entropy of the next token.
    #[default]
    CrossEntropy,
    /// The loss of a reward model; a head of one output takes the place of that over the vocabulary.
    Reward {
        /// Weight of the squares of pairs' sums.
        centring: f32,
    },
    /// Direct preference optimisation.
    Preference {
        /// β.
        beta: f32,
        /// Share of pairs that is the wrong way round.
        smoothing: f32,
    },
    /// The clipped policy loss on drawn answers.
    Policy {
        /// How far the ratio may leave 1: below, above.
        clip: [f32; 2],
        /// Factor on the divergence from the reference in the loss.
        beta: f32,
        /// Factor on the entropy, which lowers the loss.
        entropy_bonus: f32,
        /// What logits are divided by.
        temperature: f32,
        /// Of a value head, how far a value may move, and the factor on its loss.
        value: Option<[f32; 2]>,
    },
}

/// Whether a parameter is a head of one output, which begins anew.
pub fn is_head(spec: &ParamSpec) -> bool {
    [SCORE, VALUE].contains(&spec.name.as_str())
}

impl Goal {
    /// The parameters of a model with these `specs` that has the heads which the goal needs. New heads begin as zeros:
    /// a value or reward of 0 for everything.
    pub fn specs(self, mut specs: Vec<ParamSpec>, width: usize) -> Vec<ParamSpec> {
        let head = |name: &str| {
            let shape = vec![1, width];
            let disk = vec![DiskTensor { name: name.to_owned(), shape: shape.clone() }];
            let (init, trained, adapter) = (Init::Zeros, true, None);
            ParamSpec { name: name.to_owned(), shape, init, trained, adapter, decay: true, factor: false, disk }
        };
        match self {
            Goal::CrossEntropy | Goal::Preference { .. } | Goal::Policy { value: None, .. } => {}
            Goal::Policy { value: Some(_), .. } => specs.push(head(VALUE)),
            Goal::Reward { .. } => {
                specs.retain(|spec| spec.name != HEAD);
                specs.push(head(SCORE));
            }
        }
        specs
    }

    /// Adds what the host writes for it and what it leaves, for micro-batches of `inputs`.
    pub(super) fn tensors(self, t: &mut Tensors, inputs: &Inputs) -> Aims {
        let (tokens, pairs) = (inputs.size.tokens(), inputs.size.batch / 2);
        let (state, result) = (inputs.state, inputs.loss.result);
        let mut aims = Aims { goal: self, ..Aims::default() };
        match self {
            Goal::CrossEntropy => {}
            Goal::Reward { centring } => {
                aims.score = Some(ScoreGoal::Reward(Reward::new(t, pairs, [state, result], centring)));
            }
            Goal::Preference { beta, smoothing } => {
                let goal = objective::Goal::Preference(Preference::new(t, pairs, state, [beta, smoothing]));
                aims.objective = Some(Objective::new(t, tokens, Some(goal)));
            }
            Goal::Policy { clip, beta, entropy_bonus, value, .. } => {
                let policy = Policy::new(t, tokens, clip, [beta, entropy_bonus]);
                let of_values = |value| Value::new(t, tokens, policy.factors, result, value);
                aims.score = value.map(of_values).map(ScoreGoal::Value);
                aims.objective = Some(Objective::new(t, tokens, Some(objective::Goal::Policy(policy))));
            }
        }
        aims
    }
}

/// A goal with its tensors.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Aims {
    /// The goal.
    pub goal: Goal,
    /// What the head over the vocabulary makes besides cross-entropy.
    pub objective: Option<Objective>,
    /// What becomes of the outputs of a head of one output.
    pub score: Option<ScoreGoal>,
    /// The outputs of that in the latest evaluation.
    pub scores: Option<Tensor>, // (N, 1)
}

impl Aims {
    /// Where the losses leave their sums over a window: of the objective, and of the head of one output.
    pub fn results(&self) -> [Option<Results>; 2] {
        let of_goal = self.objective.and_then(|objective| objective.goal).map(|goal| match goal {
            objective::Goal::Preference(Preference { results, .. })
            | objective::Goal::Policy(Policy { results, .. }) => results,
        });
        let of_score = self.score.map(|score| match score {
            ScoreGoal::Value(Value { results, .. }) | ScoreGoal::Reward(Reward { results, .. }) => results,
        });
        [of_goal, of_score]
    }

    /// Appends heads and losses of hidden states `h`; gives the outputs of a head of one output. These see hidden
    /// states as they are, the head over the vocabulary divided by the temperature.
    pub(super) fn record(&self, t: &mut Tape<'_>, model: Model<'_>, h: Tensor) -> Option<Tensor> {
        let name = if matches!(self.goal, Goal::Reward { .. }) { SCORE } else { VALUE };
        let scores = self.score.map(|goal| t.score_head_loss(h, model.weights.get(name), goal)); // (N, 1)
        if !matches!(self.goal, Goal::Reward { .. }) {
            self.record_head(t, model, h, self.objective);
        }
        scores
    }

    /// The same for numbers alone. Pairs are judged here too; drawn answers, of which the host makes up its mind by
    /// these numbers, are not.
    pub(super) fn record_evaluation(&self, t: &mut Tape<'_>, model: Model<'_>, h: Tensor) -> Option<Tensor> {
        let Goal::Policy { .. } = self.goal else { return self.record(t, model, h) };
        let scores = self.score.map(|_| t.logits(h, model.weights.get(VALUE))); // (N, 1)
        self.record_log_probs(t, model, h);
        scores
    }

    /// Log-probabilities and entropies alone, of which `model` may be another one than is trained.
    pub(super) fn record_log_probs(&self, t: &mut Tape<'_>, model: Model<'_>, h: Tensor) {
        self.record_head(t, model, h, self.objective.map(|objective| Objective { goal: None, ..objective }));
    }

    /// Appends the guard over the window's loss: that which updates lower, in the words of the metrics.
    pub(super) fn record_guard(&self, r: &mut Recorder<'_>, inputs: &Inputs) {
        let metrics = inputs.loss.metrics;
        let mut copy = |from: Option<Results>, word: usize, to: usize| {
            let Some(Results { metrics: sums, .. }) = from else { return };
            let [source_stride, target_stride] = [sums, metrics].map(|tensor| r.tensors.elements(tensor) as u32);
            let (source_offset, target_offset) = (word as u32, to as u32);
            let (rows, columns) = (1, 1);
            let params =
                copy_columns::Params { rows, columns, source_stride, source_offset, target_stride, target_offset };
            r.step(&copy_columns::KERNEL, &params, &[sums, metrics]);
        };
        let [of_head, of_score] = self.results();
        let ([loss, other], factor) = match self.goal {
            Goal::CrossEntropy => ([METRIC_LOSS, METRIC_COUNTED], 0.0),
            Goal::Reward { .. } | Goal::Preference { .. } => {
                let pairs = of_head.or(of_score);
                copy(pairs, PAIR_LOSS, METRIC_GOAL);
                copy(pairs, PAIR_COUNTED, METRIC_GOAL_OTHER);
                ([METRIC_GOAL, METRIC_GOAL_OTHER], 0.0)
            }
            Goal::Policy { value, .. } => {
                copy(of_head, TOKEN_LOSS, METRIC_GOAL); // a sum with factors that make it a mean
                let factor = value.map_or(0.0, |[_, coefficient]| coefficient);
                copy(of_score.filter(|_| factor != 0.0), VALUE_LOSS, METRIC_GOAL_OTHER);
                ([METRIC_GOAL, METRIC_GOAL_OTHER], factor)
            }
        };
        let (updates, loss, other) = (HISTORY_LOSSES_KEPT as u32, loss as u32, other as u32);
        let guard = spike_guard::Params { updates, loss, other, factor };
        r.step(&spike_guard::KERNEL, &guard, &[inputs.state, inputs.history, metrics]);
    }

    fn record_head(&self, t: &mut Tape<'_>, model: Model<'_>, h: Tensor, objective: Option<Objective>) {
        let h = match self.goal {
            Goal::Policy { temperature, .. } if temperature != 1.0 => t.scale(h, 1.0 / temperature), // (N, d)
            _ => h,
        };
        t.head_loss(h, transformer::head(model.config, model.weights), model.inputs.loss, objective);
    }
}

/// Whose heads are recorded.
#[derive(Clone, Copy)]
pub(super) struct Model<'m> {
    /// Its sizes.
    pub config: &'m ModelConfig,
    /// Its weights.
    pub weights: &'m Weights,
    /// What the host writes.
    pub inputs: &'m Inputs,
}
