// d_x = i * g - x * i^3 * mean(g * x), g = weight * d_y, i = inverse_rms: the derivative of y = weight * x * i.
// One workgroup a row; overwrites d_x. Reference: src/reference/rms_norm_backward.rs.
#define THREADS 128
#import shared/index
#import shared/reduce

struct Params {
    rows: u32,
    width: u32,
}
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> d_y: array<#{HALF_D_Y ? f16 : f32}>;       // (rows, width)
@group(0) @binding(1) var<storage, read> x: array<#{HALF_X ? f16 : f32}>;           // (rows, width)
@group(0) @binding(2) var<storage, read> weight: array<f32>;                        // (width)
@group(0) @binding(3) var<storage, read> inverse_rms: array<f32>;                   // (rows)
@group(0) @binding(4) var<storage, read_write> d_x: array<#{HALF_D_X ? f16 : f32}>; // (rows, width)

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
    var product = 0.0;
    for (var i = lane; i < p.width; i += #{THREADS}u) {
        product = fma(weight[i] * f32(d_y[first + i]), f32(x[first + i]), product);
    }
    let inverse = inverse_rms[row];
    let slope = inverse * inverse * (reduce_sum(lane, product) / f32(p.width));
    for (var i = lane; i < p.width; i += #{THREADS}u) {
        let d = weight[i] * f32(d_y[first + i]) - f32(x[first + i]) * slope;
        d_x[first + i] = #{HALF_D_X ? f16 : f32}(inverse * d);
    }
}
