// Rung 3: c = a b^T for square matrices, a tile of 64 x 64 elements a workgroup and 4 x 4 of them an invocation.
// New: sums in registers, so that two vectors from workgroup memory serve sixteen multiplications; global memory in
// vectors of four; the next part travels while this one is multiplied. Needs n in sixty-fours.
#define BK 16
#define LINE 17
struct Params {
    n: u32,
}
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> a: array<vec4<f32>>;       // (n, n)
@group(0) @binding(1) var<storage, read> b: array<vec4<f32>>;       // (n, n)
@group(0) @binding(2) var<storage, read_write> c: array<vec4<f32>>; // (n, n)

// k-major, so that an invocation's rows and its columns are vectors; the padding spreads the transposing writes.
var<workgroup> a_part: array<vec4<f32>, #{BK * LINE}>; // (BK, 64 rows + 4)
var<workgroup> b_part: array<vec4<f32>, #{BK * LINE}>; // (BK, 64 columns + 4)

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    // The vector of each part that this invocation moves: line and place along k.
    let line = lane / #{BK / 4}u;
    let quad = lane % #{BK / 4}u;
    let a_first = (group.y * 64u + line) * (p.n / 4u) + quad;
    let b_first = (group.x * 64u + line) * (p.n / 4u) + quad;
    // The elements that it computes: rows 4 y..4 y + 4, columns 4 x..4 x + 4.
    let y = lane / 16u;
    let x = lane % 16u;

    var a_next = a[a_first];
    var b_next = b[b_first];
    let last = p.n - #{BK}u;
#for i in 0..4
    var sum#{i} = vec4<f32>();
#end
    for (var k0 = 0u; k0 < p.n; k0 += #{BK}u) {
        workgroupBarrier(); // the part before may still be read
#for e in 0..4
        a_part[(quad * 4u + #{e}u) * #{LINE}u + line / 4u][line % 4u] = a_next[#{e}];
        b_part[(quad * 4u + #{e}u) * #{LINE}u + line / 4u][line % 4u] = b_next[#{e}];
#end
        workgroupBarrier();
        // The last round reads its own part again, for want of a branch.
        let next = min(k0 + #{BK}u, last) / 4u;
        a_next = a[a_first + next];
        b_next = b[b_first + next];
#for k in 0..BK
        let left#{k} = a_part[#{k * LINE}u + y];
        let right#{k} = b_part[#{k * LINE}u + x];
#for i in 0..4
        sum#{i} = fma(vec4(left#{k}[#{i}]), right#{k}, sum#{i});
#end
#end
    }
    let corner = (group.y * 64u + y * 4u) * (p.n / 4u) + group.x * 16u + x;
#for i in 0..4
    c[corner + #{i}u * (p.n / 4u)] = sum#{i};
#end
}
