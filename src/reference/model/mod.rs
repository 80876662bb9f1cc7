//! The independent judge: the whole network and its loss as plain loops, one token and one head at a time.
//!
//! It shares nothing with the kernels, the graph or `model/` but the configuration and the names of parameters, so a
//! mistake in those cannot hide here. In f64 its differences judge every gradient. There is no dropout.
//! Letters: B sequences, T positions, N = B T, V words, d width, H heads, E experts.

mod attention; // multi-head latent attention
mod experts; // dense layers, the router and the experts
mod positions; // how far rotated pairs turn
#[cfg(test)]
mod tests;

use super::Real;
use crate::config::model::ModelConfig;
use experts::Routing;
use rayon::prelude::*;
use std::collections::HashMap;

/// The target of a position that has none.
pub const IGNORED: u32 = u32::MAX;

/// Parameters by their names in memory, where the experts of a layer are fused.
pub type Params<F> = HashMap<String, Vec<F>>;

/// What the network reads. All slices are row-major (B, T).
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// Token numbers.
    pub ids: &'a [u32],
    /// B: sequences.
    pub batch: usize,
    /// T: positions of a sequence.
    pub length: usize,
    /// For each position where its document begins in the sequence; positions count from there, and nothing before it
    /// is seen. Absent: each sequence is one document.
    pub document_start: Option<&'a [u32]>,
    /// 0 for padding, which the balance loss does not count. Absent: all is text.
    pub real: Option<&'a [u32]>,
}

impl<'a> Batch<'a> {
    /// Sequences of text, each one document.
    pub fn of(ids: &'a [u32], batch: usize, length: usize) -> Batch<'a> {
        assert_eq!(ids.len(), batch * length, "ids have the shape (B, T)");
        Batch { ids, batch, length, document_start: None, real: None }
    }

    /// Where the document of position `t` of sequence `b` begins.
    fn start(&self, b: usize, t: usize) -> usize {
        self.document_start.map_or(0, |starts| starts[b * self.length + t] as usize)
    }

    /// Tokens of the longest document, padding left out.
    fn longest(&self) -> usize {
        let places = (0..self.batch).flat_map(|b| (0..self.length).map(move |t| (b, t)));
        let real = places.filter(|&(b, t)| self.is_real(b * self.length + t));
        real.map(|(b, t)| t - self.start(b, t) + 1).max().unwrap_or(0)
    }

    fn is_real(&self, token: usize) -> bool {
        self.real.is_none_or(|real| real[token] != 0)
    }
}

/// What the network should have said. All slices are row-major (B, T).
#[derive(Clone, Copy, Debug)]
pub struct Targets<'a> {
    /// The next token of each position, or [`IGNORED`].
    pub targets: &'a [u32],
    /// Weight of each position's loss: 1 / (counted positions of the whole update) for their mean.
    pub weights: &'a [f64],
    /// Documents with text in the whole update: what the balance loss is the mean over. Without `seq_aux` its
    /// sequences, of which each batch has B.
    pub sequences: usize,
}

/// A loss in its two parts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Loss<F> {
    /// Weighted sum of cross-entropies, in nats.
    pub main: F,
    /// Balance losses of all layers with experts.
    pub balance: F,
}

impl<F: Real> Loss<F> {
    /// What training descends.
    pub fn total(&self) -> F {
        self.main + self.balance
    }
}

/// Logits of every position. (B, T, V)
///
/// Panics if a parameter is missing or an id is no word: broken invariants of the caller.
pub fn logits<F: Real>(config: &ModelConfig, params: &Params<F>, batch: &Batch<'_>) -> Vec<F> {
    network(config, params, batch).0
}

/// Cross-entropy and balance loss.
///
/// Panics as [`logits`] does.
pub fn loss<F: Real>(config: &ModelConfig, params: &Params<F>, batch: &Batch<'_>, targets: &Targets<'_>) -> Loss<F> {
    let (logits, routings) = network(config, params, batch);
    let mut main = F::zero();
    for (token, z) in logits.chunks(config.vocab_size).enumerate() {
        let target = targets.targets[token];
        if target != IGNORED {
            main += F::of(targets.weights[token]) * (log_sum_exp(z) - z[target as usize]);
        }
    }
    let balance = routings.iter().map(|r| balance_loss(config, batch, r, targets.sequences)).sum();
    Loss { main, balance }
}

/// The choices of the routers for every position: one list a layer with experts, from the first to the last.
pub fn selections<F: Real>(config: &ModelConfig, params: &Params<F>, batch: &Batch<'_>) -> Vec<Vec<Vec<usize>>> {
    let (_, routings) = network(config, params, batch);
    routings.into_iter().map(|layer| layer.into_iter().map(|token| token.chosen).collect()).collect()
}

