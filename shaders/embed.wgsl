// y[t] = table[ids[t] - first_row] for the tokens in this part of the table; other rows of y stay.
// One invocation a scalar or vector. Reference: src/reference/embed.rs.
#import shared/elements

struct Params {
    rows: u32,
    width: u32,
    first_row: u32,
    table_rows: u32,
}
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> ids: array<u32>;                                 // (rows)
@group(0) @binding(1) var<storage, read> table: array<#{HALF_TABLE ? Halves : Elements}>; // (table_rows, width)
@group(0) @binding(2) var<storage, read_write> y: array<#{HALF_Y ? Halves : Elements}>;   // (rows, width)

@compute @workgroup_size(#{THREADS})
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = elements_index(group, groups, lane);
    let width = p.width / #{LANES}u;
    let token = i / width;
    if (token >= p.rows) {
        return;
    }
    let row = ids[token] - p.first_row; // wraps to a large number below the part
    if (row < p.table_rows) {
        y[i] = #{HALF_Y ? Halves : Elements}(Elements(table[row * width + (i - token * width)]));
    }
}
