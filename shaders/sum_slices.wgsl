// c = C, c + C or residual + C (ACCUMULATE 0, 1, 2), where C is the sum of the slices in ascending order.
// One invocation a scalar or vector of c; overwrites or updates c's rows x columns elements only.
// Reference: src/reference/sum_slices.rs.
#import shared/elements

struct Params {
    slices: u32,
    rows: u32,
    columns: u32,
    stride: u32,
    offset: u32,
    accumulate: u32,
}
var<immediate> p: Params;
alias ResidualElements = #{HALF_RESIDUAL ? Halves : Elements};
alias CElements = #{HALF_C ? Halves : Elements};
@group(0) @binding(0) var<storage, read> parts: array<Elements>;            // (slices, rows, columns)
@group(0) @binding(1) var<storage, read> residual: array<ResidualElements>; // (rows, stride)
@group(0) @binding(2) var<storage, read_write> c: array<CElements>;         // (rows, stride)

@compute @workgroup_size(#{THREADS})
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = elements_index(group, groups, lane);
    let line = p.columns / #{LANES}u;
    let count = p.rows * line;
    if (i >= count) {
        return;
    }
    var sum = parts[i];
    for (var slice = 1u; slice < p.slices; slice++) {
        sum += parts[slice * count + i];
    }
    let at = (p.offset + i / line * p.stride) / #{LANES}u + i % line;
#if ACCUMULATE == 0
    c[at] = CElements(sum);
#end
#if ACCUMULATE == 1
    c[at] = CElements(Elements(c[at]) + sum);
#end
#if ACCUMULATE == 2
    c[at] = CElements(Elements(residual[at]) + sum);
#end
}
