// Rung 1: c = a b^T for square matrices, one element an invocation, straight from global memory.
// Every factor is read n times, by as many invocations; what saves the bandwidth is the cache alone.
// Any n; invocations past the edge return.
struct Params {
    n: u32,
}
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> a: array<f32>;       // (n, n)
@group(0) @binding(1) var<storage, read> b: array<f32>;       // (n, n)
@group(0) @binding(2) var<storage, read_write> c: array<f32>; // (n, n)

@compute @workgroup_size(16, 16)
fn main(@builtin(global_invocation_id) place: vec3<u32>) {
    if (max(place.x, place.y) >= p.n) {
        return;
    }
    var sum = 0.0;
    for (var k = 0u; k < p.n; k++) {
        sum = fma(a[place.y * p.n + k], b[place.x * p.n + k], sum);
    }
    c[place.y * p.n + place.x] = sum;
}
