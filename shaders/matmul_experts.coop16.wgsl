// matmul_experts.wgsl on cooperative matrices, for factors stored as f16: products of 16 x 16 x 16 with f32 sums.
// One workgroup a tile of at most TILE_M rows of one expert and TILE_N columns; the table names the tiles, which are of
// TILE_M rows. Needs n in sixteens and k in BKs; THIN what shared/thin says.
// Reference: src/reference/matmul_experts.rs.
#define THIN 0
#define A_ALONG_K 1
#define B_ALONG_K FORM == 0
#define STAGED 1
#if THIN
#import shared/thin
#else
#import shared/coop
#end

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
@group(0) @binding(0) var<storage, read> a: array<Factor>;                            // (rows, k)
@group(0) @binding(1) var<storage, read> b: array<Factor>; // (expert_count, n, k) or (expert_count, k, n)
@group(0) @binding(2) var<storage, read> tiles: array<u32>;                           // (tiles, 2): expert, first row
@group(0) @binding(3) var<storage, read> offsets: array<u32>;                         // (experts + 1)
@group(0) @binding(4) var<storage, read_write> c: array<vec4<#{HALF_C ? f16 : f32}>>; // (rows, n)

@compute @workgroup_size(#{THREADS})
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let across = (p.n + #{TILE_N - 1}u) / #{TILE_N}u;
    let number = group.y * groups.x + group.x; // in place, as in matmul.coop16.wgsl
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
    let rows = min(offsets[expert + 1u] - row, #{TILE_M}u);
    let b_first = own * p.n * p.k + #{B_ALONG_K ? column * p.k : column};
    let t = Tile(row * p.k, p.k, b_first, #{B_ALONG_K ? p.k : p.n}, row * p.n + column, p.n, rows, p.n - column, p.k);
#if THIN
#import shared/thin_sums
#else
#import shared/coop_sums
#end
}
