// c = A B, c + A B, or residual + A B (ACCUMULATE 0, 1, 2). FORM 0: a is (m, k) and b (n, k); 1: (m, k) and (k, n);
// 2: (k, m) and (k, n); all row-major with their own distances between rows. Where slice < k, c is (slices, m, n) and
// gets the products of slices of k, for sum_slices.wgsl to add up.
// One workgroup a tile of a slice's c, bands of BAND tile rows after each other. Overwrites or updates c's elements
// only.
// Reference: src/reference/matmul.rs.
#define A_ALONG_K FORM != 2
#define B_ALONG_K FORM == 0
// A band's tiles run down before they run right, so that tiles in flight together share rows and columns in the cache.
#define BAND 8
#import shared/index
#import shared/product

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
    slice: u32,
}
var<immediate> p: Params;
alias ResidualStored = #{HALF_RESIDUAL ? f16 : f32};
alias ResidualElements = #{C_VEC4 ? vec4<ResidualStored> : ResidualStored};
@group(0) @binding(0) var<storage, read> a: array<AElements>;               // (m, k) or (k, m)
@group(0) @binding(1) var<storage, read> b: array<BElements>;               // (n, k) or (k, n)
@group(0) @binding(2) var<storage, read> residual: array<ResidualElements>; // (m, n)
@group(0) @binding(3) var<storage, read_write> c: array<CElements>;         // (m, n)

@compute @workgroup_size(#{THREADS})
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let down = (p.m + #{TILE_M - 1}u) / #{TILE_M}u;
    let across = (p.n + #{TILE_N - 1}u) / #{TILE_N}u;
    let number = group_index(group, groups);
    let first = number / (down * across) * p.slice; // step of k
    if (first >= p.k) {
        return;
    }
    let tile = number % (down * across);
    let band = tile / (#{BAND}u * across) * #{BAND}u;
    let height = min(#{BAND}u, down - band);
    let within = tile - band * across;
    let row = (band + within % height) * #{TILE_M}u;
    let column = within / height * #{TILE_N}u;

    var t: Tile;
#if A_ALONG_K
    t.a = p.a_offset + row * p.lda + first;
#else
    t.a = p.a_offset + row + first * p.lda;
#end
#if B_ALONG_K
    t.b = p.b_offset + column * p.ldb + first;
#else
    t.b = p.b_offset + column + first * p.ldb;
#end
    t.c = p.c_offset + (first / p.slice * p.m + row) * p.ldc + column;
    t.lda = p.lda;
    t.ldb = p.ldb;
    t.ldc = p.ldc;
    t.rows = p.m - row;
    t.columns = p.n - column;
    t.k = min(p.slice, p.k - first);
    store_tile(t, lane, tile_product(t, lane));
}
