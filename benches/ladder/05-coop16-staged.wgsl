// Rung 5: c = a b^T for square matrices with factors in f16, a tile of 128 x 128 elements a workgroup and 64 x 64 of
// them a subgroup of 32.
// New: parts of both factors go through workgroup memory in vectors of four, so that global memory is read n / 128
// times a factor, and eight matrices from there serve sixteen products. Needs n in hundred-and-twenty-eights.
enable wgpu_cooperative_matrix;
#define BK 32
// Vectors of four in a line of a part, and that with the padding that keeps lines apart in the banks.
#define LINE BK / 4
#define STRIDE LINE + 2
#define THREADS 128
struct Params {
    n: u32,
}
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> a: array<vec4<f16>>; // (n, n)
@group(0) @binding(1) var<storage, read> b: array<vec4<f16>>; // (n, n)
@group(0) @binding(2) var<storage, read_write> c: array<f32>; // (n, n)

var<workgroup> a_part: array<vec4<f16>, #{128 * STRIDE}>; // (128 rows, BK + 8)
var<workgroup> b_part: array<vec4<f16>, #{128 * STRIDE}>; // (128 columns, BK + 8)

@compute @workgroup_size(#{THREADS})
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    // Places and distances have names: naga 30 cannot write the translation of a store with computed ones.
    let n = p.n;
    let row = group.y * 128u;
    let column = group.x * 128u;
    // The subgroup's corner in the tile.
    let y = lane / 64u * 64u;
    let x = lane / 32u % 2u * 64u;
#for i in 0..4
#for j in 0..4
    var sum#{i}_#{j} = coop_mat16x16<f32, C>();
#end
#end
    for (var k0 = 0u; k0 < n; k0 += #{BK}u) {
        workgroupBarrier(); // the part before may still be read
        for (var i = lane; i < #{128 * LINE}u; i += #{THREADS}u) {
            let line = i / #{LINE}u;
            let along = i % #{LINE}u;
            a_part[line * #{STRIDE}u + along] = a[((row + line) * n + k0) / 4u + along];
            b_part[line * #{STRIDE}u + along] = b[((column + line) * n + k0) / 4u + along];
        }
        workgroupBarrier();
#for q in 0..BK / 16
#for i in 0..4
        let left#{q}_#{i} =
            coopLoadT<coop_mat16x16<f16, A>>(&a_part[(y + #{i * 16}u) * #{STRIDE}u + #{q * 4}u], #{STRIDE}u);
        let right#{q}_#{i} =
            coopLoad<coop_mat16x16<f16, B>>(&b_part[(x + #{i * 16}u) * #{STRIDE}u + #{q * 4}u], #{STRIDE}u);
#end
#for i in 0..4
#for j in 0..4
        sum#{i}_#{j} = coopMultiplyAdd(left#{q}_#{i}, right#{q}_#{j}, sum#{i}_#{j});
#end
#end
#end
    }
#for i in 0..4
#for j in 0..4
    let corner#{i}_#{j} = (row + y + #{i * 16}u) * n + column + x + #{j * 16}u;
    coopStoreT(sum#{i}_#{j}, &c[corner#{i}_#{j}], n);
#end
#end
}
