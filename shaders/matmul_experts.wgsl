// c = a W or c += a W (ACCUMULATE 0, 1), where every expert's rows of a meet its own weight. FORM 0: an expert's weight
// is (n, k); 1: (k, n).
// One workgroup a tile of at most TILE_M rows of one expert and TILE_N columns; the table names the tiles, of which
// first_tile..first_tile + tiles are computed. Rows of experts outside first_expert..first_expert + expert_count keep
// their old values.
// Reference: src/reference/matmul_experts.rs.
#define A_ALONG_K 1
#define B_ALONG_K FORM == 0
#define EDGE_MN 1
#import shared/index
#import shared/product

struct Params {
    rows: u32,
    n: u32,
    k: u32,
    form: u32,
    first_expert: u32,
    expert_count: u32,
    first_tile: u32,
    tiles: u32,
    tile_rows: u32,
    accumulate: u32,
}
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> a: array<AElements>;       // (rows, k)
@group(0) @binding(1) var<storage, read> b: array<BElements>;       // (expert_count, n, k) or (expert_count, k, n)
@group(0) @binding(2) var<storage, read> tiles: array<u32>;         // (tiles, 2): expert, first row
@group(0) @binding(3) var<storage, read> offsets: array<u32>;       // (experts + 1)
@group(0) @binding(4) var<storage, read_write> c: array<CElements>; // (rows, n)

@compute @workgroup_size(#{THREADS})
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let across = (p.n + #{TILE_N - 1}u) / #{TILE_N}u;
    let number = group_index(group, groups);
    if (number >= p.tiles * across) {
        return;
    }
    let tile = p.first_tile + number / across;
    let expert = tiles[tile * 2u];
    let own = expert - p.first_expert; // an unused tile's expert wraps to a large number
    if (own >= p.expert_count) {
        return;
    }
    let row = tiles[tile * 2u + 1u];
    let column = number % across * #{TILE_N}u;

    var t: Tile;
    t.a = row * p.k;
    t.lda = p.k;
#if B_ALONG_K
    t.b = (own * p.n + column) * p.k;
    t.ldb = p.k;
#else
    t.b = own * p.k * p.n + column;
    t.ldb = p.n;
#end
    t.c = row * p.n + column;
    t.ldc = p.n;
    t.rows = min(offsets[expert + 1u] - row, #{TILE_M}u);
    t.columns = p.n - column;
    t.k = p.k;
    store_tile(t, lane, tile_product(t, lane));
}
