// d_table[v - first_row] += sum of d_y[t] over the tokens t with ids[t] == v, in the order of t.
// One workgroup a distinct token and block of columns, so that each row has one writer; grids are sized for distinct
// tokens throughout, and the surplus exits. Accumulates. Reference: src/reference/embed_backward.rs.
#define COLUMNS 128
#define STEP 4
#import shared/index

struct Params {
    tokens: u32,
    width: u32,
    first_row: u32,
    table_rows: u32,
}
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> ids: array<u32>;           // (tokens)
@group(0) @binding(1) var<storage, read> token_order: array<u32>;   // (tokens)
@group(0) @binding(2) var<storage, read> segments: array<u32>;      // (tokens + 2): count, starts, tokens
@group(0) @binding(3) var<storage, read> d_y: array<f32>;           // (tokens, width)
@group(0) @binding(4) var<storage, read_write> d_table: array<f32>; // (table_rows, width)

@compute @workgroup_size(#{COLUMNS})
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let blocks = (p.width + #{COLUMNS - 1}u) / #{COLUMNS}u;
    let number = group_index(group, groups);
    let segment = number / blocks;
    let column = (number - segment * blocks) * #{COLUMNS}u + lane;
    if (segment >= segments[0] || column >= p.width) {
        return;
    }
    var at = segments[segment + 1u];
    let end = segments[segment + 2u];
    let row = ids[token_order[at]] - p.first_row; // wraps to a large number below the part
    if (row >= p.table_rows) {
        return;
    }
    var sum = d_table[row * p.width + column];
    // A frequent token has hundreds of positions: several loads under way at once, additions still in order.
    for (; at + #{STEP}u <= end; at += #{STEP}u) {
#for i in 0..STEP
        let d#{i} = d_y[token_order[at + #{i}u] * p.width + column];
#end
#for i in 0..STEP
        sum += d#{i};
#end
    }
    for (; at < end; at += 1u) {
        sum += d_y[token_order[at] * p.width + column];
    }
    d_table[row * p.width + column] = sum;
}
