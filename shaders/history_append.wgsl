// history[slots[n], positions[n]] = ids[n] for each row n with a slot; other places stay.
// One invocation a row. Reference: src/reference/history_append.rs.
#import shared/elements

struct Params {
    rows: u32,
    capacity: u32,
}
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> ids: array<u32>;           // (rows)
@group(0) @binding(1) var<storage, read> slots: array<u32>;         // (rows)
@group(0) @binding(2) var<storage, read> positions: array<u32>;     // (rows)
@group(0) @binding(3) var<storage, read_write> history: array<u32>; // (slots, capacity)

@compute @workgroup_size(#{THREADS})
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = elements_index(group, groups, lane);
    if (row < p.rows && slots[row] != 0xffffffffu) {
        history[slots[row] * p.capacity + positions[row]] = ids[row];
    }
}
