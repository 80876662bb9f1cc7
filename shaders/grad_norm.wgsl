// partials[first_partial + i] = sum of gradient^2 over the i-th of equal shares. One workgroup a share, whose bounds
// depend on count and partials alone; overwrites its sums. Reference: src/reference/grad_norm.rs.
#import shared/elements
#import shared/reduce

struct Params {
    count: u32,
    first_partial: u32,
    partials: u32,
}
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> gradient: array<Elements>;  // (count)
@group(0) @binding(1) var<storage, read_write> partials: array<f32>; // (sums of all gradients)

@compute @workgroup_size(#{THREADS})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let count = p.count / #{LANES}u;
    let share = (count + p.partials - 1u) / p.partials;
    let end = min((group.x + 1u) * share, count);
    var square = Elements(0.0);
    for (var i = group.x * share + lane; i < end; i += #{THREADS}u) {
        let g = gradient[i];
        square = fma(g, g, square);
    }
#if LANES == 4
    let total = reduce_sum(lane, (square.x + square.y) + (square.z + square.w));
#else
    let total = reduce_sum(lane, square);
#end
    if (lane == 0u) {
        partials[p.first_partial + group.x] = total;
    }
}
