// Rung 4: c = a b^T for square matrices with factors in f16, a tile of 16 x 16 elements a subgroup of 32.
// New: matrix units multiply 16 x 16 x 16 at a time, with sums in f32. Their factors come straight from global memory,
// where each is read n / 16 times. Needs n in sixteens.
enable wgpu_cooperative_matrix;
struct Params {
    n: u32,
}
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> a: array<f16>;       // (n, n)
@group(0) @binding(1) var<storage, read> b: array<f16>;       // (n, n)
@group(0) @binding(2) var<storage, read_write> c: array<f32>; // (n, n)

@compute @workgroup_size(32)
fn main(@builtin(workgroup_id) group: vec3<u32>) {
    // Places and distances have names: naga 30 cannot write the translation of a store with computed ones.
    let n = p.n;
    let row = group.y * 16u;
    let column = group.x * 16u;
    var sum = coop_mat16x16<f32, C>();
    for (var k = 0u; k < n; k += 16u) {
        let left = coopLoadT<coop_mat16x16<f16, A>>(&a[row * n + k], n);
        let right = coopLoad<coop_mat16x16<f16, B>>(&b[column * n + k], n);
        sum = coopMultiplyAdd(left, right, sum);
    }
    let corner = row * n + column;
    coopStoreT(sum, &c[corner], n);
}
