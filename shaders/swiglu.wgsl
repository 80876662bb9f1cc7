// h = gate * sigmoid(gate) * up. One invocation a scalar or vector; overwrites h. Reference: src/reference/swiglu.rs.
#import shared/elements
#import shared/sigmoid

struct Params {
    count: u32,
}
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> gate: array<#{HALF_GATE ? Halves : Elements}>; // (count)
@group(0) @binding(1) var<storage, read> up: array<#{HALF_UP ? Halves : Elements}>;     // (count)
@group(0) @binding(2) var<storage, read_write> h: array<#{HALF_H ? Halves : Elements}>; // (count)

@compute @workgroup_size(#{THREADS})
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = elements_index(group, groups, lane);
    if (i < p.count / #{LANES}u) {
        let a = Elements(gate[i]);
        h[i] = #{HALF_H ? Halves : Elements}(a * sigmoid(a) * Elements(up[i]));
    }
}
