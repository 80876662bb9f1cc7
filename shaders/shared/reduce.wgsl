// Sum over a workgroup of #{THREADS} invocations (a power of two), the same tree on every adapter.
// The importer defines the constant THREADS. All invocations must call, in uniform control flow.
var<workgroup> reduce_scratch: array<f32, #{THREADS}>;

fn reduce_sum(lane: u32, value: f32) -> f32 {
    workgroupBarrier(); // an earlier reduction may still be read
    reduce_scratch[lane] = value;
    workgroupBarrier();
    for (var half = #{THREADS / 2}u; half > 0u; half /= 2u) {
        if (lane < half) {
            reduce_scratch[lane] += reduce_scratch[lane + half];
        }
        workgroupBarrier();
    }
    return reduce_scratch[0];
}
