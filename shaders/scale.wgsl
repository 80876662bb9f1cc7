// y = factor x. One invocation a scalar or vector; overwrites y. Reference: src/reference/scale.rs.
#import shared/elements

struct Params {
    count: u32,
    factor: f32,
}
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> x: array<#{HALF_X ? Halves : Elements}>;       // (count)
@group(0) @binding(1) var<storage, read_write> y: array<#{HALF_Y ? Halves : Elements}>; // (count)

@compute @workgroup_size(#{THREADS})
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = elements_index(group, groups, lane);
    if (i < p.count / #{LANES}u) {
        y[i] = #{HALF_Y ? Halves : Elements}(p.factor * Elements(x[i]));
    }
}
