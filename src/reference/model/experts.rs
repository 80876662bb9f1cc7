//! Feed-forward layers: dense, and the mixture of routed and shared experts of DeepSeek-V2 section 2.2.

use super::{Params, Real, add, linear, softmax, weight};
use crate::config::model::{ModelConfig, RouterWeights, TopkMethod};

/// How one token was routed.
pub(super) struct Routing<F> {
    /// Probabilities of all experts, before any masking or normalising. (E)
    pub probabilities: Vec<F>,
    /// The chosen experts, the most probable first. (K)
    pub chosen: Vec<usize>,
    /// Their weights. (K)
    pub weights: Vec<F>,
}

/// `(silu(x gate^T) * (x up^T)) down^T` with the three matrices under `prefix`. x (rows, d)
pub(super) fn feed_forward<F: Real>(params: &Params<F>, prefix: &str, x: &[F], d: usize, width: usize) -> Vec<F> {
    let get = |name: &str| weight(params, &format!("{prefix}.{name}.weight"));
    swiglu(x, [get("gate_proj"), get("up_proj"), get("down_proj")], d, width)
}

fn swiglu<F: Real>(x: &[F], [gate, up, down]: [&[F]; 3], d: usize, width: usize) -> Vec<F> {
    let silu = |a: F| a / (F::one() + (-a).exp());
    let (a, b) = (linear(x, gate, d, width), linear(x, up, d, width));
    let h: Vec<F> = a.iter().zip(&b).map(|(&a, &b)| silu(a) * b).collect();
    linear(&h, down, width, d)
}

/// The mixture: for every token its chosen experts, weighted, and the shared experts. x (N, d)
pub(super) fn mixture<F: Real>(
    c: &ModelConfig,
    params: &Params<F>,
    prefix: &str,
    x: &[F],
) -> (Vec<F>, Vec<Routing<F>>) {
    let (d, width) = (c.hidden_size, c.moe_intermediate_size);
    let get = |name: &str| weight(params, &format!("{prefix}.{name}.weight"));
    let router = get("gate");
    let fused = ["gate_proj", "up_proj", "down_proj"].map(|part| get(&format!("experts.{part}")));
    let expert = |e: usize| fused.map(|all| &all[e * d * width..][..d * width]);
    let mut y = match c.n_shared_experts {
        0 => vec![F::zero(); x.len()],
        n => feed_forward(params, &format!("{prefix}.shared_experts"), x, d, n * width),
    };
    let mut routings = Vec::new();
    for (x, y) in x.chunks(d).zip(y.chunks_mut(d)) {
        let routing = route(c, softmax(&linear(x, router, d, c.n_routed_experts)));
        for (&e, &w) in routing.chosen.iter().zip(&routing.weights) {
            let weighted: Vec<F> = swiglu(x, expert(e), d, width).into_iter().map(|out| w * out).collect();
            add(y, &weighted);
        }
        routings.push(routing);
    }
    (y, routings)
}

/// Chooses experts for one token and weighs them.
fn route<F: Real>(c: &ModelConfig, probabilities: Vec<F>) -> Routing<F> {
    let candidates: Vec<usize> = match c.topk_method {
        TopkMethod::Greedy => (0..c.n_routed_experts).collect(),
        TopkMethod::GroupLimitedGreedy => {
            let size = c.n_routed_experts / c.n_group;
            let best = |group: &[F]| group.iter().copied().fold(F::neg_infinity(), F::max);
            let scores: Vec<F> = probabilities.chunks(size).map(best).collect();
            let kept = top(&scores, &(0..c.n_group).collect::<Vec<_>>(), c.topk_group);
            (0..c.n_routed_experts).filter(|e| kept.contains(&(e / size))).collect()
        }
    };
    let chosen = top(&probabilities, &candidates, c.num_experts_per_tok);
    let weights = expert_weights(c, &chosen.iter().map(|&e| probabilities[e]).collect::<Vec<F>>());
    Routing { probabilities, chosen, weights }
}

/// The `count` candidates of the highest scores, the highest first; of equals the lower number.
fn top<F: Real>(scores: &[F], candidates: &[usize], count: usize) -> Vec<usize> {
    let mut order = candidates.to_vec();
    // Stable, so that equals keep their order.
    order.sort_by(|&a, &b| scores[b].partial_cmp(&scores[a]).unwrap_or(std::cmp::Ordering::Equal));
    order.truncate(count);
    order
}

/// Weights of the chosen experts from their probabilities.
fn expert_weights<F: Real>(c: &ModelConfig, p: &[F]) -> Vec<F> {
    let sum: F = p.iter().copied().sum();
    let scaled = |p: F| F::of(c.routed_scaling_factor) * p;
    let weigh = |p: F| match c.router_weights {
        RouterWeights::Hf => scaled(p),
        RouterWeights::Deepseek if c.norm_topk_prob && c.num_experts_per_tok > 1 => p / (sum + F::of(1e-20)),
        RouterWeights::Deepseek => scaled(p),
        RouterWeights::Seed if c.norm_topk_prob => p / (sum + F::of(1e-9)),
        RouterWeights::Seed => p,
        RouterWeights::NormScale => scaled(p / (sum + F::of(1e-20))),
    };
    p.iter().map(|&p| weigh(p)).collect()
}
