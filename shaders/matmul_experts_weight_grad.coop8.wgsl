// matmul_experts_weight_grad.wgsl on cooperative matrices, for factors stored as f16: products of 8 x 8 x 8 with f32
// sums. One workgroup a tile of one expert's gradient. Needs m and n in eights.
// Reference: src/reference/matmul_experts_weight_grad.rs.
#define A_ALONG_K 0
#define B_ALONG_K 0
#define EDGE_K 1
#define STAGED 0
#define HALF_C 0
#import shared/coop8

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
@group(0) @binding(0) var<storage, read> a: array<vec4<f16>>;     // (pairs, m)
@group(0) @binding(1) var<storage, read> b: array<vec4<f16>>;     // (pairs, n)
@group(0) @binding(2) var<storage, read> offsets: array<u32>;     // (experts + 1)
@group(0) @binding(3) var<storage, read_write> c: array<f32>;     // (expert_count, m, n)

@compute @workgroup_size(#{THREADS})
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let down = (p.row_count + #{TILE_M - 1}u) / #{TILE_M}u;
    let across = (p.n + #{TILE_N - 1}u) / #{TILE_N}u;
    let number = group.y * groups.x + group.x; // in place, as in matmul.coop8.wgsl
    let own = number / (down * across);
    if (own >= p.expert_count) {
        return;
    }
    let rows_before = number / across % down * #{TILE_M}u;
    let row = p.first_row + rows_before;
    let column = number % across * #{TILE_N}u;
    let first = offsets[p.first_expert + own];
    let end = offsets[p.first_expert + own + 1u];
    if (first == end) {
#if ACCUMULATE == 0
        for (var i = lane; i < #{TILE_M * TILE_N}u; i += #{THREADS}u) {
            if (rows_before + i / #{TILE_N}u < p.row_count && column + i % #{TILE_N}u < p.n) {
                c[(own * p.m + row + i / #{TILE_N}u) * p.n + column + i % #{TILE_N}u] = 0.0;
            }
        }
#end
        return;
    }
    let c_first = (own * p.m + row) * p.n + column;
    let left = vec2(p.row_count - rows_before, p.n - column);
    let t = Tile(first * p.m + row, p.m, first * p.n + column, p.n, c_first, p.n, left.x, left.y, end - first);
#import shared/coop8_sums
}
