// From the sum of the partials, of a gradient that is S = loss scale times too large: norm = sqrt(sum) / S,
// clip = min(1, clip_norm / (norm + 1e-6)) / S (1 / S without a clip_norm), flag = 1 if the sum and the window's loss
// in metrics are finite and no spike is marked there, else 0.
// Then what the next update begins with: after a flag of 1 the corrections 1 - beta^t move on and S doubles each
// growth_interval; else the update counts as skipped, and S halves unless it was but a spike. growth_interval 0 leaves
// S alone.
// One workgroup; updates result.
// Reference: src/reference/grad_norm_finish.rs.
#define THREADS 256
#import shared/reduce
#import shared/state

struct Params {
    partials: u32,
    clip_norm: f32,
    beta1: f32,
    beta2: f32,
    growth_interval: u32,
}
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> partials: array<f32>;     // (partials)
@group(0) @binding(1) var<storage, read> metrics: array<f32>;      // (8)
@group(0) @binding(2) var<storage, read_write> result: array<f32>; // (8)

@compute @workgroup_size(#{THREADS})
fn main(@builtin(local_invocation_index) lane: u32) {
    var sum = 0.0;
    for (var i = lane; i < p.partials; i += #{THREADS}u) {
        sum += partials[i];
    }
    sum = reduce_sum(lane, sum);
    if (lane == 0u) {
        let scale = result[RESULT_LOSS_SCALE];
        let norm = sqrt(sum) / scale;
        result[RESULT_NORM] = norm;
        result[RESULT_CLIP] = select(1.0, min(1.0, p.clip_norm / (norm + 1e-6)), p.clip_norm > 0.0) / scale;
        let finite = is_finite(sum) && is_finite(metrics[METRIC_LOSS]) && is_finite(metrics[METRIC_GOAL]);
        if (finite && metrics[METRIC_SPIKE] != 1.0) {
            result[RESULT_FINITE] = 1.0;
            result[RESULT_CORRECTION1] = p.beta1 * result[RESULT_CORRECTION1] + (1.0 - p.beta1);
            result[RESULT_CORRECTION2] = p.beta2 * result[RESULT_CORRECTION2] + (1.0 - p.beta2);
            let clean = result[RESULT_CLEAN] + 1.0;
            let grows = p.growth_interval > 0u && clean >= f32(p.growth_interval);
            result[RESULT_CLEAN] = select(clean, 0.0, grows);
            result[RESULT_LOSS_SCALE] = select(scale, min(2.0 * scale, LARGEST_LOSS_SCALE), grows);
        } else {
            result[RESULT_FINITE] = 0.0;
            result[RESULT_SKIPPED] += 1.0;
            if (!finite) {
                result[RESULT_CLEAN] = 0.0;
                result[RESULT_LOSS_SCALE] = select(scale, max(0.5 * scale, 1.0), p.growth_interval > 0u);
            }
        }
    }
}
