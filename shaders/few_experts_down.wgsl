// y[n, o] = residual[n, o] + sum_j weights[n, j] (row o of the down matrix of expert chosen[n, j]) . h[n, j] + (row o
// of the shared down matrix) . (the rest of h[n]). Four teams of 32 invocations have an output of a token; overwrites
// y.
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

var<workgroup> parts: array<f32, 8>; // of a team each

@compute @workgroup_size(#{THREADS})
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let expert = p.expert / #{LANES}u;
    let shared_width = p.dense / #{LANES}u;
    let routed = p.selected * expert;
    let blocks = (p.width + 1u) / 2u;
    let index = group_index(group, groups);
    let token = index / blocks;
    if (token >= p.rows) {
        return;
    }
    let output = index % blocks * 2u + lane / 128u;
    let own = min(output, p.width - 1u);
    let first = token * (routed + shared_width);
    var sum = 0.0;
    // The hidden numbers of all experts are one row, of which four teams have every fourth stretch.
    for (var start = lane % 128u; start < routed; start += 512u) {
#for u in 0..4
        let i#{u} = min(start + #{128 * u}u, routed - 1u);
        let j#{u} = token * p.selected + i#{u} / expert;
        let w#{u} = Elements(down[(chosen[j#{u}] * p.width + own) * expert + i#{u} % expert]);
        let h#{u} = h[first + i#{u}] * (weights[j#{u}] * select(0.0, 1.0, start + #{128 * u}u < routed));
#end
#for u in 0..4
        sum += inner(w#{u}, h#{u});
#end
    }
    for (var start = lane % 128u; start < shared_width; start += 512u) {
#for u in 0..4
        let i#{u} = min(start + #{128 * u}u, shared_width - 1u);
        let w#{u} = Elements(shared_down[own * shared_width + i#{u}]);
        let h#{u} = h[first + routed + i#{u}] * select(0.0, 1.0, start + #{128 * u}u < shared_width);
#end
#for u in 0..4
        sum += inner(w#{u}, h#{u});
#end
    }
    let part = team_sum(lane, vec2(sum, 0.0)).x;
    if (lane % 32u == 0u) {
        parts[lane / 32u] = part;
    }
    workgroupBarrier();
    if (lane % 128u == 0u && output < p.width) {
        let team = lane / 32u;
        let total = parts[team] + parts[team + 1u] + parts[team + 2u] + parts[team + 3u];
        y[token * p.width + output] = residual[token * p.width + output] + total;
    }
}
