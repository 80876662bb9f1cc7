//! What preference training adds to a model's last hidden states: goals of the loss head, and heads of one output.
//!
//! Every goal of the loss head comes down to one number a token, minus the derivative of the loss in the target's
//! log-probability, and for a bonus on entropy a second, minus the derivative in that. Cross-entropy has the host's
//! loss weights in the first one's place, so a goal only has to write these, on the device, before the head makes its
//! gradients. Values and rewards come from heads of their own, whose losses give the gradient of their outputs.

use super::forward::{count, shape2};
use super::op::LossSlots;
use super::recording::Recorder;
use super::tensor::{Role, Tensor, Tensors};
use crate::kernels;
use crate::kernels::state::{PAIR_COLUMNS, SCORED_PAIR_COLUMNS, TOKEN_COLUMNS, VALUE_COLUMNS};

/// What a loss leaves of each pair or token, and the sums of that over the pairs or tokens of a window. Nothing here
/// clears the sums: that belongs to the window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Results {
    /// One row each, with the columns that `kernels::state` names for the loss.
    pub rows: Tensor, // (pairs or tokens, columns)
    /// Their sums.
    pub metrics: Tensor, // (columns)
}

impl Results {
    fn new(t: &mut Tensors, rows: usize, columns: usize) -> Self {
        Results {
            rows: t.real("results", &[rows, columns], Role::State),
            metrics: t.real("objective_metrics", &[columns], Role::State),
        }
    }

    fn sum(self, r: &mut Recorder<'_>) {
        let [rows, columns] = shape2(r, self.rows);
        let params = kernels::metric_sum::Params { rows, columns };
        r.step(&kernels::metric_sum::KERNEL, &params, &[self.rows, self.metrics]);
    }
}

/// What the loss head makes besides cross-entropy: log-probabilities of the targets, entropies, and with a goal the
/// loss weights. A temperature of sampling comes in by hidden states that are divided by it before they reach the head:
/// [`Tape::scale`](super::tape::Tape::scale).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Objective {
    /// Log-probability of each target, 0 where it is ignored.
    pub log_probs: Tensor, // (N)
    /// Entropy of each distribution, in nats, 0 where the target is ignored.
    pub entropies: Tensor, // (N)
    /// Where the gradient comes from; absent: from cross-entropy by the host's loss weights.
    pub goal: Option<Goal>,
}

impl Objective {
    /// Adds the tensors of `tokens` tokens.
    pub fn new(t: &mut Tensors, tokens: usize, goal: Option<Goal>) -> Self {
        Objective {
            log_probs: t.real("log_probs", &[tokens], Role::State),
            entropies: t.real("entropies", &[tokens], Role::State),
            goal,
        }
    }

    /// Where the goal rewards entropy: the factor on it, and the tensors of entropies and of their factors.
    pub(super) fn entropy_bonus(&self) -> Option<(f32, [Tensor; 2])> {
        match &self.goal {
            Some(Goal::Policy(Policy { entropy_bonus, factors, .. })) if *entropy_bonus != 0.0 => {
                Some((*entropy_bonus, [self.entropies, *factors]))
            }
            _ => None,
        }
    }

    /// Appends what the goal makes of the log-probabilities of all tokens.
    pub(super) fn weigh(&self, r: &mut Recorder<'_>, slots: LossSlots) {
        match &self.goal {
            None => {}
            Some(Goal::Preference(goal)) => goal.weigh(r, self, slots),
            Some(Goal::Policy(goal)) => goal.weigh(r, self, slots),
        }
    }
}

/// A loss of log-probabilities.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    /// Pairs of sequences, of which one is preferred.
    Preference(Preference),
    /// Sequences that the model itself drew, with advantages.
    Policy(Policy),
}

