// d_x[t] = sum_j d_y[pair_slot[t * selected + j]], j ascending: a token's gradient from the copies of it.
// One invocation a vector of a row; overwrites d_x. Reference: src/reference/expert_gather_backward.rs.
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
@group(0) @binding(0) var<storage, read> d_y: array<#{HALF_D_Y ? Halves : Elements}>; // (tokens * selected, width)
@group(0) @binding(1) var<storage, read> pair_slot: array<u32>;                       // (tokens, selected)
// (tokens, width)
@group(0) @binding(2) var<storage, read_write> d_x: array<#{HALF_D_X ? Halves : Elements}>;

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
    var sum = Elements();
#for j in 0..SELECTED
    sum += Elements(d_y[pair_slot[token * #{SELECTED}u + #{j}u] * #{COLUMNS}u + i % #{COLUMNS}u]);
#end
    d_x[i] = #{HALF_D_X ? Halves : Elements}(sum);
}
