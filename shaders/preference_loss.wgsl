// DPO. Sequences 2i and 2i + 1 of `length` tokens are pair i: chosen and rejected. With lp the sum of a sequence's
// log-probabilities over its counted targets, reward = beta (lp - reference) and z = reward_chosen - reward_rejected,
//   loss = -(1 - smoothing) ln sigmoid(z) - smoothing ln sigmoid(-z),   slope = d loss / dz / pairs of the window,
//   loss_weights[t] = -beta slope for counted targets of the chosen sequence, beta slope for the other's, 0 elsewhere:
// a weight is minus the derivative in the target's log-probability, which is what cross_entropy takes.
// A pair is padding if one of its sequences has no counted target: zeros. One workgroup a pair; overwrites the weights
// and the results: loss, accuracy, both rewards, counted, both lp, sum of entropies.
// Reference: src/reference/preference_loss.rs.
#import shared/elements
#import shared/reduce
#import shared/sigmoid
#import shared/state

struct Params {
    pairs: u32,
    length: u32,
    beta: f32,
    smoothing: f32,
}
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> log_probs: array<f32>;          // (pairs, 2, length)
@group(0) @binding(1) var<storage, read> entropies: array<f32>;          // (pairs, 2, length)
@group(0) @binding(2) var<storage, read> targets: array<u32>;            // (pairs, 2, length)
@group(0) @binding(3) var<storage, read> reference: array<f32>;          // (pairs, 2)
@group(0) @binding(4) var<storage, read> state: array<u32>;              // (8)
@group(0) @binding(5) var<storage, read_write> loss_weights: array<f32>; // (pairs, 2, length)
@group(0) @binding(6) var<storage, read_write> results: array<vec4<f32>>; // (pairs, 8)

// Sums over the counted targets of the sequence from token `first` on: log-probabilities, entropies, ones.
fn sums(lane: u32, first: u32) -> vec3<f32> {
    var own = vec3(0.0);
    for (var t = first + lane; t < first + p.length; t += #{THREADS}u) {
        if (targets[t] != IGNORED) {
            own += vec3(log_probs[t], entropies[t], 1.0);
        }
    }
    let log_prob = reduce_sum(lane, own.x);
    let entropy = reduce_sum(lane, own.y);
    return vec3(log_prob, entropy, reduce_sum(lane, own.z));
}

@compute @workgroup_size(#{THREADS})
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let pair = group_index(group, groups);
    if (pair >= p.pairs) {
        return;
    }
    let first = 2u * pair * p.length;
    let chosen = sums(lane, first);
    let rejected = sums(lane, first + p.length);
    let counted = chosen.z > 0.0 && rejected.z > 0.0;
    let reward_chosen = p.beta * (chosen.x - reference[2u * pair]);
    let reward_rejected = p.beta * (rejected.x - reference[2u * pair + 1u]);
    let z = reward_chosen - reward_rejected;
    let one_pair = bitcast<f32>(state[STATE_INVERSE_PAIRS]);
    let slope = (p.smoothing * sigmoid(z) - (1.0 - p.smoothing) * sigmoid(-z)) * one_pair;
    for (var i = lane; i < 2u * p.length; i += #{THREADS}u) {
        let weight = select(p.beta * slope, -p.beta * slope, i < p.length);
        loss_weights[first + i] = select(0.0, weight, counted && targets[first + i] != IGNORED);
    }
    if (lane == 0u) {
        let loss = (1.0 - p.smoothing) * softplus(-z) + p.smoothing * softplus(z);
        let better = select(0.0, 1.0, reward_chosen > reward_rejected);
        results[2u * pair] = select(vec4(0.0), vec4(loss, better, reward_chosen, reward_rejected), counted);
        results[2u * pair + 1u] =
            select(vec4(0.0), vec4(1.0, chosen.x, rejected.x, chosen.y + rejected.y), counted);
    }
}
