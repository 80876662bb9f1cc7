// d_up = d_h * gate * s, d_gate = d_h * up * s * (1 + gate * (1 - s)), s = sigmoid(gate): the derivative of
// h = gate * s * up. One invocation a scalar or vector; overwrites both. Reference: src/reference/swiglu_backward.rs.
#import shared/elements
#import shared/sigmoid

struct Params {
    count: u32,
}
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> d_h: array<#{HALF_D_H ? Halves : Elements}>;             // (count)
@group(0) @binding(1) var<storage, read> gate: array<#{HALF_GATE ? Halves : Elements}>;           // (count)
@group(0) @binding(2) var<storage, read> up: array<#{HALF_UP ? Halves : Elements}>;               // (count)
@group(0) @binding(3) var<storage, read_write> d_gate: array<#{HALF_D_GATE ? Halves : Elements}>; // (count)
@group(0) @binding(4) var<storage, read_write> d_up: array<#{HALF_D_UP ? Halves : Elements}>;     // (count)

@compute @workgroup_size(#{THREADS})
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = elements_index(group, groups, lane);
    if (i < p.count / #{LANES}u) {
        let a = Elements(gate[i]);
        let s = sigmoid(a);
        let d = Elements(d_h[i]);
        d_up[i] = #{HALF_D_UP ? Halves : Elements}(d * a * s);
        d_gate[i] = #{HALF_D_GATE ? Halves : Elements}(d * Elements(up[i]) * s * (Elements(1.0) + a * sigmoid(-a)));
    }
}
