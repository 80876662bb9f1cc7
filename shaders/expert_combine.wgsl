// y[t] = residual[t] + sum_j weights[t, j] * o[pair_slot[t * selected + j]], j ascending.
// One invocation a vector of a row; overwrites y. Reference: src/reference/expert_combine.rs.
// `Elements` of a row.
#define COLUMNS 256
#define SELECTED 6
#import shared/elements

struct Params {
    tokens: u32,
    selected: u32,
    width: u32,
}
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> residual: array<Elements>;               // (tokens, width)
@group(0) @binding(1) var<storage, read> o: array<#{HALF_O ? Halves : Elements}>; // (tokens * selected, width)
@group(0) @binding(2) var<storage, read> weights: array<f32>;                     // (tokens, selected)
@group(0) @binding(3) var<storage, read> pair_slot: array<u32>;                   // (tokens, selected)
@group(0) @binding(4) var<storage, read_write> y: array<Elements>;                // (tokens, width)

@compute @workgroup_size(#{THREADS})
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = elements_index(group, groups, lane);
    let token = i / #{COLUMNS}u;
    if (token >= p.tokens) {
        return;
    }
    var sum = residual[i];
#for j in 0..SELECTED
    let pair#{j} = token * #{SELECTED}u + #{j}u;
    sum += weights[pair#{j}] * Elements(o[pair_slot[pair#{j}] * #{COLUMNS}u + i % #{COLUMNS}u]);
#end
    y[i] = sum;
}
