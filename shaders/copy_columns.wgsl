// destination[r, target_offset + i] = source[r, source_offset + i]. One invocation a scalar or vector; overwrites these
// columns and leaves the others. Reference: src/reference/copy_columns.rs.
#import shared/elements

struct Params {
    rows: u32,
    columns: u32,
    source_stride: u32,
    source_offset: u32,
    target_stride: u32,
    target_offset: u32,
}
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> source: array<#{HALF_SOURCE ? Halves : Elements}>; // (rows, source_stride)
// (rows, target_stride)
@group(0) @binding(1) var<storage, read_write> destination: array<#{HALF_DESTINATION ? Halves : Elements}>;

@compute @workgroup_size(#{THREADS})
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = elements_index(group, groups, lane);
    let row = i / (p.columns / #{LANES}u);
    if (row >= p.rows) {
        return;
    }
    let column = i * #{LANES}u - row * p.columns;
    let read = row * p.source_stride + p.source_offset + column;
    let written = row * p.target_stride + p.target_offset + column;
    destination[written / #{LANES}u] = #{HALF_DESTINATION ? Halves : Elements}(Elements(source[read / #{LANES}u]));
}
