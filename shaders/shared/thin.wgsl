// One tile of few rows of a matrix product on cooperative matrices: C[i, j] = sum over k of A[i, k] * B[k, j], factors
// in f16, sums in f32, TILE_M x 32 ACROSS elements a workgroup. For products that last as long as reading B does:
// chunks of CHUNK steps of k pass through workgroup memory, DEPTH of them on their way at a time. Of the eight teams,
// which are subgroups of 32, ACROSS lie side by side and DEEP share the steps of a chunk.
//
// The importer declares the storage buffers `a` and `b` as `array<Factor>`, `c` and for ACCUMULATE 2 `residual` in
// vectors of four, defines A_ALONG_K 1, B_ALONG_K (1 where neighbours in memory differ in k) and the constants of
// kernels/thin.rs, runs THREADS invocations and, in main, sets `let t = Tile(...)` before `#import shared/thin_sums`.
// Rows past the end read the last and are not stored; columns are whole. k is a multiple of CHUNK * DEPTH. Lines and
// offsets of a and b count in eights, those of c in fours. DEEP chains of ascending sums make an element.
enable wgpu_cooperative_matrix;
#define TILE_M 64
#define CHUNK 128
#define ACROSS 1
#define DEPTH 1
#define SLOTS 2
#define TILE_N 32 * ACROSS
#define TEAMS 8
#define DEEP TEAMS / ACROSS
#define THREADS 256
// Eights in a line of a part, and that with padding, which spreads the banks.
#define A_LINE CHUNK / 8
#define A_STRIDE A_LINE + 1
#if B_ALONG_K
#define B_LINE CHUNK / 8
#define B_LINES TILE_N
#else
#define B_LINE TILE_N / 8
#define B_LINES CHUNK
#end
#define B_STRIDE B_LINE + 1
#define A_ITEMS TILE_M * A_LINE / THREADS
#define B_ITEMS TILE_N * CHUNK / 8 / THREADS
#define ITEMS (TILE_M * TILE_N / 4 + THREADS - 1) / THREADS

// What an invocation copies at a time: 16 bytes.
struct Eight {
    a: vec4<f16>,
    b: vec4<f16>,
}
alias Factor = Eight;

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

var<workgroup> a_part: array<Eight, #{TILE_M * A_STRIDE}>;
var<workgroup> b_part: array<Eight, #{B_LINES * B_STRIDE}>;
var<workgroup> stage: array<vec4<f32>, #{SLOTS * TILE_M * 8}>; // (SLOTS, TILE_M, 32)

// Where an item of a part with lines of `line` eights lies.
fn padded(item: u32, line: u32) -> u32 {
    return item + item / line;
}

// An item of the chunk of A that begins at k0.
fn fetch_a(t: Tile, item: u32, k0: u32) -> Eight {
    let line = min(item / #{A_LINE}u, t.rows - 1u);
    return a[(t.a + line * t.lda + k0) / 8u + item % #{A_LINE}u];
}

// The same of B.
fn fetch_b(t: Tile, item: u32, k0: u32) -> Eight {
    let line = item / #{B_LINE}u;
#if B_ALONG_K
    return b[(t.b + line * t.ldb + k0) / 8u + item % #{B_LINE}u];
#else
    return b[(t.b + (k0 + line) * t.ldb) / 8u + item % #{B_LINE}u];
#end
}