/// Logits, and for each layer with experts how every token was routed.
fn network<F: Real>(c: &ModelConfig, params: &Params<F>, batch: &Batch<'_>) -> (Vec<F>, Vec<Vec<Routing<F>>>) {
    let d = c.hidden_size;
    let get = |name: &str| weight(params, name);
    let embedding = get("model.embed_tokens.weight");
    let mut h: Vec<F> = Vec::new();
    for &id in batch.ids {
        h.extend(&embedding[id as usize * d..][..d]);
    }
    let mut routings = Vec::new();
    for i in 0..c.num_hidden_layers {
        let layer = format!("model.layers.{i}");
        let x = rms_norm(&h, get(&format!("{layer}.input_layernorm.weight")), c.rms_norm_eps);
        add(&mut h, &attention::attention(c, params, &format!("{layer}.self_attn"), batch, &x));
        let x = rms_norm(&h, get(&format!("{layer}.post_attention_layernorm.weight")), c.rms_norm_eps);
        let mlp = format!("{layer}.mlp");
        if c.is_moe(i) {
            let (y, routing) = experts::mixture(c, params, &mlp, &x);
            add(&mut h, &y);
            routings.push(routing);
        } else {
            add(&mut h, &experts::feed_forward(params, &mlp, &x, d, c.intermediate_size));
        }
    }
    let x = rms_norm(&h, get("model.norm.weight"), c.rms_norm_eps);
    let head = if c.tie_word_embeddings { embedding } else { get("lm_head.weight") };
    (linear(&x, head, d, c.vocab_size), routings)
}

/// `alpha / S * sum_b sum_e f[b, e] P[b, e]` of one layer, over the documents `b` of the batch; S documents make the
/// whole update. With T_b tokens of text, `f = E / (K T_b) * (choices of e)` and `P = 1 / T_b * sum_t p[t, e]`.
/// Without `seq_aux` all tokens of the batch are one document, with the weight of its B sequences.
fn balance_loss<F: Real>(c: &ModelConfig, batch: &Batch<'_>, routing: &[Routing<F>], sequences: usize) -> F {
    let mut documents: HashMap<(usize, usize), Vec<usize>> = HashMap::new();
    for b in 0..batch.batch {
        for t in 0..batch.length {
            let token = b * batch.length + t;
            if batch.is_real(token) {
                let document = if c.seq_aux { (b, batch.start(b, t)) } else { (0, 0) };
                documents.entry(document).or_default().push(token);
            }
        }
    }
    // In a fixed order, so that the sum is the same each time.
    let mut documents: Vec<Vec<usize>> = documents.into_values().collect();
    documents.sort();
    let mut sum = F::zero();
    for tokens in documents {
        let t_b = F::of(tokens.len() as f64);
        for e in 0..c.n_routed_experts {
            let choices = tokens.iter().filter(|&&t| routing[t].chosen.contains(&e)).count();
            let f = F::of((c.n_routed_experts * choices) as f64) / (F::of(c.num_experts_per_tok as f64) * t_b);
            let p = tokens.iter().map(|&t| routing[t].probabilities[e]).sum::<F>() / t_b;
            sum += f * p;
        }
    }
    let weight = if c.seq_aux { 1.0 } else { batch.batch as f64 };
    F::of(c.aux_loss_alpha * weight) * sum / F::of(sequences as f64)
}

/// A parameter by name.
fn weight<'a, F>(params: &'a Params<F>, name: &str) -> &'a [F] {
    params.get(name).unwrap_or_else(|| panic!("the judge was given no {name}"))
}

/// `y = x w^T` for rows of `inputs` numbers. x (rows, inputs), w (outputs, inputs), y (rows, outputs)
fn linear<F: Real>(x: &[F], w: &[F], inputs: usize, outputs: usize) -> Vec<F> {
    assert_eq!(w.len(), inputs * outputs, "a matrix of {outputs} x {inputs}");
    let dot = |a: &[F], b: &[F]| a.iter().zip(b).map(|(&a, &b)| a * b).sum::<F>();
    x.par_chunks(inputs).flat_map_iter(|row| w.chunks(inputs).map(move |column| dot(row, column))).collect()
}

/// `y = w x / sqrt(mean(x^2) + epsilon)`, row by row; rows are as wide as `w`.
fn rms_norm<F: Real>(x: &[F], w: &[F], epsilon: f64) -> Vec<F> {
    let mut y = Vec::with_capacity(x.len());
    for row in x.chunks(w.len()) {
        let mean_square = row.iter().map(|&x| x * x).sum::<F>() / F::of(w.len() as f64);
        let inverse = F::one() / (mean_square + F::of(epsilon)).sqrt();
        y.extend(row.iter().zip(w).map(|(&x, &w)| w * (x * inverse)));
    }
    y
}

fn add<F: Real>(h: &mut [F], x: &[F]) {
    h.iter_mut().zip(x).for_each(|(h, &x)| *h += x);
}

fn largest<F: Real>(z: &[F]) -> F {
    z.iter().copied().fold(F::neg_infinity(), F::max)
}

fn log_sum_exp<F: Real>(z: &[F]) -> F {
    let top = largest(z);
    top + z.iter().map(|&z| (z - top).exp()).sum::<F>().ln()
}

fn softmax<F: Real>(z: &[F]) -> Vec<F> {
    let top = largest(z);
    let powers: Vec<F> = z.iter().map(|&z| (z - top).exp()).collect();
    let sum: F = powers.iter().copied().sum();
    powers.into_iter().map(|p| p / sum).collect()
}
