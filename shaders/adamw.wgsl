// m = beta1 m + (1 - beta1) g, v = beta2 v + (1 - beta2) g^2, g = gradient * clip,
// parameter -= rate weight_decay parameter + (rate / c1) m / (sqrt(v) / sqrt(c2) + epsilon).
// A gradient that is not finite makes no update. With p.zeroed = 1 the gradient becomes zeros; else it is not written.
// With p.copied = 1 the parameter also goes to `copy`, as f16.
// One invocation a scalar or vector; updates the others in place. Reference: src/reference/adamw.rs.
#import shared/elements
#import shared/state

struct Params {
    count: u32,
    beta1: f32,
    beta2: f32,
    epsilon: f32,
    weight_decay: f32,
    copied: u32,
    zeroed: u32,
}
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> state: array<u32>;                                   // (8)
@group(0) @binding(1) var<storage, read> result: array<f32>;                                  // (8)
@group(0) @binding(2) var<storage, read_write> parameter: array<Elements>;                    // (count)
@group(0) @binding(3) var<storage, read_write> gradient: array<Elements>;                     // (count)
@group(0) @binding(4) var<storage, read_write> m: array<Elements>;                            // (count)
@group(0) @binding(5) var<storage, read_write> v: array<Elements>;                            // (count)
@group(0) @binding(6) var<storage, read_write> copy: array<#{HALF_COPY ? Halves : Elements}>; // (count), if copied

@compute @workgroup_size(#{THREADS})
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = elements_index(group, groups, lane);
    if (i >= p.count / #{LANES}u) {
        return;
    }
    if (result[RESULT_FINITE] == 1.0) {
        let rate = bitcast<f32>(state[STATE_LEARNING_RATE]);
        let step = rate / result[RESULT_CORRECTION1];
        let scale = 1.0 / sqrt(result[RESULT_CORRECTION2]);
        let g = gradient[i] * result[RESULT_CLIP];
        let mean = p.beta1 * m[i] + (1.0 - p.beta1) * g;
        let square = p.beta2 * v[i] + (1.0 - p.beta2) * g * g;
        let x = parameter[i];
        m[i] = mean;
        v[i] = square;
        let y = x - (rate * p.weight_decay * x + step * mean / (sqrt(square) * scale + Elements(p.epsilon)));
        parameter[i] = y;
        if (p.copied == 1u) {
            copy[i] = #{HALF_COPY ? Halves : Elements}(y);
        }
    }
    if (p.zeroed == 1u) {
        gradient[i] = Elements(0.0);
    }
}
