// shared/coop with matrices of 8 x 8, the only size that Metal has: C[i, j] = sum over k of A[i, k] * B[k, j], factors
// in f16, sums in f32, TILE_M x TILE_N elements a workgroup, 32 x 32 of them a subgroup of 32. Rows and columns past
// the end read a neighbour and are not stored. k ascends in eights, whatever the tile.
//
// The importer declares and defines what shared/coop asks for, then imports `shared/coop8_sums` in main. Lines and
// offsets count in fours, m (where STAGED is 0) and n in eights.
//
// Metal loads and stores matrices through pointers to scalars, so workgroup memory holds scalars, and does no
// arithmetic on matrices but the product. 14 KiB at most leave room for a second workgroup beside it.
enable wgpu_cooperative_matrix;
#define TILE_M 64
#define TILE_N 64
#define BK 32
#define EDGE_K 0
#define ACROSS TILE_N / 32
#define SUBGROUPS TILE_M / 32 * ACROSS
#define THREADS SUBGROUPS * 32
// Elements in a line of a part, and that with the padding that keeps lines 16 bytes apart in the banks.
#if A_ALONG_K
#define A_LINE BK
#else
#define A_LINE TILE_M
#end
#if B_ALONG_K
#define B_LINE BK
#else
#define B_LINE TILE_N
#end
#define A_STRIDE A_LINE + 8
#define B_STRIDE B_LINE + 8
#define A_ITEMS TILE_M * BK / 4 / THREADS
#define B_ITEMS TILE_N * BK / 4 / THREADS

// Where a tile lies. Indices and distances in elements.
struct Tile {
    a: u32,       // first element of A
    lda: u32,     // distance between lines of A
    b: u32,       // first element of B
    ldb: u32,     // distance between lines of B
    c: u32,       // first element of C
    ldc: u32,     // distance between rows of C
    rows: u32,    // rows from the first on, at least 1
    columns: u32, // columns from the first on, at least 1
    k: u32,       // length of the sums, at least 1
}

// Parts of a and b as they lie in memory; loading a matrix transposed or not sorts out the rest.
var<workgroup> a_part: array<f16, #{TILE_M * BK / A_LINE * A_STRIDE}>; // (TILE_M, BK + 8) or (BK, TILE_M + 8)
var<workgroup> b_part: array<f16, #{TILE_N * BK / B_LINE * B_STRIDE}>; // (TILE_N, BK + 8) or (BK, TILE_N + 8)
#if STAGED || ACCUMULATE == 0
var<workgroup> stage: array<f32, #{SUBGROUPS * 8 * 32}>;                // (SUBGROUPS, 8, 32)
#end

// Four elements of the part of A that begins at k0; `item` numbers them along memory.
fn fetch_a(t: Tile, k0: u32, item: u32) -> vec4<f16> {
    let line = item / #{A_LINE / 4}u;
    let within = item % #{A_LINE / 4}u * 4u;
#if A_ALONG_K
    return a[(t.a + min(line, t.rows - 1u) * t.lda + k0 + within) / 4u];
#else
    let i = min(within, t.rows - 4u);
#if EDGE_K
    return select(vec4<f16>(), a[(t.a + min(k0 + line, t.k - 1u) * t.lda + i) / 4u], k0 + line < t.k);
#else
    return a[(t.a + (k0 + line) * t.lda + i) / 4u];
#end
#end
}

// The same of B.
fn fetch_b(t: Tile, k0: u32, item: u32) -> vec4<f16> {
    let line = item / #{B_LINE / 4}u;
    let within = item % #{B_LINE / 4}u * 4u;
#if B_ALONG_K
    return b[(t.b + min(line, t.columns - 1u) * t.ldb + k0 + within) / 4u];
#else
    let i = min(within, t.columns - 4u);
#if EDGE_K
    // Zeros of A would not do: what lies past the end of B may not be finite.
    return select(vec4<f16>(), b[(t.b + min(k0 + line, t.k - 1u) * t.ldb + i) / 4u], k0 + line < t.k);
#else
    return b[(t.b + (k0 + line) * t.ldb + i) / 4u];
#end
#end
}

// Puts four elements of A where they belong in workgroup memory.
fn keep_a(item: u32, four: vec4<f16>) {
    let at = item / #{A_LINE / 4}u * #{A_STRIDE}u + item % #{A_LINE / 4}u * 4u;
    a_part[at] = four.x;
    a_part[at + 1u] = four.y;
    a_part[at + 2u] = four.z;
    a_part[at + 3u] = four.w;
}

// The same of B.
fn keep_b(item: u32, four: vec4<f16>) {
    let at = item / #{B_LINE / 4}u * #{B_STRIDE}u + item % #{B_LINE / 4}u * 4u;
    b_part[at] = four.x;
    b_part[at + 1u] = four.y;
    b_part[at + 2u] = four.z;
    b_part[at + 3u] = four.w;
}
