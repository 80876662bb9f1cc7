// One tile of a matrix product on cooperative matrices: C[i, j] = sum over k of A[i, k] * B[k, j], factors in f16, sums
// in f32, TILE_M x TILE_N elements a workgroup. Each subgroup of 32 owns 64 x 64 of them. Rows and columns past the end
// read a neighbour and are not stored. k ascends in sixteens, whatever the tile.
//
// The importer declares the storage buffers `a`, `b` (f16 in vectors of four), `c` and for ACCUMULATE 2 `residual`,
// defines A_ALONG_K and B_ALONG_K (1 where neighbours in memory differ in k), ACCUMULATE (0: c = C, 1: c += C,
// 2: c = residual + C), EDGE_K (1 where k may end within a part) and STAGED, runs THREADS invocations and, in main,
// sets `let t = Tile(...)` before `#import shared/coop_sums`. Lines and offsets count in fours, m and n in sixteens.
//   STAGED 0: sums begin at the old values and go straight to `c`, f32, in blocks of 16 x 16 elements.
//   STAGED 1: sums pass through workgroup memory, so `c` is in vectors of four, of f16 or f32, and rows end anywhere.
// Subgroup operations stay out: beside cooperative matrices drivers have crashed on them.
enable wgpu_cooperative_matrix;
// Parts of BK steps along k pass through workgroup memory, UNROLL of them a round of the loop; TAIL is 0 where k is a
// whole number of rounds.
#define TILE_M 128
#define TILE_N 128
#define BK 32
#define EDGE_M 1
#define EDGE_N 1
#define EDGE_K 0
#define UNROLL 4
#define TAIL 1
#define ACROSS TILE_N / 64
#define SUBGROUPS TILE_M / 64 * ACROSS
#define THREADS SUBGROUPS * 32
// Vectors of four in a line of a part, and that with the padding that keeps lines 16 bytes apart in the banks.
#if A_ALONG_K
#define A_LINE BK / 4
#else
#define A_LINE TILE_M / 4
#end
#if B_ALONG_K
#define B_LINE BK / 4
#else
#define B_LINE TILE_N / 4
#end
#define A_STRIDE A_LINE + 2
#define B_STRIDE B_LINE + 2
#define A_ITEMS TILE_M * BK / 4 / THREADS
#define B_ITEMS TILE_N * BK / 4 / THREADS
// Vectors of four in a staged line of a block of 16 x 16 sums, of which each subgroup has one at a time. No padding:
// with 24 KiB of workgroup memory in all, two workgroups share a multiprocessor of an H100; with 25 the rate halved.
#define STAGE_STRIDE 4

alias Factor = vec4<f16>;

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
var<workgroup> a_part: array<vec4<f16>, #{TILE_M * BK / 4 / A_LINE * A_STRIDE}>; // (TILE_M, BK + 8) or (BK, TILE_M + 8)
var<workgroup> b_part: array<vec4<f16>, #{TILE_N * BK / 4 / B_LINE * B_STRIDE}>; // (TILE_N, BK + 8) or (BK, TILE_N + 8)
#if STAGED
var<workgroup> stage: array<vec4<f32>, #{SUBGROUPS * 16 * STAGE_STRIDE}>;           // (SUBGROUPS, 16, 16)
#end

// Lines of BK steps, the ones that 16 invocations store together, are taken four apart: then they meet no bank twice.
fn spread(line: u32) -> u32 {
    return line / 8u * 8u + line % 2u * 4u + line % 8u / 2u;
}

fn a_line(item: u32) -> u32 {
    return #{A_ALONG_K ? spread : u32}(item / #{A_LINE}u);
}

fn b_line(item: u32) -> u32 {
    return #{B_ALONG_K ? spread : u32}(item / #{B_LINE}u);
}

// Where in `a`, in vectors, an item of the part that begins at k = 0 lies. Items are numbered along memory. Found once:
// what depends on k is added below.
fn place_a(t: Tile, item: u32) -> u32 {
    let along = item % #{A_LINE}u * 4u;
#if A_ALONG_K
    let line = #{EDGE_M ? min(a_line(item), t.rows - 1u) : a_line(item)};
    return (t.a + line * t.lda + along) / 4u;
#else
    let line = #{EDGE_K ? 0u : a_line(item)}; // found anew in each part where k may end within it
    return (t.a + line * t.lda + #{EDGE_M ? min(along, t.rows - 4u) : along}) / 4u;
#end
}

// The same of B.
fn place_b(t: Tile, item: u32) -> u32 {
    let along = item % #{B_LINE}u * 4u;
#if B_ALONG_K
    let line = #{EDGE_N ? min(b_line(item), t.columns - 1u) : b_line(item)};
    return (t.b + line * t.ldb + along) / 4u;
#else
    let line = #{EDGE_K ? 0u : b_line(item)}; // found anew in each part where k may end within it
    return (t.b + line * t.ldb + #{EDGE_N ? min(along, t.columns - 4u) : along}) / 4u;
#end
}

// Four elements of the part of A that begins at k0.
fn fetch_a(t: Tile, place: u32, item: u32, k0: u32) -> vec4<f16> {
#if A_ALONG_K
    return a[place + k0 / 4u];
#else
#if EDGE_K
    let line = k0 + a_line(item);
    return select(vec4<f16>(), a[place + min(line, t.k - 1u) * (t.lda / 4u)], line < t.k);
#else
    return a[place + k0 * (t.lda / 4u)];
#end
#end
}

// The same of B.
fn fetch_b(t: Tile, place: u32, item: u32, k0: u32) -> vec4<f16> {
#if B_ALONG_K
    return b[place + k0 / 4u];
#else
#if EDGE_K
    // Zeros of A would not do: what lies past the end of B may not be finite.
    let line = k0 + b_line(item);
    return select(vec4<f16>(), b[place + min(line, t.k - 1u) * (t.ldb / 4u)], line < t.k);
#else
    return b[place + k0 * (t.ldb / 4u)];
#end
#end
}
