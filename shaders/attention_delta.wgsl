// row_stats = (lse, D) of every query of every head, D = sum of d_out out over the value's columns: what the backward
// kernels need of a row of probabilities. LANES invocations a row; overwrites row_stats.
// Reference: src/reference/attention_delta.rs.
#define THREADS 128
#define LANES 8
#import shared/index

struct Params {
    batch: u32,
    length: u32,
    heads: u32,
    value: u32,
}
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> d_out: array<#{HALF_D_OUT ? f16 : f32}>; // (tokens, heads, value)
@group(0) @binding(1) var<storage, read> out: array<#{HALF_OUT ? f16 : f32}>;     // (tokens, heads, value)
@group(0) @binding(2) var<storage, read> lse: array<f32>;                         // (batch, heads, length)
@group(0) @binding(3) var<storage, read_write> row_stats: array<vec2<f32>>;       // (batch, heads, length)

var<workgroup> partial: array<f32, #{THREADS}>;

@compute @workgroup_size(#{THREADS})
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group_index(group, groups) * #{THREADS / LANES}u + lane / #{LANES}u;
    let exists = row < p.batch * p.length * p.heads;
    var sum = 0.0;
    if (exists) {
        for (var i = lane % #{LANES}u; i < p.value; i += #{LANES}u) {
            sum = fma(f32(d_out[row * p.value + i]), f32(out[row * p.value + i]), sum);
        }
    }
    partial[lane] = sum;
    workgroupBarrier();
    if (exists && lane % #{LANES}u == 0u) {
#for i in 1..LANES
        sum += partial[lane + #{i}u];
#end
        let token = row / p.heads;
        let sequence = token / p.length;
        let place = (sequence * p.heads + row % p.heads) * p.length + token % p.length;
        row_stats[place] = vec2(lse[place], sum);
    }
}
