// y = weight * x / sqrt(mean(x^2) + epsilon), and the inverse root for the backward pass.
// One workgroup a row; overwrites y and inverse_rms. Reference: src/reference/rms_norm.rs.
#define THREADS 128
#import shared/index
#import shared/reduce

struct Params {
    rows: u32,
    width: u32,
    epsilon: f32,
}
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> x: array<#{HALF_X ? f16 : f32}>;       // (rows, width)
@group(0) @binding(1) var<storage, read> weight: array<f32>;                    // (width)
@group(0) @binding(2) var<storage, read_write> y: array<#{HALF_Y ? f16 : f32}>; // (rows, width)
@group(0) @binding(3) var<storage, read_write> inverse_rms: array<f32>;         // (rows)

@compute @workgroup_size(#{THREADS})
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group_index(group, groups);
    if (row >= p.rows) {
        return;
    }
    let first = row * p.width;
    var square = 0.0;
    for (var i = lane; i < p.width; i += #{THREADS}u) {
        let v = f32(x[first + i]);
        square = fma(v, v, square);
    }
    let inverse = 1.0 / sqrt(reduce_sum(lane, square) / f32(p.width) + p.epsilon);
    for (var i = lane; i < p.width; i += #{THREADS}u) {
        y[first + i] = #{HALF_Y ? f16 : f32}(weight[i] * f32(x[first + i]) * inverse);
    }
    if (lane == 0u) {
        inverse_rms[row] = inverse;
    }
}
