// Sorts pairs by expert, stably: slot of pair q = starts[block of q, expert of q] + pairs of that expert before q in
// the block; pair_slot[q] = slot and slot_pair[slot] = q.
// One workgroup a block of 256 pairs; overwrites slot_pair and pair_slot. Reference: src/reference/expert_scatter.rs.
#define EXPERTS 64
#define BLOCK 256
#import shared/index

struct Params {
    pairs: u32,
    experts: u32,
}
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> chosen: array<u32>;          // (pairs)
@group(0) @binding(1) var<storage, read> starts: array<u32>;          // (blocks, experts)
@group(0) @binding(2) var<storage, read_write> slot_pair: array<u32>; // (pairs)
@group(0) @binding(3) var<storage, read_write> pair_slot: array<u32>; // (pairs)

var<workgroup> experts: array<u32, #{BLOCK}>;

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
    let pair = block * #{BLOCK}u + lane;
    if (pair < p.pairs) {
        experts[lane] = chosen[pair];
    }
    workgroupBarrier();
    if (pair < p.pairs) {
        let own = experts[lane];
        var slot = starts[block * #{EXPERTS}u + own];
        for (var before = 0u; before < lane; before++) {
            slot += select(0u, 1u, experts[before] == own);
        }
        slot_pair[slot] = pair;
        pair_slot[pair] = slot;
    }
}
