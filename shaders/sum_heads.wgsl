// y[r, i] = sum over heads h, ascending, of source[r, h, offset + i]: what all heads contribute to a shared vector.
// One invocation an element of y; overwrites y. Reference: src/reference/sum_heads.rs.
#define THREADS 256
#import shared/index

struct Params {
    rows: u32,
    heads: u32,
    width: u32,
    stride: u32,
    offset: u32,
}
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> source: array<#{HALF_SOURCE ? f16 : f32}>; // (rows, heads, stride)
@group(0) @binding(1) var<storage, read_write> y: array<#{HALF_Y ? f16 : f32}>;     // (rows, width)

@compute @workgroup_size(#{THREADS})
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = group_index(group, groups) * #{THREADS}u + lane;
    let row = i / p.width;
    if (row >= p.rows) {
        return;
    }
    let first = row * p.heads * p.stride + p.offset + (i - row * p.width);
    var sum = 0.0;
    for (var head = 0u; head < p.heads; head += 1u) {
        sum += f32(source[first + head * p.stride]);
    }
    y[i] = #{HALF_Y ? f16 : f32}(sum);
}
