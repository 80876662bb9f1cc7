// loads[row, e] += how often tokens that are no padding chose expert e. One workgroup an expert, which looks through
// all choices: whole numbers, so the order of the additions is free; accumulates.
// Reference: src/reference/expert_load.rs.
#define THREADS 256
#define SELECTED 6
// Tokens in flight.
#define UNROLL 4
#import shared/index
#import shared/reduce

struct Params {
    row: u32,
    experts: u32,
    tokens: u32,
    selected: u32,
}
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> chosen: array<u32>;      // (tokens, selected)
@group(0) @binding(1) var<storage, read> real: array<u32>;        // (tokens), 0 for padding
@group(0) @binding(2) var<storage, read_write> loads: array<f32>; // (rows, experts)

@compute @workgroup_size(#{THREADS})
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let e = group_index(group, groups);
    if (e >= p.experts) {
        return;
    }
    var count = 0u;
    for (var first = lane; first < p.tokens; first += #{UNROLL * THREADS}u) {
#for i in 0..UNROLL
        let token#{i} = min(first + #{i * THREADS}u, p.tokens - 1u);
        let counts#{i} = real[token#{i}] != 0u && first + #{i * THREADS}u < p.tokens;
#for j in 0..SELECTED
        let choice#{i}_#{j} = chosen[token#{i} * #{SELECTED}u + #{j}u];
#end
#end
#for i in 0..UNROLL
#for j in 0..SELECTED
        count += select(0u, 1u, counts#{i} && choice#{i}_#{j} == e);
#end
#end
    }
    let total = reduce_sum(lane, f32(count)); // below 2^24: exact
    if (lane == 0u) {
        loads[p.row * p.experts + e] += total;
    }
}
