// Whether the loss of the window at hand lies more than `threshold` standard deviations above the mean of the last
// p.updates losses, for what makes or skips the update. Then the loss takes the place of the oldest, also if it is a
// spike: a run whose loss rose for good goes on. A threshold of 0 does nothing; a loss that is not finite is not kept.
// The loss is a sum over what it is a sum of, or with a factor one loss plus p.factor times another.
// One workgroup; updates history and metrics. Reference: src/reference/spike_guard.rs.
#define THREADS 256
#import shared/reduce
#import shared/state

struct Params {
    updates: u32,
    loss: u32,
    other: u32,
    factor: f32,
}
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> state: array<u32>;         // (8)
@group(0) @binding(1) var<storage, read_write> history: array<f32>; // (2 + updates)
@group(0) @binding(2) var<storage, read_write> metrics: array<f32>; // (8)

@compute @workgroup_size(#{THREADS})
fn main(@builtin(local_invocation_index) lane: u32) {
    let threshold = bitcast<f32>(state[STATE_SPIKE_GUARD]);
    let n = f32(p.updates);
    var kept = 0.0;
    for (var i = lane; i < p.updates; i += #{THREADS}u) {
        kept += history[HISTORY_LOSSES + i];
    }
    let mean = reduce_sum(lane, kept) / n;
    var square = 0.0;
    for (var i = lane; i < p.updates; i += #{THREADS}u) {
        let off = history[HISTORY_LOSSES + i] - mean;
        square = fma(off, off, square);
    }
    let deviation = sqrt(reduce_sum(lane, square) / n);
    let other = metrics[p.other];
    let loss = select(metrics[p.loss] + p.factor * other, metrics[p.loss] / max(other, 1.0), p.factor == 0.0);
    if (lane == 0u && threshold > 0.0 && is_finite(loss)) {
        if (history[HISTORY_COUNT] >= n) {
            let deviations = (loss - mean) / max(deviation, LEAST_DEVIATION);
            metrics[METRIC_DEVIATIONS] = deviations;
            metrics[METRIC_SPIKE] = select(0.0, 1.0, deviations > threshold);
        }
        let next = u32(history[HISTORY_NEXT]);
        history[HISTORY_LOSSES + next] = loss;
        history[HISTORY_NEXT] = f32((next + 1u) % p.updates);
        history[HISTORY_COUNT] = min(history[HISTORY_COUNT] + 1.0, n);
    }
}
