// loads[row, e] += number of the pairs of expert e. One invocation an expert; accumulates.
// Reference: src/reference/expert_load.rs.
#define THREADS 64

struct Params {
    row: u32,
    experts: u32,
}
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> offsets: array<u32>;     // (experts + 1)
@group(0) @binding(1) var<storage, read_write> loads: array<f32>; // (rows, experts)

@compute @workgroup_size(#{THREADS})
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let e = id.x;
    if (e < p.experts) {
        loads[p.row * p.experts + e] += f32(offsets[e + 1u] - offsets[e]);
    }
}
