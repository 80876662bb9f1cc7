// Rung 2: c = a b^T for square matrices, a tile of 16 x 16 elements a workgroup and one an invocation.
// New: parts of 16 x 16 of both factors go through workgroup memory, so that global memory is read n / 16 times a
// factor. Still two reads of workgroup memory for each multiplication. Needs n in sixteens.
struct Params {
    n: u32,
}
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> a: array<f32>;       // (n, n)
@group(0) @binding(1) var<storage, read> b: array<f32>;       // (n, n)
@group(0) @binding(2) var<storage, read_write> c: array<f32>; // (n, n)

// Lines of 17 elements: with 16, invocations that read a column would meet at few banks.
var<workgroup> a_part: array<f32, 272>; // (16 rows, 16 k + 1)
var<workgroup> b_part: array<f32, 272>; // (16 columns, 16 k + 1)

@compute @workgroup_size(16, 16)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_id) within: vec3<u32>,
) {
    // Neighbours along x read neighbours along k, and own neighbouring columns of c.
    let a_line = (group.y * 16u + within.y) * p.n + within.x;
    let b_line = (group.x * 16u + within.y) * p.n + within.x;
    var sum = 0.0;
    for (var k0 = 0u; k0 < p.n; k0 += 16u) {
        workgroupBarrier(); // the part before may still be read
        a_part[within.y * 17u + within.x] = a[a_line + k0];
        b_part[within.y * 17u + within.x] = b[b_line + k0];
        workgroupBarrier();
#for k in 0..16
        sum = fma(a_part[within.y * 17u + #{k}u], b_part[within.x * 17u + #{k}u], sum);
#end
    }
    c[(group.y * 16u + within.y) * p.n + group.x * 16u + within.x] = sum;
}
