// One tile of a matrix product: C[i, j] = sum over k of A[i, k] * B[k, j], TILE_M x TILE_N elements a workgroup and
// THREAD_M x THREAD_N an invocation. Every element is a single chain of fma over ascending k, whatever the tile's size,
// so the choice of a tile changes no bit of a result. An old value is added last.
//
// The importer declares the storage buffers `a`, `b` and `c` (`residual` too for ACCUMULATE 2), runs THREADS
// invocations and defines
//   TILE_M, TILE_N, THREAD_M, THREAD_N  sizes; kernels/tile.rs holds the combinations in use
//   A_ALONG_K, B_ALONG_K                1 where neighbours in memory differ in k, 0 where they differ in row or column
//   A_VEC4, B_VEC4, C_VEC4              1 where the buffer is in vectors: lines begin and end at multiples of 4
//   HALF_A, HALF_B, HALF_C              1 where the buffer holds f16
//   EDGE_K, EDGE_MN                     0 where k is a multiple of BK; where all tiles lie within c
//   ACCUMULATE                          0: c = C, 1: c += C, 2: c = residual + C
#define BK 16
// Steps of k in the text: the whole part, a fifth faster than four of them. Only a software adapter gains nothing, and
// would compile for long.
#define SOFTWARE 0
#define UNROLL BK / (1 + 3 * SOFTWARE)
#define ROW_LANES TILE_M / THREAD_M
#define COLUMN_LANES TILE_N / THREAD_N
#define THREADS ROW_LANES * COLUMN_LANES
#define A_ITEMS TILE_M * BK / 4 / THREADS
#define B_ITEMS TILE_N * BK / 4 / THREADS
#define A_STRIDE TILE_M / 4 + 1
#define B_STRIDE TILE_N / 4 + 1
#define COLUMN_GROUPS THREAD_N / 4

alias AStored = #{HALF_A ? f16 : f32};
alias BStored = #{HALF_B ? f16 : f32};
alias CStored = #{HALF_C ? f16 : f32};
alias CStored4 = vec4<CStored>;
// Elements of the buffers.
alias AElements = #{A_VEC4 ? vec4<AStored> : AStored};
alias BElements = #{B_VEC4 ? vec4<BStored> : BStored};
alias CElements = #{C_VEC4 ? CStored4 : CStored};

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

// Both k-major, so that an invocation's rows and its columns are vectors; the padding spreads a transposing write over
// the banks.
var<workgroup> a_part: array<vec4<f32>, #{BK * A_STRIDE}>; // (BK, TILE_M + 4)
var<workgroup> b_part: array<vec4<f32>, #{BK * B_STRIDE}>; // (BK, TILE_N + 4)

// Elements i..i+4 of the line of A that begins at `line` and has `end` elements.
fn read_a(line: u32, i: u32, end: u32) -> vec4<f32> {
#if A_VEC4
    return vec4<f32>(a[(line + min(i, end - 4u)) / 4u]);
#else
    let last = end - 1u;
    let at = min(vec4(i, i + 1u, i + 2u, i + 3u), vec4(last)) + line;
    return vec4(f32(a[at.x]), f32(a[at.y]), f32(a[at.z]), f32(a[at.w]));
#end
}

// The same of B.
fn read_b(line: u32, i: u32, end: u32) -> vec4<f32> {
#if B_VEC4
    return vec4<f32>(b[(line + min(i, end - 4u)) / 4u]);
#else
    let last = end - 1u;
    let at = min(vec4(i, i + 1u, i + 2u, i + 3u), vec4(last)) + line;
    return vec4(f32(b[at.x]), f32(b[at.y]), f32(b[at.z]), f32(b[at.w]));
#end
}

// `v` with zeros where its position along k, which grows by `step`, is not below `end`.
fn cut(v: vec4<f32>, k: u32, step: u32, end: u32) -> vec4<f32> {
#if EDGE_K
    return select(vec4<f32>(), v, vec4(k, k + step, k + 2u * step, k + 3u * step) < vec4(end));
#else
    return v;
#end
}

