// y[n, o] = residual[n, o] + sum_j weights[n, j] (row o of the down matrix of expert chosen[n, j]) . h[n, j] + (row o
// of the shared down matrix) . (the rest of h[n]). A team of 32 invocations has an output of a token; overwrites y.
// Reference: src/reference/few_experts_down.rs.
#define THREADS 256
#import shared/index
#import shared/team

struct Params {
    rows: u32,
    width: u32,
    selected: u32,
    expert: u32,
    dense: u32,
    epsilon: f32,
}
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> h: array<Elements>;                                          // (rows, hidden)
@group(0) @binding(1) var<storage, read> chosen: array<u32>;                                          // (rows, ..)
@group(0) @binding(2) var<storage, read> weights: array<f32>;                                         // (rows, ..)
@group(0) @binding(3) var<storage, read> down: array<#{HALF_DOWN ? Halves : Elements}>;               // (.., expert)
@group(0) @binding(4) var<storage, read> shared_down: array<#{HALF_SHARED_DOWN ? Halves : Elements}>; // (width, shared)
@group(0) @binding(5) var<storage, read> residual: array<f32>;                                        // (rows, width)
@group(0) @binding(6) var<storage, read_write> y: array<f32>;                                         // (rows, width)

@compute @workgroup_size(#{THREADS})
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let expert = p.expert / #{LANES}u;
    let shared_width = p.dense / #{LANES}u;
    let routed = p.selected * expert;
    let blocks = (p.width + 7u) / 8u;
    let index = group_index(group, groups);
    let token = index / blocks;
    if (token >= p.rows) {
        return;
    }
    let output = index % blocks * 8u + lane / 32u;
    let own = min(output, p.width - 1u);
    let first = token * (routed + shared_width);
    var sum = 0.0;
    for (var j = 0u; j < p.selected; j++) {
        let row = (chosen[token * p.selected + j] * p.width + own) * expert;
        var part = 0.0;
        for (var i = lane % 32u; i < expert; i += 32u) {
            part += inner(Elements(down[row + i]), h[first + j * expert + i]);
        }
        sum = fma(weights[token * p.selected + j], part, sum);
    }
    for (var i = lane % 32u; i < shared_width; i += 32u) {
        sum += inner(Elements(shared_down[own * shared_width + i]), h[first + routed + i]);
    }
    let total = team_sum(lane, vec2(sum, 0.0)).x;
    if (lane % 32u == 0u && output < p.width) {
        y[token * p.width + output] = residual[token * p.width + output] + total;
    }
}
