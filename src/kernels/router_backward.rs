//! Gradient of the router's logits.

use super::contract::{self, Held, Kept};
use super::{Args, Bind, Constants, Kernel, KernelSpec, case::Case, fold, read, read_u32, router, write};
use crate::reference::{self, Real};
use bytemuck::{Pod, Zeroable};

/// Immediates of a dispatch; those of [`router::Params`] have its values.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Params {
    /// Number of tokens.
    pub rows: u32,
    /// Number of experts.
    pub experts: u32,
    /// Experts that a token selects.
    pub selected: u32,
    /// Groups of experts; the selection is a constant here, so they change nothing.
    pub groups: u32,
    /// Groups among whose experts a token selects; changes nothing either.
    pub groups_kept: u32,
    /// 1 if weights were divided by the selected scores' sum plus `epsilon`.
    pub normalise: u32,
    /// Added to the sum that weights were divided by.
    pub epsilon: f32,
    /// Factor on every weight.
    pub scale: f32,
    /// What scores are: [`router::SOFTMAX`] or [`router::SIGMOID`] of the logits.
    pub scoring: u32,
    /// 1 adds `d_probs`, 0 never reads it (bind anything, `probs` for one).
    pub has_d_probs: u32,
}

impl Params {
    /// Those of the forward pass, and whether the balance loss sends a gradient into the probabilities.
    pub fn new(p: &router::Params, has_d_probs: bool) -> Self {
        Params {
            rows: p.rows,
            experts: p.experts,
            selected: p.selected,
            groups: p.groups,
            groups_kept: p.groups_kept,
            normalise: p.normalise,
            epsilon: p.epsilon,
            scale: p.scale,
            scoring: p.scoring,
            has_d_probs: has_d_probs.into(),
        }
    }
}

/// The row of the kernel table.
pub static KERNEL: Kernel = Kernel::of::<Spec>();

struct Spec;

impl KernelSpec for Spec {
    type Params = Params;
    const STEM: &'static str = "router_backward";
    const SUMMARY: &'static str = "gradient of the router's logits from the weights and the balance loss";
    const SHADER: &'static str = include_str!("../../shaders/router_backward.wgsl");
    const BINDS: &'static [Bind] =
        &[read("d_weights"), read("d_probs"), read("probs"), read("totals"), read_u32("chosen"), write("d_logits")];

    fn constants(p: &Params) -> Constants {
        vec![
            ("EXPERTS", p.experts.into()),
            ("SELECTED", p.selected.into()),
            ("SIGMOID", p.scoring.into()),
            ("THREADS", router::threads(p.experts)),
        ]
    }

    fn grid(p: &Params) -> [u32; 3] {
        fold(p.rows as usize) // one workgroup a token
    }

    fn contract(p: &Params, held: &[Held<'_>]) -> Kept {
        let chosen = held[4].list();
        contract::below("chosen", chosen, p.experts as usize)?;
        let twice = |row: &&[u32]| (1..row.len()).any(|i| row[..i].contains(&row[i]));
        let found = chosen.chunks(p.selected as usize).find(twice);
        contract::require(found.is_none(), || format!("a token has chosen an expert twice: {found:?}"))
    }

    fn reference<F: Real>(p: &Params, args: Args<'_, F>) {
        let [d_weights, d_probs, probs, totals, chosen, d_logits] = args.all();
        let (d_weights, d_probs, scores) = (d_weights.real(), d_probs.real(), [probs.real(), totals.real()]);
        reference::router_backward::router_backward(p, d_weights, d_probs, scores, chosen.index(), d_logits.real_mut());
    }

    fn cases() -> Vec<Case> {
        let case = |router::Shape { name, p, logits, bias }: router::Shape, has_d_probs| {
            let (all, pairs) = ((p.rows * p.experts) as usize, (p.rows * p.selected) as usize);
            let (mut probs, mut chosen, mut weights) = (vec![0.0; all], vec![0; pairs], vec![0.0; pairs]);
            let mut totals = vec![0.0; p.rows as usize];
            let outputs = [&mut probs[..], &mut totals];
            reference::router::router(&p, [&logits, &bias], outputs, &mut chosen, &mut weights);
            let name = if has_d_probs { format!("{name}, balance loss") } else { name.to_owned() };
            let case = Case::new(name, &Params::new(&p, has_d_probs)).uniform(11, pairs).uniform(12, all);
            case.real(probs).real(totals).index(chosen).output(all)
        };
        [false, true]
            .into_iter()
            .flat_map(|has_d_probs| router::shapes().into_iter().map(move |shape| case(shape, has_d_probs)))
            .collect()
    }
}
