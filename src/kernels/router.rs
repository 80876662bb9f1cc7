//! Scores of the experts, the selection of some, and their weights.

use super::{Args, Bind, Constants, Kernel, KernelSpec, case::Case, case::uniform, fold, read, write, write_u32};
use crate::reference::{self, Real};
use bytemuck::{Pod, Zeroable};

/// Immediates of a dispatch.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Params {
    /// Number of tokens.
    pub rows: u32,
    /// Number of experts.
    pub experts: u32,
    /// Experts that a token selects, at most `groups_kept * experts / groups`.
    pub selected: u32,
    /// Contiguous groups of experts; divides `experts`. 1 selects among all experts.
    pub groups: u32,
    /// Groups among whose experts a token selects, at least 1.
    pub groups_kept: u32,
    /// 1 divides the weights by the selected scores' sum plus `epsilon`, 0 leaves them.
    pub normalise: u32,
    /// Added to the sum that weights are divided by.
    pub epsilon: f32,
    /// Factor on every weight.
    pub scale: f32,
    /// What scores are: [`SOFTMAX`] or [`SIGMOID`] of the logits.
    pub scoring: u32,
    /// 1 selects by score plus `bias`, and groups by the sum of their two best experts; 0 never reads it (bind
    /// anything, `logits` for one). Not with softmax. Groups have at least two experts then.
    pub biased: u32,
}

/// Scores are the softmax of the logits over all experts.
pub const SOFTMAX: u32 = 0;
/// Scores are the sigmoid of each logit.
pub const SIGMOID: u32 = 1;

/// The row of the kernel table.
pub static KERNEL: Kernel = Kernel::of::<Spec>();

struct Spec;

impl KernelSpec for Spec {
    type Params = Params;
    const STEM: &'static str = "router";
    const SUMMARY: &'static str =
        "scores of the experts by softmax or sigmoid, the selection of some, and their weights";
    const SHADER: &'static str = include_str!("../../shaders/router.wgsl");
    const BINDS: &'static [Bind] =
        &[read("logits"), read("bias"), write("probs"), write("totals"), write_u32("chosen"), write("weights")];

    fn constants(p: &Params) -> Constants {
        vec![
            ("EXPERTS", p.experts.into()),
            ("SELECTED", p.selected.into()),
            ("GROUPS", p.groups.into()),
            ("SIGMOID", p.scoring.into()),
            ("BIASED", p.biased.into()),
            ("THREADS", threads(p.experts)),
        ]
    }

    fn grid(p: &Params) -> [u32; 3] {
        fold(p.rows as usize) // one workgroup a token
    }

    fn reference<F: Real>(p: &Params, args: Args<'_, F>) {
        let [logits, bias, probs, totals, chosen, weights] = args.all();
        let (inputs, scores) = ([logits.real(), bias.real()], [probs.real_mut(), totals.real_mut()]);
        reference::router::router(p, inputs, scores, chosen.index_mut(), weights.real_mut());
    }

    fn cases() -> Vec<Case> {
        let case = |Shape { name, p, logits, bias }: Shape| {
            Case::new(name, &p)
                .real(logits)
                .real(bias)
                .output((p.rows * p.experts) as usize)
                .output(p.rows as usize)
                .output_index((p.rows * p.selected) as usize)
                .output((p.rows * p.selected) as usize)
        };
        shapes().into_iter().map(case).collect()
    }
}

/// Invocations for one row of experts: a power of two, as the reduction asks.
pub(super) fn threads(experts: u32) -> i64 {
    experts.next_power_of_two().clamp(32, 256).into()
}

/// A case of the router, which its backward pass shares.
pub(super) struct Shape {
    pub name: &'static str,
    pub p: Params,
    pub logits: Vec<f64>,
    /// Of each expert; a single number that nothing reads where the selection is not biased.
    pub bias: Vec<f64>,
}

