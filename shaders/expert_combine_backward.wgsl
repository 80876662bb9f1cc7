// For slot s with pair q of token t: d_o[s] = weights[q] * d_y[t] and d_weights[q] = sum_i d_y[t, i] * o[s, i].
// One workgroup a slot; overwrites d_o and d_weights. Reference: src/reference/expert_combine_backward.rs.
// `Elements` of a row.
#define COLUMNS 256
#define SELECTED 6
#define THREADS 128
#import shared/elements
#import shared/reduce

struct Params {
    tokens: u32,
    selected: u32,
    width: u32,
}
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> d_y: array<#{HALF_D_Y ? Halves : Elements}>; // (tokens, width)
@group(0) @binding(1) var<storage, read> o: array<#{HALF_O ? Halves : Elements}>;     // (tokens * selected, width)
@group(0) @binding(2) var<storage, read> weights: array<f32>;                         // (tokens, selected)
@group(0) @binding(3) var<storage, read> slot_pair: array<u32>;                       // (tokens * selected)
// (tokens * selected, width)
@group(0) @binding(4) var<storage, read_write> d_o: array<#{HALF_D_O ? Halves : Elements}>;
@group(0) @binding(5) var<storage, read_write> d_weights: array<f32>;                 // (tokens, selected)

@compute @workgroup_size(#{THREADS})
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let slot = group_index(group, groups);
    if (slot >= p.tokens * #{SELECTED}u) {
        return;
    }
    let pair = slot_pair[slot];
    let weight = weights[pair];
    let token = pair / #{SELECTED}u;
    var products = Elements();
    for (var i = lane; i < #{COLUMNS}u; i += #{THREADS}u) {
        let d = Elements(d_y[token * #{COLUMNS}u + i]);
        products += d * Elements(o[slot * #{COLUMNS}u + i]);
        d_o[slot * #{COLUMNS}u + i] = #{HALF_D_O ? Halves : Elements}(weight * d);
    }
#if LANES == 4
    let dot = reduce_sum(lane, products.x + products.y + products.z + products.w);
#else
    let dot = reduce_sum(lane, products);
#end
    if (lane == 0u) {
        d_weights[pair] = dot;
    }
}
