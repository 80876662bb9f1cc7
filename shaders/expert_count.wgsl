// counts[block, e] = choices of expert e among the block's 256 pairs: the first step of a stable sort by expert.
// One workgroup a block; overwrites counts. Integer atomics: the order of the additions is free.
// Reference: src/reference/expert_count.rs.
#define EXPERTS 64
#define BLOCK 256
#import shared/index

struct Params {
    pairs: u32,
    experts: u32,
}
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> chosen: array<u32>;       // (pairs)
@group(0) @binding(1) var<storage, read_write> counts: array<u32>; // (blocks, experts)

var<workgroup> found: array<atomic<u32>, #{EXPERTS}>;

@compute @workgroup_size(#{BLOCK})
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let block = group_index(group, groups);
    if (block * #{BLOCK}u >= p.pairs) {
        return;
    }
    for (var e = lane; e < #{EXPERTS}u; e += #{BLOCK}u) {
        atomicStore(&found[e], 0u);
    }
    workgroupBarrier();
    let pair = block * #{BLOCK}u + lane;
    if (pair < p.pairs) {
        atomicAdd(&found[chosen[pair]], 1u);
    }
    workgroupBarrier();
    for (var e = lane; e < #{EXPERTS}u; e += #{BLOCK}u) {
        counts[block * #{EXPERTS}u + e] = atomicLoad(&found[e]);
    }
}