/// The router's cases.
pub(super) fn shapes() -> Vec<Shape> {
    let plain = Params {
        rows: 33,
        experts: 64,
        selected: 6,
        groups: 1,
        groups_kept: 1,
        normalise: 0,
        epsilon: 0.25, // large on purpose: a dropped one must show
        scale: 1.7,
        scoring: SOFTMAX,
        biased: 0,
    };
    let normal = Params { normalise: 1, ..plain };
    let sigmoid = |p: Params| Params { scoring: SIGMOID, ..p };
    let biased = |p: Params| Params { biased: 1, ..sigmoid(p) };
    let shape = |p: Params, rows, experts, selected| Params { rows, experts, selected, ..p };
    let grouped = |p: Params, groups, groups_kept| Params { groups, groups_kept, ..p };
    vec![
        random("one token, one expert", shape(plain, 1, 1, 1), 1),
        random("weights as they are", plain, 2),
        random("normalised", normal, 3),
        random("every expert selected, a prime number", shape(normal, 3, 7, 7), 4),
        random("more experts than invocations", shape(normal, 2, 300, 16), 5),
        random("160 experts in 8 groups", grouped(shape(plain, 19, 160, 6), 8, 3), 6),
        random("groups as small as the selection asks", grouped(shape(normal, 5, 12, 6), 4, 2), 7),
        tied("ties", shape(normal, 9, 20, 5)),
        tied("ties between groups", grouped(shape(plain, 9, 20, 5), 5, 2)),
        Shape { logits: vec![-3.5; 256], ..tied("equal logits", shape(normal, 4, 64, 6)) },
        random("sigmoid, one token, one expert", shape(sigmoid(plain), 1, 1, 1), 11),
        random("sigmoid, weights as they are", sigmoid(plain), 12),
        random("sigmoid, normalised, in groups", sigmoid(grouped(normal, 8, 3)), 13),
        tied("sigmoid, ties", sigmoid(shape(normal, 9, 20, 5))),
        random("biased, one token, one expert", shape(biased(normal), 1, 1, 1), 14),
        random("biased, weights as they are", shape(biased(plain), 17, 31, 6), 15),
        random("biased, normalised", biased(normal), 16),
        random("biased, more experts than invocations", shape(biased(normal), 2, 300, 16), 17),
        random("biased, 160 experts in 8 groups", grouped(shape(biased(normal), 19, 160, 6), 8, 4), 18),
        random("biased, pairs of experts", grouped(shape(biased(plain), 5, 14, 4), 7, 2), 19),
        tied("biased, ties", shape(biased(normal), 9, 20, 5)),
        tied("biased, ties between groups", grouped(shape(biased(plain), 9, 20, 5), 5, 2)),
        // Each logit alone would choose 0 to 5, the bias 63 to 58; the weights are those of the logits.
        Shape { logits: descending(4, 64), bias: ascending(64), ..tied("a bias that decides alone", biased(normal)) }
            .with_rows(4),
    ]
}

impl Shape {
    fn with_rows(self, rows: u32) -> Self {
        Shape { p: Params { rows, ..self.p }, ..self }
    }
}

/// Logits from -4 to 4, biases from -1 to 1.
fn random(name: &'static str, p: Params, seed: u64) -> Shape {
    let logits = uniform(seed, (p.rows * p.experts) as usize).into_iter().map(|x| 4.0 * x).collect();
    Shape { name, p, logits, bias: uniform(seed + 100, biases(&p)) }
}

/// Few distinct values, zeros of both signs among them, so that nearly every choice is a tie.
fn tied(name: &'static str, p: Params) -> Shape {
    let level = |i: u32| [0.5, -0.0, 0.0, 0.5, -1.25][(i * i / 3 % 5) as usize];
    let bias = (0..biases(&p)).map(|e| [0.0, 0.25, 0.0][e / 2 % 3]).collect();
    Shape { name, p, logits: (0..p.rows * p.experts).map(level).collect(), bias }
}

fn biases(p: &Params) -> usize {
    if p.biased == 0 { 1 } else { p.experts as usize }
}

fn descending(rows: usize, experts: usize) -> Vec<f64> {
    (0..experts).map(|e| 1.0 - e as f64 / 32.0).collect::<Vec<f64>>().repeat(rows)
}

fn ascending(experts: usize) -> Vec<f64> {
    (0..experts).map(|e| e as f64).collect()
}
