// metrics += (sum of losses, hits, counted targets) of the tokens. One workgroup; accumulates.
// Reference: src/reference/loss_sum.rs.
#define THREADS 256
#import shared/reduce
#import shared/state

struct Params {
    rows: u32,
}
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> losses: array<f32>;        // (rows)
@group(0) @binding(1) var<storage, read> correct: array<f32>;       // (rows)
@group(0) @binding(2) var<storage, read> targets: array<u32>;       // (rows)
@group(0) @binding(3) var<storage, read_write> metrics: array<f32>; // (8)

@compute @workgroup_size(#{THREADS})
fn main(@builtin(local_invocation_index) lane: u32) {
    var loss = 0.0;
    var hits = 0.0;
    var counted = 0.0;
    for (var i = lane; i < p.rows; i += #{THREADS}u) {
        loss += losses[i];
        hits += correct[i];
        counted += select(0.0, 1.0, targets[i] != IGNORED);
    }
    loss = reduce_sum(lane, loss);
    hits = reduce_sum(lane, hits);
    counted = reduce_sum(lane, counted);
    if (lane == 0u) {
        metrics[METRIC_LOSS] += loss;
        metrics[METRIC_CORRECT] += hits;
        metrics[METRIC_COUNTED] += counted;
    }
}
