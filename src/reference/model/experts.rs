//! Feed-forward layers: dense, and the mixture of routed and shared experts of DeepSeek-V2 section 2.2.

use super::{Params, Real, add, linear, softmax, weight};
use crate::config::model::{ModelConfig, RouterWeights, ScoringFunc, TopkMethod};

/// How one token was routed.
pub(super) struct Routing<F> {
    /// Scores of all experts over their sum, before any masking: what the balance loss reads. (E)
    pub probabilities: Vec<F>,
    /// The chosen experts, the best first. (K)
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
    let bias = c.has_expert_bias().then(|| weight(params, &format!("{prefix}.gate.e_score_correction_bias")));
    let fused = ["gate_proj", "up_proj", "down_proj"].map(|part| get(&format!("experts.{part}")));
    let expert = |e: usize| fused.map(|all| &all[e * d * width..][..d * width]);
    let mut y = match c.n_shared_experts {
        0 => vec![F::zero(); x.len()],
        n => feed_forward(params, &format!("{prefix}.shared_experts"), x, d, n * width),
    };
    let mut routings = Vec::new();
    for (x, y) in x.chunks(d).zip(y.chunks_mut(d)) {
        let routing = route(c, &linear(x, router, d, c.n_routed_experts), bias);
        for (&e, &w) in routing.chosen.iter().zip(&routing.weights) {
            let weighted: Vec<F> = swiglu(x, expert(e), d, width).into_iter().map(|out| w * out).collect();
            add(y, &weighted);
        }
        routings.push(routing);
    }
    (y, routings)
}

/// Chooses experts for one token and weighs them. Biases (E) take part in the choice alone.
fn route<F: Real>(c: &ModelConfig, logits: &[F], bias: Option<&[F]>) -> Routing<F> {
    let scores = match c.scoring_func {
        ScoringFunc::Softmax => softmax(logits),
        ScoringFunc::Sigmoid => logits.iter().map(|&z| F::one() / (F::one() + (-z).exp())).collect(),
    };
    let judged: Vec<F> = match bias {
        Some(bias) => scores.iter().zip(bias).map(|(&s, &b)| s + b).collect(),
        None => scores.clone(),
    };
    let everyone: Vec<usize> = (0..c.n_routed_experts).collect();
    let candidates = match c.topk_method {
        TopkMethod::Greedy => everyone,
        TopkMethod::GroupLimitedGreedy => in_groups(c, &judged, everyone, 1),
        TopkMethod::NoauxTc => in_groups(c, &judged, everyone, 2),
    };
    let chosen = top(&judged, &candidates, c.num_experts_per_tok);
    let weights = expert_weights(c, &chosen.iter().map(|&e| scores[e]).collect::<Vec<F>>());
    let sum: F = scores.iter().copied().sum();
    let probabilities = match c.scoring_func {
        ScoringFunc::Softmax => scores,
        ScoringFunc::Sigmoid => scores.into_iter().map(|s| s / sum).collect(),
    };
    Routing { probabilities, chosen, weights }
}

/// The experts of the groups that are kept: those whose `best` best members are together worth most.
fn in_groups<F: Real>(c: &ModelConfig, judged: &[F], everyone: Vec<usize>, best: usize) -> Vec<usize> {
    let size = c.n_routed_experts / c.n_group;
    let worth = |members: &[usize]| top(judged, members, best).iter().map(|&e| judged[e]).sum();
    let worths: Vec<F> = everyone.chunks(size).map(worth).collect();
    let kept = top(&worths, &(0..c.n_group).collect::<Vec<_>>(), c.topk_group);
    everyone.into_iter().filter(|e| kept.contains(&(e / size))).collect()
}

/// The `count` candidates of the highest scores, the highest first; of equals the lower number.
fn top<F: Real>(scores: &[F], candidates: &[usize], count: usize) -> Vec<usize> {
    let mut order = candidates.to_vec();
    // Stable, so that equals keep their order.
    order.sort_by(|&a, &b| scores[b].partial_cmp(&scores[a]).unwrap_or(std::cmp::Ordering::Equal));
    order.truncate(count);
    order
}

/// Weights of the chosen experts from their scores.
fn expert_weights<F: Real>(c: &ModelConfig, p: &[F]) -> Vec<F> {
    let sum: F = p.iter().copied().sum();
    let sigmoid = c.scoring_func == ScoringFunc::Sigmoid;
    let scaled = |p: F| F::of(c.routed_scaling_factor) * p;
    let weigh = |p: F| match c.router_weights {
        RouterWeights::Hf if sigmoid && c.norm_topk_prob => scaled(p / (sum + F::of(1e-20))),
        RouterWeights::Hf => scaled(p),
        RouterWeights::Deepseek if c.norm_topk_prob && c.num_experts_per_tok > 1 => p / (sum + F::of(1e-20)),
        RouterWeights::Deepseek => scaled(p),
        RouterWeights::Seed if c.norm_topk_prob => p / (sum + F::of(1e-9)),
        RouterWeights::Seed => p,
        RouterWeights::NormScale => scaled(p / (sum + F::of(1e-20))),
    };
    p.iter().map(|&p| weigh(p)).collect()
}
