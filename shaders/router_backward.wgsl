// Gradient of the router's logits. With S a token's chosen experts, s = probs * totals the scores, p = probs:
//   into the selected s:  ds_e = scale * dw_e                              as is,
//                         ds_e = scale / D * (dw_e - sum_S dw_j s_j / D)   normalised, D = sum_S s + epsilon,
//   through the softmax:  dl_e = p_e * (dp_e - sum_j p_j dp_j)             over all experts, dp = ds + d_probs,
//   through the sigmoid:  ds_e += (d_probs_e - sum_j p_j d_probs_j) / totals, since p = s / totals, and
//                         dl_e = s_e * (1 - s_e) * ds_e.
// One workgroup a token, one invocation an expert; overwrites d_logits. Reference: src/reference/router_backward.rs.
#define EXPERTS 64
#define SELECTED 6
#define SIGMOID 0
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
    has_d_probs: u32,
}
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> d_weights: array<f32>;      // (rows, selected)
@group(0) @binding(1) var<storage, read> d_probs: array<f32>;        // (rows, experts)
@group(0) @binding(2) var<storage, read> probs: array<f32>;          // (rows, experts)
@group(0) @binding(3) var<storage, read> totals: array<f32>;         // (rows)
@group(0) @binding(4) var<storage, read> chosen: array<u32>;         // (rows, selected)
@group(0) @binding(5) var<storage, read_write> d_logits: array<f32>; // (rows, experts)

var<workgroup> d_p: array<f32, #{EXPERTS}>;

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
    let first_choice = row * #{SELECTED}u;
    for (var e = lane; e < #{EXPERTS}u; e += #{THREADS}u) {
        d_p[e] = 0.0;
        if (p.has_d_probs != 0u) {
            d_p[e] = d_probs[first + e];
        }
    }
    let total = totals[row];
    var dot = 0.0;
#if SIGMOID
    for (var e = lane; e < #{EXPERTS}u; e += #{THREADS}u) {
        dot = fma(probs[first + e], d_p[e], dot);
    }
    let mean_p = reduce_sum(lane, dot);
    for (var e = lane; e < #{EXPERTS}u; e += #{THREADS}u) {
        d_p[e] = (d_p[e] - mean_p) / total;
    }
#end
    workgroupBarrier();
    for (var j = lane; j < #{SELECTED}u; j += #{THREADS}u) {
        var divisor = 1.0;
        var mean = 0.0;
        if (p.normalise != 0u) {
            divisor = 0.0;
            for (var i = first_choice; i < first_choice + #{SELECTED}u; i++) {
                let score = probs[first + chosen[i]] * total;
                divisor += score;
                mean = fma(d_weights[i], score, mean);
            }
            divisor += p.epsilon;
            mean /= divisor;
        }
        // A token's choices are distinct: no other invocation adds to this expert.
        d_p[chosen[first_choice + j]] += p.scale / divisor * (d_weights[first_choice + j] - mean);
    }
    workgroupBarrier();
#if SIGMOID
    for (var e = lane; e < #{EXPERTS}u; e += #{THREADS}u) {
        let score = probs[first + e] * total;
        d_logits[first + e] = score * (1.0 - score) * d_p[e];
    }
#else
    for (var e = lane; e < #{EXPERTS}u; e += #{THREADS}u) {
        dot = fma(probs[first + e], d_p[e], dot);
    }
    let mean = reduce_sum(lane, dot);
    for (var e = lane; e < #{EXPERTS}u; e += #{THREADS}u) {
        d_logits[first + e] = probs[first + e] * (d_p[e] - mean);
    }
#end
}
