// The clipped policy loss of PPO and GRPO. With q = exp(lp - old) and d = reference - lp, the loss of a token is
//   factor * (-min(q A, clamp(q, 1 - clip_low, 1 + clip_high) A) + beta (exp(d) - d - 1) - entropy_bonus H),
// and loss_weights[t], minus its derivative in lp, is what cross_entropy takes:
//   factor * (q A, or 0 where the clamp makes the smaller one, - beta (1 - exp(d))).
// The derivative in the entropy H is cross_entropy's to make. Zeros where the factor is 0. One invocation a token;
// overwrites the weights and the results: loss, exp(d) - d - 1, q, clipped below, clipped above, entropy,
// (lp - old)^2 / 2, counted. Reference: src/reference/policy_loss.rs.
#import shared/elements

struct Params {
    tokens: u32,
    clip_low: f32,
    clip_high: f32,
    beta: f32,
    entropy_bonus: f32,
}
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> log_probs: array<f32>;           // (tokens)
@group(0) @binding(1) var<storage, read> entropies: array<f32>;           // (tokens)
@group(0) @binding(2) var<storage, read> old: array<f32>;                 // (tokens)
@group(0) @binding(3) var<storage, read> reference: array<f32>;           // (tokens)
@group(0) @binding(4) var<storage, read> advantages: array<f32>;          // (tokens)
@group(0) @binding(5) var<storage, read> factors: array<f32>;             // (tokens)
@group(0) @binding(6) var<storage, read_write> loss_weights: array<f32>;  // (tokens)
@group(0) @binding(7) var<storage, read_write> results: array<vec4<f32>>; // (tokens, 8)

// exp(d) - d - 1; near 0, where the terms cancel, by its series, of which the next term is below rounding.
fn divergence(d: f32) -> f32 {
    let later = 1.0 / 24.0 + d * (1.0 / 120.0 + d * (1.0 / 720.0 + d / 5040.0));
    let series = d * d * (0.5 + d * (1.0 / 6.0 + d * later));
    return select(exp(d) - d - 1.0, series, abs(d) < 0.25);
}

// An exponent, at most MOST_EXPONENT of src/kernels/policy_loss.rs: so 0 times its exponential is 0.
fn bounded(exponent: f32) -> f32 {
    return select(exponent, 40.0, exponent > 40.0);
}

@compute @workgroup_size(#{THREADS})
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let t = elements_index(group, groups, lane);
    if (t >= p.tokens) {
        return;
    }
    let factor = factors[t];
    if (factor == 0.0) {
        loss_weights[t] = 0.0;
        results[2u * t] = vec4(0.0);
        results[2u * t + 1u] = vec4(0.0);
        return;
    }
    let advantage = advantages[t];
    let change = log_probs[t] - old[t];
    let ratio = exp(bounded(change));
    let low = ratio < 1.0 - p.clip_low && advantage < 0.0;
    let high = ratio > 1.0 + p.clip_high && advantage > 0.0;
    let gain = min(ratio * advantage, clamp(ratio, 1.0 - p.clip_low, 1.0 + p.clip_high) * advantage);
    let d = bounded(reference[t] - log_probs[t]);
    let kl = divergence(d);
    // exp(d) - 1 is kl + d.
    loss_weights[t] = factor * (select(ratio * advantage, 0.0, low || high) + p.beta * (kl + d));
    let loss = factor * (p.beta * kl - gain - p.entropy_bonus * entropies[t]);
    results[2u * t] = vec4(loss, kl, ratio, select(0.0, 1.0, low));
    results[2u * t + 1u] = vec4(select(0.0, 1.0, high), entropies[t], 0.5 * change * change, 1.0);
}
