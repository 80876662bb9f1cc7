// y[n, h] = W_UK[h]^T q_nope[n, h], and q_rope[n, h] with its pairs turned by the row's position. W_UK[h] are rows
// h (nope + value) to + nope of the weight.
// One workgroup a block of #{ROWS} rows, a head and a tile of columns, one invocation a column or two; overwrites y.
// Reference: src/reference/latent_query.rs.
#define LANES 1
#define ROWS 1
#define NOPE 128
#define TILES 1
#define UNROLL 16
#define THREADS 256
#import shared/index
alias Lanes = #{LANES == 2 ? vec2<f32> : f32};
#if HALVES
alias HalfLanes = #{LANES == 2 ? vec2<f16> : f16};
#end

struct Params {
    rows: u32,
    heads: u32,
    nope: u32,
    rope: u32,
    value: u32,
    latent: u32,
    capacity: u32,
    splits: u32,
    scale: f32,
    epsilon: f32,
}
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> q: array<#{HALF_Q ? f16 : f32}>;                   // (rows, heads, ..)
@group(0) @binding(1) var<storage, read> weight: array<#{HALF_WEIGHT ? HalfLanes : Lanes}>;     // (heads .., latent)
@group(0) @binding(2) var<storage, read> table: array<vec2<f32>>;                           // (capacity, rope / 2)
@group(0) @binding(3) var<storage, read> positions: array<u32>;                             // (rows)
@group(0) @binding(4) var<storage, read_write> y: array<#{HALF_Y ? f16 : f32}>;             // (rows, heads, ..)

const PADDED = #{(NOPE + UNROLL - 1) / UNROLL * UNROLL}u;

var<workgroup> queries: array<array<f32, PADDED>, #{ROWS}>; // with zeros at its end

@compute @workgroup_size(#{THREADS})
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = group_index(group, groups);
    let tile = index % #{TILES}u;
    let head = index / #{TILES}u % p.heads;
    let first = index / (#{TILES}u * p.heads) * #{ROWS}u;
    if (first >= p.rows) {
        return;
    }
    let width = p.nope + p.rope;
    for (var i = lane; i < #{ROWS}u * PADDED; i += #{THREADS}u) {
        let row = min(first + i / PADDED, p.rows - 1u); // beyond the last: nobody writes what comes of it
        let column = i % PADDED;
        var x = 0.0;
        if (column < #{NOPE}u) {
            x = f32(q[(row * p.heads + head) * width + column]);
        }
        queries[i / PADDED][column] = x;
    }
    workgroupBarrier();
    let columns = p.latent / #{LANES}u;
    let column = tile * #{THREADS}u + lane;
    if (column < columns) {
        var sums: array<Lanes, #{ROWS}>;
        let up = head * (p.nope + p.value) * columns + column;
        for (var i = 0u; i < #{NOPE}u; i += #{UNROLL}u) {
#for u in 0..UNROLL
            let w#{u} = Lanes(weight[up + min(i + #{u}u, #{NOPE - 1}u) * columns]);
#end
#for u in 0..UNROLL
#for r in 0..ROWS
            sums[#{r}] = fma(w#{u}, Lanes(queries[#{r}][i + #{u}u]), sums[#{r}]);
#end
#end
        }
#for r in 0..ROWS
        if (first + #{r}u < p.rows) {
            let at = ((first + #{r}u) * p.heads + head) * (p.latent + p.rope) + column * #{LANES}u;
#if LANES == 2
            y[at] = #{HALF_Y ? f16 : f32}(sums[#{r}].x);
            y[at + 1u] = #{HALF_Y ? f16 : f32}(sums[#{r}].y);
#else
            y[at] = #{HALF_Y ? f16 : f32}(sums[#{r}]);
#end
        }
#end
    }
    // The first tile's workgroup also turns what positions turn.
    for (var i = lane; i < select(0u, #{ROWS}u * (p.rope / 2u), tile == 0u); i += #{THREADS}u) {
        let row = first + i / (p.rope / 2u);
        if (row < p.rows) {
            let pair = i % (p.rope / 2u);
            let source = (row * p.heads + head) * width + p.nope + 2u * pair;
            let at = (row * p.heads + head) * (p.latent + p.rope) + p.latent + 2u * pair;
            let turn = table[positions[row] * (p.rope / 2u) + pair];
            let x = vec2(f32(q[source]), f32(q[source + 1u]));
            y[at] = #{HALF_Y ? f16 : f32}(x.x * turn.x - x.y * turn.y);
            y[at + 1u] = #{HALF_Y ? f16 : f32}(x.y * turn.x + x.x * turn.y);
        }
    }
}
