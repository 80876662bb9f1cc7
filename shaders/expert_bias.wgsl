// bias[e] += speed * sign(mean load - load[e]) over the experts of one row of loads; nothing in a skipped update.
// Loads are whole numbers and compared as such: no rounding decides.
// One workgroup, one invocation an expert; updates bias in place. Reference: src/reference/expert_bias.rs.
#define THREADS 256
#import shared/state

struct Params {
    row: u32,
    experts: u32,
    speed: f32,
}
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> loads: array<f32>;      // (rows, experts)
@group(0) @binding(1) var<storage, read> result: array<f32>;     // (8)
@group(0) @binding(2) var<storage, read_write> bias: array<f32>; // (experts)

var<workgroup> total: atomic<u32>;

@compute @workgroup_size(#{THREADS})
fn main(@builtin(local_invocation_index) lane: u32) {
    if (lane == 0u) {
        atomicStore(&total, 0u);
    }
    workgroupBarrier();
    let first = p.row * p.experts;
    var own = 0u;
    for (var e = lane; e < p.experts; e += #{THREADS}u) {
        own += u32(loads[first + e]);
    }
    atomicAdd(&total, own); // integers: the order is free
    workgroupBarrier();
    if (result[RESULT_FINITE] != 1.0) {
        return;
    }
    let sum = atomicLoad(&total);
    let mean = sum / p.experts;
    let rest = sum % p.experts;
    for (var e = lane; e < p.experts; e += #{THREADS}u) {
        let load = u32(loads[first + e]);
        if (load > mean) {
            bias[e] -= p.speed;
        } else if (load < mean || rest > 0u) { // with a rest the mean is between this number and the next
            bias[e] += p.speed;
        }
    }
}
