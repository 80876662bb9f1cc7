// y[n, o] = sum_i W[o, i] x'[n, i] + residual[n, o]; x' is x, or norm[i] x[n, i] / sqrt(mean_i(x[n, i]^2) + epsilon).
// For a few rows: what counts is to read W once and at full speed. A team of 32 invocations has #{OUTPUTS} outputs of
// all rows; overwrites y. Reference: src/reference/few_linear.rs.
//
// The root is a factor of the whole sum, so a team adds up squares beside its products and needs no pass of its own.
// Loads of four steps are asked for before the first is used.
#define LANES 1
#define ROWS 1
#define OUTPUTS 1
#define NORMED 0
#define RESIDUAL 0
#define UNROLL 4
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
    for (var start = own; start < width; start += #{32 * UNROLL}u) {
#for u in 0..UNROLL
        let i#{u} = min(start + #{32 * u}u, width - 1u);
        let kept#{u} = select(0.0, 1.0, start + #{32 * u}u < width);
#for r in 0..OUTPUTS
        let w#{u}_#{r} = Elements(weight[row#{r} + i#{u}]) * kept#{u};
#end
#if NORMED
        let scale#{u} = Elements(norm[i#{u}]);
#end
#end
#for n in 0..ROWS
#for u in 0..UNROLL
        let x#{u}_#{n} = Elements(x[#{n}u * width + i#{u}]);
#end
#for u in 0..UNROLL
#if NORMED
        square#{n} += kept#{u} * inner(x#{u}_#{n}, x#{u}_#{n});
        let scaled#{u}_#{n} = scale#{u} * x#{u}_#{n};
#else
        let scaled#{u}_#{n} = x#{u}_#{n};
#end
#for r in 0..OUTPUTS
        sum#{n}_#{r} += inner(w#{u}_#{r}, scaled#{u}_#{n});
#end
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
