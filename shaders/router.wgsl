// Expert selection of one token: p = softmax(logits) over all experts; the `selected` experts with the largest logits,
// lower number first on ties, only from the `groups_kept` groups with the largest maximum; and their weights
// scale * p / (normalise ? sum of the selected p + epsilon : 1).
// One workgroup a token, one invocation an expert; overwrites probs, chosen and weights.
// Reference: src/reference/router.rs.
//
// Experts are ranked by the integer order of their logits: softmax is monotone, so that is the order of p without the
// rounding of exp, and it stays a strict order when logits are NaN. So every rank is taken by exactly one expert.
#define EXPERTS 64
#define SELECTED 6
#define GROUPS 1
#define THREADS 64
#import shared/index
#import shared/reduce

struct Params {
    rows: u32,
    experts: u32,
    selected: u32,
    groups: u32,
    groups_kept: u32,
    normalise: u32,
    epsilon: f32,
    scale: f32,
}
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> logits: array<f32>;        // (rows, experts)
@group(0) @binding(1) var<storage, read_write> probs: array<f32>;   // (rows, experts)
@group(0) @binding(2) var<storage, read_write> chosen: array<u32>;  // (rows, selected)
@group(0) @binding(3) var<storage, read_write> weights: array<f32>; // (rows, selected)

var<workgroup> keys: array<u32, #{EXPERTS}>;
var<workgroup> picked: array<u32, #{SELECTED}>;

// A number from 1 on that orders like the float; 0 is left to experts of groups that are not kept.
fn key(x: f32) -> u32 {
    let bits = bitcast<u32>(x);
    let ascending = select(bits | 0x80000000u, ~bits, bits > 0x80000000u); // -0 counts as 0
    return max(ascending, 1u);
}
#if GROUPS > 1

var<workgroup> group_keys: array<u32, #{GROUPS}>;

// Whether fewer than `groups_kept` groups come before this one.
fn is_kept(own: u32) -> bool {
    var before = 0u;
    for (var other = 0u; other < #{GROUPS}u; other++) {
        let ahead = group_keys[other] > group_keys[own] || (group_keys[other] == group_keys[own] && other < own);
        before += select(0u, 1u, ahead);
    }
    return before < p.groups_kept;
}
#end

// Gives every expert its rank and the first ones their places.
fn pick(lane: u32, row: u32) {
    for (var e = lane; e < #{EXPERTS}u; e += #{THREADS}u) {
        let own = keys[e];
        var rank = 0u;
        for (var other = 0u; other < #{EXPERTS}u; other++) {
            let theirs = keys[other];
            rank += select(0u, 1u, theirs > own || (theirs == own && other < e));
        }
        if (rank < #{SELECTED}u) {
            picked[rank] = e;
            chosen[row * #{SELECTED}u + rank] = e;
        }
    }
}

@compute @workgroup_size(#{THREADS})
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group_index(group, groups);
    if (row >= p.rows) {
        return;
    }
    let first = row * #{EXPERTS}u;
    for (var e = lane; e < #{EXPERTS}u; e += #{THREADS}u) {
        keys[e] = key(logits[first + e]);
    }
    workgroupBarrier();
#if GROUPS > 1
    for (var g = lane; g < #{GROUPS}u; g += #{THREADS}u) {
        var largest = 0u;
        for (var i = 0u; i < #{EXPERTS / GROUPS}u; i++) {
            largest = max(largest, keys[g * #{EXPERTS / GROUPS}u + i]);
        }
        group_keys[g] = largest;
    }
    workgroupBarrier();
    for (var e = lane; e < #{EXPERTS}u; e += #{THREADS}u) {
        if (!is_kept(e / #{EXPERTS / GROUPS}u)) {
            keys[e] = 0u;
        }
    }
    workgroupBarrier();
#end
    pick(lane, row);
    workgroupBarrier();
    // The group of the largest logit is always kept, so the first choice is the maximum over all experts.
    let largest = logits[first + picked[0]];
    var share = 0.0;
    for (var e = lane; e < #{EXPERTS}u; e += #{THREADS}u) {
        share += exp(logits[first + e] - largest);
    }
    let total = reduce_sum(lane, share);
    for (var e = lane; e < #{EXPERTS}u; e += #{THREADS}u) {
        probs[first + e] = exp(logits[first + e] - largest) / total;
    }
    for (var j = lane; j < #{SELECTED}u; j += #{THREADS}u) {
        var divisor = 1.0;
        if (p.normalise != 0u) {
            divisor = 0.0;
            for (var i = 0u; i < #{SELECTED}u; i++) {
                divisor += exp(logits[first + picked[i]] - largest) / total;
            }
            divisor += p.epsilon;
        }
        weights[row * #{SELECTED}u + j] = p.scale * (exp(logits[first + picked[j]] - largest) / total) / divisor;
    }
}
