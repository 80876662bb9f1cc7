// c[e] += a_e^T b_e, or = with ACCUMULATE 0, where a_e and b_e are the rows offsets[e]..offsets[e + 1] of expert e:
// gradients of the experts' weights.
// One workgroup a tile of the rows first_row..first_row + row_count of one expert's
// gradient; that of an expert without rows is zeros.
// Reference: src/reference/matmul_experts_weight_grad.rs.
#define A_ALONG_K 0
#define B_ALONG_K 0
#define EDGE_K 1
#define HALF_C 0
#import shared/index
#import shared/product

struct Params {
    m: u32,
    n: u32,
    pairs: u32,
    first_expert: u32,
    expert_count: u32,
    first_row: u32,
    row_count: u32,
    accumulate: u32,
}
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> a: array<AElements>;       // (pairs, m)
@group(0) @binding(1) var<storage, read> b: array<BElements>;       // (pairs, n)
@group(0) @binding(2) var<storage, read> offsets: array<u32>;       // (experts + 1)
@group(0) @binding(3) var<storage, read_write> c: array<CElements>; // (expert_count, m, n)

@compute @workgroup_size(#{THREADS})
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let down = (p.row_count + #{TILE_M - 1}u) / #{TILE_M}u;
    let across = (p.n + #{TILE_N - 1}u) / #{TILE_N}u;
    let number = group_index(group, groups);
    let own = number / (down * across);
    if (own >= p.expert_count) {
        return;
    }
    let rows_before = number / across % down * #{TILE_M}u;
    let row = p.first_row + rows_before;
    let column = number % across * #{TILE_N}u;
    let first = offsets[p.first_expert + own];
    let end = offsets[p.first_expert + own + 1u];

    var t: Tile;
    t.a = first * p.m + row;
    t.lda = p.m;
    t.b = first * p.n + column;
    t.ldb = p.n;
    t.c = (own * p.m + row) * p.n + column;
    t.ldc = p.n;
    t.rows = p.row_count - rows_before;
    t.columns = p.n - column;
    t.k = end - first;
    if (first == end) {
#if ACCUMULATE == 0
        store_tile(t, lane, array<vec4<f32>, #{THREAD_M * COLUMN_GROUPS}>());
#end
        return;
    }
    store_tile(t, lane, tile_product(t, lane));
}
