// The forward form of matmul.wgsl, a b^T, on cooperative matrices: a and b are rounded to f16 on their way into
// workgroup memory, and 16x16x16 products with f32 sums do the rest. An old value is where a sum begins.
// One workgroup a tile of c, bands of BAND tile rows after each other; each subgroup of 32 owns 64 x 64 elements.
// Needs m and n in sixteens, k in BKs, lines and offsets in fours. Rows and columns past the end read a neighbour and
// are not stored. Subgroup operations stay out of this file: beside cooperative matrices drivers have crashed on them.
// Reference: src/reference/matmul.rs.
enable f16;
enable wgpu_cooperative_matrix;
#define TILE_M 128
#define TILE_N 128
#define BK 32
#define BAND 8
#define ACROSS TILE_N / 64
#define THREADS TILE_M / 64 * ACROSS * 32
// Vectors of four in a line of a part, and that with the padding that keeps lines 16 bytes apart in the banks.
#define A_LINE BK / 4
#define B_LINE BK / 4
#define A_STRIDE A_LINE + 2
#define B_STRIDE B_LINE + 2
#define A_ITEMS TILE_M * BK / 4 / THREADS
#define B_ITEMS TILE_N * BK / 4 / THREADS

struct Params {
    m: u32,
    n: u32,
    k: u32,
    lda: u32,
    ldb: u32,
    ldc: u32,
    a_offset: u32,
    b_offset: u32,
    c_offset: u32,
    form: u32,
    accumulate: u32,
}
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> a: array<vec4<f32>>;   // (m, k)
@group(0) @binding(1) var<storage, read> b: array<vec4<f32>>;   // (n, k)
@group(0) @binding(2) var<storage, read> residual: array<f32>;  // (m, n)
@group(0) @binding(3) var<storage, read_write> c: array<f32>;   // (m, n)

// Parts of a and b as they lie in memory; loading a matrix transposed or not sorts out the rest.
var<workgroup> a_part: array<vec4<f16>, #{TILE_M * BK / 4 / A_LINE * A_STRIDE}>; // (TILE_M, BK + 8)
var<workgroup> b_part: array<vec4<f16>, #{TILE_N * BK / 4 / B_LINE * B_STRIDE}>; // (TILE_N, BK + 8)

// Four elements of the part of a that begins at row `row` and step k0; `item` numbers them along memory.
fn fetch_a(row: u32, k0: u32, item: u32) -> vec4<f32> {
    let line = min(row + item / #{A_LINE}u, p.m - 1u);
    let i = k0 + item % #{A_LINE}u * 4u;
    return a[(p.a_offset + line * p.lda + i) / 4u];
}

// The same of b.
fn fetch_b(column: u32, k0: u32, item: u32) -> vec4<f32> {
    let line = min(column + item / #{B_LINE}u, p.n - 1u);
    let i = k0 + item % #{B_LINE}u * 4u;
    return b[(p.b_offset + line * p.ldb + i) / 4u];
}

@compute @workgroup_size(#{THREADS})
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let down = (p.m + #{TILE_M - 1}u) / #{TILE_M}u;
    let across = (p.n + #{TILE_N - 1}u) / #{TILE_N}u;
    // `group_index` of shared/index, in place: naga takes no call's result to be the same for a whole workgroup, and
    // cooperative operations may only follow returns that are.
    let number = group.y * groups.x + group.x;
    if (number >= down * across) {
        return;
    }
    let band = number / (#{BAND}u * across) * #{BAND}u;
    let height = min(#{BAND}u, down - band);
    let within = number - band * across;
    let row = (band + within % height) * #{TILE_M}u;
    let column = within / height * #{TILE_N}u;
    // The subgroup's corner in the tile.
    let y = lane / 32u / #{ACROSS}u * 64u;
    let x = lane / 32u % #{ACROSS}u * 64u;
    let ldc = p.ldc;

#for i in 0..4
#for j in 0..4
#if ACCUMULATE == 0
    var sum#{i}_#{j} = coop_mat16x16<f32, C>();
#else
    let old#{i}_#{j} =
        p.c_offset + min(row + y + #{i * 16}u, p.m - 16u) * ldc + min(column + x + #{j * 16}u, p.n - 16u);
#if ACCUMULATE == 1
    var sum#{i}_#{j} = coopLoadT<coop_mat16x16<f32, C>>(&c[old#{i}_#{j}], ldc);
#else
    var sum#{i}_#{j} = coopLoadT<coop_mat16x16<f32, C>>(&residual[old#{i}_#{j}], ldc);
#end
#end
#end
#end

    for (var k0 = 0u; k0 < p.k; k0 += #{BK}u) {
#for i in 0..A_ITEMS
        let a#{i} = fetch_a(row, k0, lane + #{i * THREADS}u);
#end
#for i in 0..B_ITEMS
        let b#{i} = fetch_b(column, k0, lane + #{i * THREADS}u);
#end
        workgroupBarrier(); // the part before may still be read
#for i in 0..A_ITEMS
        a_part[(lane + #{i * THREADS}u) / #{A_LINE}u * #{A_STRIDE}u + (lane + #{i * THREADS}u) % #{A_LINE}u] =
            vec4<f16>(a#{i});
#end
#for i in 0..B_ITEMS
        b_part[(lane + #{i * THREADS}u) / #{B_LINE}u * #{B_STRIDE}u + (lane + #{i * THREADS}u) % #{B_LINE}u] =
            vec4<f16>(b#{i});
#end
        workgroupBarrier();
#for q in 0..BK / 16
#for i in 0..4
        let left#{q}_#{i} =
            coopLoadT<coop_mat16x16<f16, A>>(&a_part[(y + #{i * 16}u) * #{A_STRIDE}u + #{q * 4}u], #{A_STRIDE}u);
#end
#for j in 0..4
        let right#{q}_#{j} =
            coopLoad<coop_mat16x16<f16, B>>(&b_part[(x + #{j * 16}u) * #{B_STRIDE}u + #{q * 4}u], #{B_STRIDE}u);
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
    if (row + y + #{i * 16}u < p.m && column + x + #{j * 16}u < p.n) {
        // Bound to a name: naga 30 cannot write the translation of a store to a computed place.
        let at = p.c_offset + (row + y + #{i * 16}u) * ldc + column + x + #{j * 16}u;
        coopStoreT(sum#{i}_#{j}, &c[at], ldc);
    }
#end
#end
}
