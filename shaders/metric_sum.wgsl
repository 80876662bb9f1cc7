// metrics[c] += sum over rows of results[row, c]. One workgroup for everything: each sum is one tree, in a fixed order.
// Reference: src/reference/metric_sum.rs.
#define THREADS 256
#import shared/reduce

struct Params {
    rows: u32,
    columns: u32,
}
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> results: array<f32>;       // (rows, columns)
@group(0) @binding(1) var<storage, read_write> metrics: array<f32>; // (columns)

@compute @workgroup_size(#{THREADS})
fn main(@builtin(local_invocation_index) lane: u32) {
    for (var column = 0u; column < p.columns; column++) {
        var sum = 0.0;
        for (var row = lane; row < p.rows; row += #{THREADS}u) {
            sum += results[row * p.columns + column];
        }
        sum = reduce_sum(lane, sum);
        if (lane == 0u) {
            metrics[column] += sum;
        }
    }
}
