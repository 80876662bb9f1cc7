// y[n, o] = sum_i W[o, i] x'[n, i] + residual[n, o]; x' is x, or norm[i] x[n, i] / sqrt(mean_i(x[n, i]^2) + epsilon).
// For a few rows: what counts is to read W once and at full speed. A team of 32 invocations has #{OUTPUTS} outputs of
// all rows; overwrites y. Reference: src/reference/few_linear.rs.
//
// The root is a factor of the whole sum, so a team adds up squares beside its products and needs no pass of its own.
#define LANES 1
#define ROWS 1
#define OUTPUTS 1
#define NORMED 0
#define RESIDUAL 0
#define THREADS 256
#import shared/index
#import shared/team

struct Params {
    rows: u32,
    outputs: u32,
    width: u32,
    normed: u32,
    residual: u32,
    epsilon: f32,
}
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> x: array<#{HALF_X ? Halves : Elements}>;           // (rows, width)
@group(0) @binding(1) var<storage, read> norm: array<#{HALF_NORM ? Halves : Elements}>;     // (width), if normed
@group(0) @binding(2) var<storage, read> weight: array<#{HALF_WEIGHT ? Halves : Elements}>; // (outputs, width)
@group(0) @binding(3) var<storage, read> residual: array<#{HALF_RESIDUAL ? f16 : f32}>;     // (rows, outputs), if any
@group(0) @binding(4) var<storage, read_write> y: array<f32>;                               // (rows, outputs)

@compute @workgroup_size(#{THREADS})
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let own = lane % 32u;
    let first = (group_index(group, groups) * 8u + lane / 32u) * #{OUTPUTS}u;
    let width = p.width / #{LANES}u;
#for r in 0..OUTPUTS
    let row#{r} = min(first + #{r}u, p.outputs - 1u) * width;
#end
#for n in 0..ROWS
    var square#{n} = 0.0;
#for r in 0..OUTPUTS
    var sum#{n}_#{r} = 0.0;
#end
#end
    for (var i = own; i < width; i += 32u) {
#for r in 0..OUTPUTS
        let w#{r} = Elements(weight[row#{r} + i]);
#end
#if NORMED
        let scale = Elements(norm[i]);
#end
#for n in 0..ROWS
        let x#{n} = Elements(x[#{n}u * width + i]);
#if NORMED
        square#{n} += inner(x#{n}, x#{n});
        let scaled#{n} = scale * x#{n};
#else
        let scaled#{n} = x#{n};
#end
#for r in 0..OUTPUTS
        sum#{n}_#{r} += inner(w#{r}, scaled#{n});
#end
#end
    }
#for n in 0..ROWS
#for r in 0..OUTPUTS
    let total#{n}_#{r} = team_sum(lane, vec2(sum#{n}_#{r}, square#{n}));
    if (own == 0u && first + #{r}u < p.outputs) {
        var value = total#{n}_#{r}.x;
#if NORMED
        value *= 1.0 / sqrt(total#{n}_#{r}.y / f32(p.width) + p.epsilon);
#end
#if RESIDUAL
        value += f32(residual[#{n}u * p.outputs + first + #{r}u]);
#end
        y[#{n}u * p.outputs + first + #{r}u] = value;
    }
#end
#end
}
