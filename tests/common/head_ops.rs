//! Programs of the loss head: cross-entropy, goals in its place, and heads of one output beside it.

use super::{Adapter, Case, INVERSE_PAIRS, Linear, NO_LIMIT, Program, Tape, indices, state, twice, uniform};
use hadal::graph::Tensor;
use hadal::graph::objective::{Goal, Objective, Policy, Preference, Results, Reward, ScoreGoal, Value};
use hadal::graph::op::Weight;

const WIDTH: usize = 5;
const CLASSES: usize = 11;
/// Factor on the gradient of the value loss.
const COEFFICIENT: f32 = 0.375;

impl Case {
    fn given(&mut self, tensor: Tensor, values: Vec<f64>) {
        self.reals.push((tensor, values));
    }
}

/// The sums in `results`, of which column number `column` counts by `factor`.
fn objective(c: &Case, results: Results, column: usize, factor: f64) -> (Tensor, Vec<f64>) {
    let mut factors = vec![0.0; c.tensors.elements(results.metrics)];
    factors[column] = factor;
    (results.metrics, factors)
}

/// Both matrices beside a head's.
fn pair(c: &mut Case, parts: usize) -> [Weight; 2] {
    [c.parts("a", &[3, WIDTH], 3), c.parts("b", &[CLASSES, 3], parts)]
}

/// A head, with an adapter whose factor is not 1 if there is a pair.
fn layer<'w>(weight: &'w Weight, pair: &'w Option<[Weight; 2]>) -> Linear<'w> {
    Linear { weight, adapter: pair.as_ref().map(|[a, b]| Adapter { a, b, scale: 1.5 }) }
}

fn head_loss(parts: usize, limit: u64, adapted: bool) -> Program {
    let n = 7;
    let mut c = Case::new();
    let (x, w) = (c.input("h", &[n, WIDTH]), c.parts("w", &[CLASSES, WIDTH], parts));
    let pair = adapted.then(|| pair(&mut c, parts));
    let mut targets = indices(5, n, CLASSES as u32);
    targets[2] = state::IGNORED;
    let slots = c.slots(targets);
    let weights = slots.loss_weights;
    let factors = c.reals.iter().find(|(tensor, _)| *tensor == weights).map(|(_, values)| values.clone()).unwrap();
    let mut t = Tape::training(&mut c.tensors, limit);
    let h = twice(&mut t, x);
    t.head_loss(h, layer(&w, &pair), slots, None);
    let (recording, gradients) = t.finish_with_gradients("case", &[]);
    let name = if adapted { "head_loss with an adapter" } else { "head_loss" };
    c.program(&format!("{name} in parts of {parts}"), recording, gradients, vec![(slots.losses, factors)])
}

/// Three pairs of sequences of three tokens, the last pair padding.
fn preference(parts: usize, limit: u64) -> Program {
    let (pairs, n) = (3, 18);
    let mut c = Case::new();
    let (x, w) = (c.input("h", &[n, WIDTH]), c.parts("w", &[CLASSES, WIDTH], parts));
    let mut targets = indices(5, n, CLASSES as u32);
    [2, 7, 8, 15, 16, 17].iter().for_each(|&ignored| targets[ignored] = state::IGNORED);
    let slots = c.slots(targets);
    let state = c.state();
    let goal = Preference::new(&mut c.tensors, pairs, state, [0.75, 0.125]);
    let sums = uniform(9, 2 * pairs).into_iter().map(|x| 4.0 * x - 8.0).collect();
    c.given(goal.reference, sums);
    let objective = objective(&c, goal.results, state::PAIR_LOSS, INVERSE_PAIRS.into());
    let head = Objective::new(&mut c.tensors, n, Some(Goal::Preference(goal)));
    let mut t = Tape::training(&mut c.tensors, limit);
    let h = twice(&mut t, x);
    t.head_loss(h, &w, slots, Some(head));
    let (recording, gradients) = t.finish_with_gradients("case", &[]);
    c.program(&format!("preference in parts of {parts}"), recording, gradients, vec![objective])
}

/// Of `n` tokens: ratios on both sides of both bounds; factors on the divergence and on the entropy.
fn policy_goal(c: &mut Case, n: usize, terms: [f32; 2]) -> Policy {
    let goal = Policy::new(&mut c.tensors, n, [0.5, 0.75], terms);
    let around = |seed| uniform(seed, n).into_iter().map(|x| 2.0 * x - 2.5).collect::<Vec<_>>();
    c.given(goal.old, around(21));
    if let Some(reference) = goal.reference {
        c.given(reference, around(22));
    }
    c.given(goal.advantages, uniform(23, n));
    let factors = uniform(24, n).into_iter().enumerate().map(|(i, x)| if i == 3 { 0.0 } else { 0.5 + 0.25 * x });
    c.given(goal.factors, factors.collect());
    goal
}