// Four elements of the part of A that begins at k0; `item` numbers them along memory.
fn fetch_a(t: Tile, item: u32, k0: u32) -> vec4<f32> {
#if A_ALONG_K
    let row = min(item / #{BK / 4}u, t.rows - 1u);
    let k = k0 + item % #{BK / 4}u * 4u;
    return cut(read_a(t.a + row * t.lda, k, t.k), k, 1u, t.k);
#else
    let k = k0 + item / #{TILE_M / 4}u;
    let line = t.a + min(k, t.k - 1u) * t.lda;
    return cut(read_a(line, item % #{TILE_M / 4}u * 4u, t.rows), k, 0u, t.k);
#end
}

// The same of B.
fn fetch_b(t: Tile, item: u32, k0: u32) -> vec4<f32> {
#if B_ALONG_K
    let column = min(item / #{BK / 4}u, t.columns - 1u);
    let k = k0 + item % #{BK / 4}u * 4u;
    return cut(read_b(t.b + column * t.ldb, k, t.k), k, 1u, t.k);
#else
    let k = k0 + item / #{TILE_N / 4}u;
    let line = t.b + min(k, t.k - 1u) * t.ldb;
    return cut(read_b(line, item % #{TILE_N / 4}u * 4u, t.columns), k, 0u, t.k);
#end
}

// Puts what `fetch_a` gave into workgroup memory.
fn keep_a(item: u32, v: vec4<f32>) {
#if A_ALONG_K
    let row = item / #{BK / 4}u;
    let at = item % #{BK / 4}u * #{4 * A_STRIDE}u + row / 4u;
#for i in 0..4
    a_part[at + #{i * A_STRIDE}u][row % 4u] = v[#{i}];
#end
#else
    a_part[item / #{TILE_M / 4}u * #{A_STRIDE}u + item % #{TILE_M / 4}u] = v;
#end
}

// Puts what `fetch_b` gave into workgroup memory.
fn keep_b(item: u32, v: vec4<f32>) {
#if B_ALONG_K
    let column = item / #{BK / 4}u;
    let at = item % #{BK / 4}u * #{4 * B_STRIDE}u + column / 4u;
#for i in 0..4
    b_part[at + #{i * B_STRIDE}u][column % 4u] = v[#{i}];
#end
#else
    b_part[item / #{TILE_N / 4}u * #{B_STRIDE}u + item % #{TILE_N / 4}u] = v;
#end
}

// An invocation's place in the tile: rows 4 * y + 4 * ROW_LANES * group + 0..4, columns likewise from x. A block of
// 8 x 4 invocations reads few enough distinct vectors of workgroup memory to be served at full rate.
fn lane_place(lane: u32) -> vec2<u32> {
    let block = lane / 32u;
    let x = lane % 8u + block % #{COLUMN_LANES / 8}u * 8u;
    let y = lane / 8u % 4u + block / #{COLUMN_LANES / 8}u * 4u;
    return vec2(x, y);
}

// The tile's sums of one invocation, row after row: (THREAD_M, THREAD_N / 4) vectors.
fn tile_product(t: Tile, lane: u32) -> array<vec4<f32>, #{THREAD_M * COLUMN_GROUPS}> {
    let place = lane_place(lane);
    var sums: array<vec4<f32>, #{THREAD_M * COLUMN_GROUPS}>;
#for i in 0..A_ITEMS
    var a#{i} = fetch_a(t, lane + #{i * THREADS}u, 0u);
#end
#for i in 0..B_ITEMS
    var b#{i} = fetch_b(t, lane + #{i * THREADS}u, 0u);
#end
    let last = (t.k - 1u) / #{BK}u * #{BK}u;
    for (var k0 = 0u; k0 < t.k; k0 += #{BK}u) {
        workgroupBarrier(); // the part before may still be read
#for i in 0..A_ITEMS
        keep_a(lane + #{i * THREADS}u, a#{i});
#end
#for i in 0..B_ITEMS
        keep_b(lane + #{i * THREADS}u, b#{i});
#end
        workgroupBarrier();
        // The next part travels while this one is multiplied. The last round reads its own again, for want of a branch.
        let next = min(k0 + #{BK}u, last);
#for i in 0..A_ITEMS
        a#{i} = fetch_a(t, lane + #{i * THREADS}u, next);
#end
#for i in 0..B_ITEMS
        b#{i} = fetch_b(t, lane + #{i * THREADS}u, next);
#end
        for (var kk = 0u; kk < #{BK}u; kk += #{UNROLL}u) {
            let row = kk * #{A_STRIDE}u + place.y;
            let column = kk * #{B_STRIDE}u + place.x;
#for u in 0..UNROLL
#for g in 0..THREAD_M / 4
            let x#{u}_#{g} = a_part[row + #{u * A_STRIDE + g * ROW_LANES}u];
#end
#for j in 0..COLUMN_GROUPS
            let y#{u}_#{j} = b_part[column + #{u * B_STRIDE + j * COLUMN_LANES}u];
#end
#for i in 0..THREAD_M
#for j in 0..COLUMN_GROUPS
            sums[#{i * COLUMN_GROUPS + j}] =
                fma(vec4(x#{u}_#{i / 4}[#{i % 4}]), y#{u}_#{j}, sums[#{i * COLUMN_GROUPS + j}]);
#end
#end
#end
        }
    }
    return sums;
}

// Stores four sums of a row, from element `at` of c on; `left` of them exist.
fn put(at: u32, left: u32, sum: vec4<f32>) {
#if C_VEC4
    let i = at / 4u;
#if ACCUMULATE == 0
    c[i] = CStored4(sum);
#end
#if ACCUMULATE == 1
    c[i] = CStored4(vec4<f32>(c[i]) + sum);
#end
#if ACCUMULATE == 2
    c[i] = CStored4(vec4<f32>(residual[i]) + sum);
#end
#else
#for e in 0..4
    if (left > #{e}u) {
#if ACCUMULATE == 0
        c[at + #{e}u] = CStored(sum[#{e}]);
#end
#if ACCUMULATE == 1
        c[at + #{e}u] = CStored(f32(c[at + #{e}u]) + sum[#{e}]);
#end
#if ACCUMULATE == 2
        c[at + #{e}u] = CStored(f32(residual[at + #{e}u]) + sum[#{e}]);
#end
    }
#end
#end
}

// Stores what `tile_product` gave.
fn store_tile(t: Tile, lane: u32, sums: array<vec4<f32>, #{THREAD_M * COLUMN_GROUPS}>) {
    let place = lane_place(lane);
#for i in 0..THREAD_M
#for j in 0..COLUMN_GROUPS
    {
        let row = place.y * 4u + #{i / 4 * 4 * ROW_LANES + i % 4}u;
        let column = place.x * 4u + #{j * 4 * COLUMN_LANES}u;
#if EDGE_MN
        if (row < t.rows && column < t.columns) {
            put(t.c + row * t.ldc + column, t.columns - column, sums[#{i * COLUMN_GROUPS + j}]);
        }
#else
        put(t.c + row * t.ldc + column, 4u, sums[#{i * COLUMN_GROUPS + j}]);
#end
    }
#end
#end
}
