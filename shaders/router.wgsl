// Expert selection of one token: scores s = softmax(logits) over all experts, with SIGMOID the sigmoid of each logit;
// the `selected` experts with the largest s, with BIASED the largest s + bias, lower number first on ties, only from
// the `groups_kept` groups with the largest maximum, with BIASED the largest sum of the two largest s + bias; and their
// weights scale * s / (normalise ? sum of the selected s + epsilon : 1), without the bias.
// totals = sum of s (+ 1e-20 with SIGMOID), which is 1 for softmax; probs = s / totals.
// One workgroup a token, one invocation an expert; overwrites probs, totals, chosen and weights.
// Reference: src/reference/router.rs.
//
// Without a bias experts are ranked by the integer order of their logits: both scores are monotone, so that is the
// order of s without the rounding of exp. With one it is the order of s + bias. Either stays a strict order when logits
// are NaN. So every rank is taken by exactly one expert.
#define EXPERTS 64
#define SELECTED 6
#define GROUPS 1
#define SIGMOID 0
#define BIASED 0
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
    scoring: u32,
    biased: u32,
}
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> logits: array<f32>;        // (rows, experts)
@group(0) @binding(1) var<storage, read> bias: array<f32>;          // (experts), if biased
@group(0) @binding(2) var<storage, read_write> probs: array<f32>;   // (rows, experts)
@group(0) @binding(3) var<storage, read_write> totals: array<f32>;  // (rows)
@group(0) @binding(4) var<storage, read_write> chosen: array<u32>;  // (rows, selected)
@group(0) @binding(5) var<storage, read_write> weights: array<f32>; // (rows, selected)

var<workgroup> scores: array<f32, #{EXPERTS}>;
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

// A number that orders groups.
fn group_key(g: u32) -> u32 {
    var largest = 0u;
#if BIASED
    var second = 0u;
    var best = vec2<f32>(); // the two largest s + bias
#end
    for (var i = 0u; i < #{EXPERTS / GROUPS}u; i++) {
        let e = g * #{EXPERTS / GROUPS}u + i;
#if BIASED
        if (keys[e] > largest) {
            second = largest;
            largest = keys[e];
            best = vec2<f32>(scores[e] + bias[e], best.x);
        } else if (keys[e] > second) {
            second = keys[e];
            best.y = scores[e] + bias[e];
        }
#else
        largest = max(largest, keys[e]);
#end
    }
    return #{BIASED ? key(best.x + best.y) : largest};
}

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
#if SIGMOID
        scores[e] = 1.0 / (1.0 + exp(-logits[first + e]));
#end
        keys[e] = key(#{BIASED ? scores[e] + bias[e] : logits[first + e]});
    }
    workgroupBarrier();
#if GROUPS > 1
    for (var g = lane; g < #{GROUPS}u; g += #{THREADS}u) {
        group_keys[g] = group_key(g);
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
    var share = 0.0;
#if SIGMOID
    for (var e = lane; e < #{EXPERTS}u; e += #{THREADS}u) {
        share += scores[e];
    }
    let total = reduce_sum(lane, share) + 1e-20;
    for (var e = lane; e < #{EXPERTS}u; e += #{THREADS}u) {
        probs[first + e] = scores[e] / total;
    }
#else
    // The group of the largest logit is always kept, so the first choice is the maximum over all experts.
    let largest = logits[first + picked[0]];
    for (var e = lane; e < #{EXPERTS}u; e += #{THREADS}u) {
        share += exp(logits[first + e] - largest);
    }
    let sum = reduce_sum(lane, share);
    for (var e = lane; e < #{EXPERTS}u; e += #{THREADS}u) {
        scores[e] = exp(logits[first + e] - largest) / sum;
        probs[first + e] = scores[e];
    }
    let total = 1.0;
#end
    if (lane == 0u) {
        totals[row] = total;
    }
    workgroupBarrier();
    for (var j = lane; j < #{SELECTED}u; j += #{THREADS}u) {
        var divisor = 1.0;
        if (p.normalise != 0u) {
            divisor = 0.0;
            for (var i = 0u; i < #{SELECTED}u; i++) {
                divisor += scores[picked[i]];
            }
            divisor += p.epsilon;
        }
        weights[row * #{SELECTED}u + j] = p.scale * scores[picked[j]] / divisor;
    }
}