/// With an adapter, also at a temperature.
fn policy(parts: usize, limit: u64, [beta, entropy]: [f32; 2], adapted: bool) -> Program {
    let n = 14;
    let mut c = Case::new();
    let (x, w) = (c.input("h", &[n, WIDTH]), c.parts("w", &[CLASSES, WIDTH], parts));
    let pair = adapted.then(|| pair(&mut c, parts));
    let slots = c.slots(indices(5, n, CLASSES as u32));
    let goal = policy_goal(&mut c, n, [beta, entropy]);
    let objective = objective(&c, goal.results, state::TOKEN_LOSS, 1.0);
    let head = Objective::new(&mut c.tensors, n, Some(Goal::Policy(goal)));
    let mut t = Tape::training(&mut c.tensors, limit);
    let h = twice(&mut t, x);
    let h = if adapted { t.scale(h, 1.25) } else { h };
    t.head_loss(h, layer(&w, &pair), slots, Some(head));
    let (recording, gradients) = t.finish_with_gradients("case", &[]);
    let name = if adapted { "policy with an adapter" } else { "policy" };
    let entropy = if entropy > 0.0 { format!(", entropy {entropy}") } else { String::new() };
    c.program(&format!("{name} in parts of {parts}, beta {beta}{entropy}"), recording, gradients, vec![objective])
}

/// Both losses of PPO, on the same hidden states.
fn policy_and_value(value_first: bool) -> Program {
    let n = 14;
    let mut c = Case::new();
    let (x, w) = (c.input("h", &[n, WIDTH]), c.parts("w", &[CLASSES, WIDTH], CLASSES));
    let v = c.parts("v", &[1, WIDTH], 1);
    let slots = c.slots(indices(5, n, CLASSES as u32));
    let goal = policy_goal(&mut c, n, [0.0, 0.375]);
    let value = Value::new(&mut c.tensors, n, goal.factors, slots.result, [0.5, COEFFICIENT]);
    c.given(value.old, uniform(31, n));
    c.given(value.returns, uniform(32, n));
    let losses = vec![
        objective(&c, goal.results, state::TOKEN_LOSS, 1.0),
        objective(&c, value.results, state::VALUE_LOSS, COEFFICIENT.into()),
    ];
    let head = Objective::new(&mut c.tensors, n, Some(Goal::Policy(goal)));
    let mut t = Tape::training(&mut c.tensors, NO_LIMIT);
    let h = twice(&mut t, x);
    if value_first {
        t.score_head_loss(h, &v, ScoreGoal::Value(value));
    }
    t.head_loss(h, &w, slots, Some(head));
    if !value_first {
        t.score_head_loss(h, &v, ScoreGoal::Value(value));
    }
    let (recording, gradients) = t.finish_with_gradients("case", &[]);
    let name = if value_first { "value and policy" } else { "policy and value" };
    c.program(name, recording, gradients, losses)
}

/// Four pairs of sequences of four tokens, the third padding.
fn reward() -> Program {
    let (pairs, n) = (4, 32);
    let mut c = Case::new();
    let x = c.input("h", &[n, WIDTH]);
    let v: Weight = c.parts("v", &[1, WIDTH], 1);
    let (state, result) = (c.state(), c.result());
    let goal = Reward::new(&mut c.tensors, pairs, [state, result], 0.0625);
    c.integers.push((goal.ends, vec![1, 3, 0, 2, state::IGNORED, state::IGNORED, 3, 3]));
    c.given(goal.margins, uniform(41, pairs));
    let objective = objective(&c, goal.results, state::PAIR_LOSS, INVERSE_PAIRS.into());
    let mut t = Tape::training(&mut c.tensors, NO_LIMIT);
    let h = twice(&mut t, x);
    t.score_head_loss(h, &v, ScoreGoal::Reward(goal));
    let (recording, gradients) = t.finish_with_gradients("case", &[]);
    c.program("reward", recording, gradients, vec![objective])
}

/// Cross-entropy and every goal, in one chunk of rows and in several.
pub fn programs() -> Vec<Program> {
    let two_rows = 2 * 4 * CLASSES as u64;
    vec![
        head_loss(CLASSES, NO_LIMIT, false),
        head_loss(4, two_rows, false),
        head_loss(4, two_rows, true),
        preference(CLASSES, NO_LIMIT),
        preference(4, two_rows),
        policy(CLASSES, NO_LIMIT, [0.25, 0.0], false),
        policy(4, two_rows, [0.0, 0.0], false),
        policy(CLASSES, NO_LIMIT, [0.0, 0.5], false),
        policy(CLASSES, NO_LIMIT, [0.0, 0.0], true),
        policy(4, two_rows, [0.25, 0.0], true),
        policy(4, two_rows, [0.0, 0.5], true),
        policy_and_value(false),
        policy_and_value(true),
        reward(),
    ]
}