/// Direct preference optimisation; sequences 2i and 2i + 1 of a micro-batch are pair i, chosen and rejected.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Preference {
    /// Factor on differences of log-probabilities.
    pub beta: f32,
    /// Share of pairs that is taken to be the wrong way round.
    pub smoothing: f32,
    /// Sum of the reference's log-probabilities of each sequence's counted targets, which the host writes.
    pub reference: Tensor, // (P, 2)
    /// Holds 1 / pairs of the window.
    pub state: Tensor, // (8)
    /// `PAIR_LOSS` and so on.
    pub results: Results, // (P, 8)
}

impl Preference {
    /// Adds the tensors of `pairs` pairs.
    pub fn new(t: &mut Tensors, pairs: usize, state: Tensor, [beta, smoothing]: [f32; 2]) -> Self {
        let reference = t.real("reference_sums", &[pairs, 2], Role::Input);
        Preference { beta, smoothing, reference, state, results: Results::new(t, pairs, PAIR_COLUMNS) }
    }

    fn weigh(&self, r: &mut Recorder<'_>, objective: &Objective, slots: LossSlots) {
        let pairs = shape2(r, self.results.rows)[0];
        let length = tokens_of(r, objective.log_probs, 2 * pairs);
        let params = kernels::preference_loss::Params { pairs, length, beta: self.beta, smoothing: self.smoothing };
        let tensors = [
            objective.log_probs,
            objective.entropies,
            slots.targets,
            self.reference,
            self.state,
            slots.loss_weights,
            self.results.rows,
        ];
        r.step(&kernels::preference_loss::KERNEL, &params, &tensors);
        self.results.sum(r);
    }
}

/// The clipped policy loss of PPO and GRPO.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Policy {
    /// How far the ratio of probabilities may leave 1 before it is clipped: below, above.
    pub clip: [f32; 2],
    /// Factor on the divergence from the reference.
    pub beta: f32,
    /// Factor on the entropy, which lowers the loss.
    pub entropy_bonus: f32,
    /// Log-probabilities when the tokens were drawn, which the host writes, as all of these.
    pub old: Tensor, // (N)
    /// Log-probabilities by the reference; absent without one, and then the divergence is 0.
    pub reference: Option<Tensor>, // (N)
    /// Advantages.
    pub advantages: Tensor, // (N)
    /// Factor on each token's loss, 0 where it does not count: `rl::normalise`.
    pub factors: Tensor, // (N)
    /// `TOKEN_LOSS` and so on.
    pub results: Results, // (N, 8)
}

impl Policy {
    /// Adds the tensors of `tokens` tokens; those of a reference where `beta` is not 0.
    pub fn new(t: &mut Tensors, tokens: usize, clip: [f32; 2], [beta, entropy_bonus]: [f32; 2]) -> Self {
        let mut input = |name: &str| t.real(name, &[tokens], Role::Input);
        Policy {
            clip,
            beta,
            entropy_bonus,
            old: input("old_log_probs"),
            reference: (beta != 0.0).then(|| input("reference_log_probs")),
            advantages: input("advantages"),
            factors: input("factors"),
            results: Results::new(t, tokens, TOKEN_COLUMNS),
        }
    }

    fn weigh(&self, r: &mut Recorder<'_>, objective: &Objective, slots: LossSlots) {
        let [clip_low, clip_high] = self.clip;
        let tokens = count(r, objective.log_probs);
        let (beta, entropy_bonus) = (self.beta, self.entropy_bonus);
        let params = kernels::policy_loss::Params { tokens, clip_low, clip_high, beta, entropy_bonus };
        let tensors = [
            objective.log_probs,
            objective.entropies,
            self.old,
            self.reference.unwrap_or(objective.log_probs),
            self.advantages,
            self.factors,
            slots.loss_weights,
            self.results.rows,
        ];
        r.step(&kernels::policy_loss::KERNEL, &params, &tensors);
        self.results.sum(r);
    }
}

