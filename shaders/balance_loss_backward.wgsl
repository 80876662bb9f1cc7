// d_probs[t, e] = slope[sequence of t, e], 0 for padding: the balance loss is linear in the probabilities.
// One invocation an element; overwrites d_probs. Reference: src/reference/balance_loss_backward.rs.
#define EXPERTS 64
#define THREADS 256
#import shared/index

struct Params {
    sequences: u32,
    length: u32,
    experts: u32,
}
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> slope: array<f32>;         // (sequences, experts)
@group(0) @binding(1) var<storage, read> real: array<u32>;          // (sequences, length), 0 for padding
@group(0) @binding(2) var<storage, read_write> d_probs: array<f32>; // (sequences, length, experts)

@compute @workgroup_size(#{THREADS})
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = group_index(group, groups) * #{THREADS}u + lane;
    let t = i / #{EXPERTS}u;
    if (t >= p.sequences * p.length) {
        return;
    }
    d_probs[i] = select(0.0, slope[t / p.length * #{EXPERTS}u + i % #{EXPERTS}u], real[t] != 0u);
}
