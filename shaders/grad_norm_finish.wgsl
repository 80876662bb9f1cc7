// result = (norm, clip factor, finite flag): norm = sqrt(sum of partials), clip = min(1, clip_norm / (norm + 1e-6)) or
// 1 without a clip_norm, flag = 1 if the sum is finite, else 0. One workgroup; overwrites these three words.
// Reference: src/reference/grad_norm_finish.rs.
#define THREADS 256
#import shared/reduce
#import shared/state

struct Params {
    partials: u32,
    clip_norm: f32,
}
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> partials: array<f32>;     // (partials)
@group(0) @binding(1) var<storage, read_write> result: array<f32>; // (8)

@compute @workgroup_size(#{THREADS})
fn main(@builtin(local_invocation_index) lane: u32) {
    var sum = 0.0;
    for (var i = lane; i < p.partials; i += #{THREADS}u) {
        sum += partials[i];
    }
    sum = reduce_sum(lane, sum);
    if (lane == 0u) {
        let norm = sqrt(sum);
        result[RESULT_NORM] = norm;
        result[RESULT_CLIP] = select(1.0, min(1.0, p.clip_norm / (norm + 1e-6)), p.clip_norm > 0.0);
        result[RESULT_FINITE] = select(0.0, 1.0, is_finite(sum));
    }
}
