// y[s] = x[slot_pair[s] / selected]: tokens in the order sorted by expert, a copy for each of their experts.
// One invocation a vector of a row; overwrites y. Reference: src/reference/expert_gather.rs.
// `Elements` of a row.
#define COLUMNS 256
#define SELECTED 6
#import shared/elements

struct Params {
    pairs: u32,
    selected: u32,
    width: u32,
}
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> x: array<#{HALF_X ? Halves : Elements}>;       // (tokens, width)
@group(0) @binding(1) var<storage, read> slot_pair: array<u32>;                         // (pairs)
@group(0) @binding(2) var<storage, read_write> y: array<#{HALF_Y ? Halves : Elements}>; // (pairs, width)

@compute @workgroup_size(#{THREADS})
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = elements_index(group, groups, lane);
    let slot = i / #{COLUMNS}u;
    if (slot >= p.pairs) {
        return;
    }
    y[i] = #{HALF_Y ? Halves : Elements}(Elements(x[slot_pair[slot] / #{SELECTED}u * #{COLUMNS}u + i % #{COLUMNS}u]));
}