/// The clipped value loss of PPO, on one value a token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Value {
    /// How far a value may move from the old one before it is clipped.
    pub clip: f32,
    /// Factor on the gradient.
    pub coefficient: f32,
    /// Values when the tokens were drawn, which the host writes, as the next two.
    pub old: Tensor, // (N)
    /// Returns.
    pub returns: Tensor, // (N)
    /// Factor on each token's loss, 0 where it does not count.
    pub factors: Tensor, // (N)
    /// Holds the loss scale.
    pub result: Tensor, // (8)
    /// `VALUE_LOSS` and so on.
    pub results: Results, // (N, 4)
}

impl Value {
    /// Adds the tensors of `tokens` tokens, except `factors`, which the policy has too.
    pub fn new(t: &mut Tensors, tokens: usize, factors: Tensor, result: Tensor, [clip, coefficient]: [f32; 2]) -> Self {
        let [old, returns] = ["old_values", "returns"].map(|name| t.real(name, &[tokens], Role::Input));
        Value { clip, coefficient, old, returns, factors, result, results: Results::new(t, tokens, VALUE_COLUMNS) }
    }
}

/// The Bradley-Terry loss of a reward model; sequences 2i and 2i + 1 of a micro-batch are pair i, chosen and rejected.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reward {
    /// Weight of the square of a pair's sum of rewards.
    pub centring: f32,
    /// Number of each sequence's last token in it, which the host writes; `IGNORED` for padding.
    pub ends: Tensor, // (P, 2)
    /// By how much each pair's rewards are to differ at least, which the host writes.
    pub margins: Tensor, // (P)
    /// Holds 1 / pairs of the window.
    pub state: Tensor, // (8)
    /// Holds the loss scale.
    pub result: Tensor, // (8)
    /// `PAIR_LOSS` to `PAIR_COUNTED`.
    pub results: Results, // (P, 5)
}

impl Reward {
    /// Adds the tensors of `pairs` pairs.
    pub fn new(t: &mut Tensors, pairs: usize, [state, result]: [Tensor; 2], centring: f32) -> Self {
        let ends = t.index("ends", &[pairs, 2], Role::Input);
        let margins = t.real("margins", &[pairs], Role::Input);
        Reward { centring, ends, margins, state, result, results: Results::new(t, pairs, SCORED_PAIR_COLUMNS) }
    }
}

/// A loss of one number a token, which is the output of a head of its own.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ScoreGoal {
    /// Numbers are values.
    Value(Value),
    /// Numbers are rewards of what ends there.
    Reward(Reward),
}

impl ScoreGoal {
    /// Appends the loss of `scores` and its gradient, `d_scores`: both (N, 1).
    pub(super) fn judge(&self, r: &mut Recorder<'_>, scores: Tensor, d_scores: Tensor) {
        match self {
            ScoreGoal::Value(Value { clip, coefficient, old, returns, factors, result, results }) => {
                let (tokens, clip, coefficient) = (count(r, scores), *clip, *coefficient);
                let params = kernels::value_loss::Params { tokens, clip, coefficient };
                let tensors = [scores, *old, *returns, *factors, *result, d_scores, results.rows];
                r.step(&kernels::value_loss::KERNEL, &params, &tensors);
                results.sum(r);
            }
            ScoreGoal::Reward(Reward { centring, ends, margins, state, result, results }) => {
                let pairs = shape2(r, results.rows)[0];
                let length = tokens_of(r, scores, 2 * pairs);
                let params = kernels::pair_loss::Params { pairs, length, centring: *centring };
                let tensors = [scores, *ends, *margins, *state, *result, d_scores, results.rows];
                r.step(&kernels::pair_loss::KERNEL, &params, &tensors);
                results.sum(r);
            }
        }
    }
}

/// Tokens of each of the sequences in which `x` lies. Panics if they do not have the same: a broken invariant.
fn tokens_of(r: &Recorder<'_>, x: Tensor, sequences: u32) -> u32 {
    let tokens = count(r, x);
    assert!(sequences > 0 && tokens.is_multiple_of(sequences), "{tokens} tokens are not {sequences} sequences");
    tokens / sequences
}
