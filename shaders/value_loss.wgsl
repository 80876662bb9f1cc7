// The clipped value loss of PPO. With V the value, C = clamp(V, old - clip, old + clip) and R the return, the loss of a
// token is factor / 2 * max((V - R)^2, (C - R)^2), and
//   d_values[t] = loss scale * coefficient * factor * (V - R), or 0 where the second is the larger.
// Zeros where the factor is 0. One invocation a token; overwrites the gradient and the results: loss, clipped, value,
// counted. Reference: src/reference/value_loss.rs.
#import shared/elements
#import shared/state

struct Params {
    tokens: u32,
    clip: f32,
    coefficient: f32,
}
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> values: array<f32>;              // (tokens)
@group(0) @binding(1) var<storage, read> old: array<f32>;                 // (tokens)
@group(0) @binding(2) var<storage, read> returns: array<f32>;             // (tokens)
@group(0) @binding(3) var<storage, read> factors: array<f32>;             // (tokens)
@group(0) @binding(4) var<storage, read> result: array<f32>;              // (8)
@group(0) @binding(5) var<storage, read_write> d_values: array<f32>;      // (tokens)
@group(0) @binding(6) var<storage, read_write> results: array<vec4<f32>>; // (tokens, 4)

@compute @workgroup_size(#{THREADS})
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let t = elements_index(group, groups, lane);
    if (t >= p.tokens) {
        return;
    }
    let factor = factors[t];
    if (factor == 0.0) {
        d_values[t] = 0.0;
        results[t] = vec4(0.0);
        return;
    }
    let value = values[t];
    let error = value - returns[t];
    let bounded = clamp(value, old[t] - p.clip, old[t] + p.clip) - returns[t];
    let clipped = abs(bounded) > abs(error);
    let worse = select(error, bounded, clipped);
    d_values[t] = select(result[RESULT_LOSS_SCALE] * p.coefficient * factor * error, 0.0, clipped);
    results[t] = vec4(0.5 * factor * worse * worse, select(0.0, 1.0, clipped), value, 1.0);
}
