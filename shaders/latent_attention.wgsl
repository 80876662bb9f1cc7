// One part of the attention of four heads of a row over the latent cache: of the tiles t of 32 keys among positions 0
// to positions[n] of the row's slot, those with t % splits = part. With score = scale q . line, m the largest score of
// the part: statistics = m, sum of exp(score - m); sums = sum of exp(score - m) line[..latent]. Without keys -1e30 and
// zeros. One workgroup a row, four heads and a part; overwrites sums and statistics.
// Reference: src/reference/latent_attention.rs.
//
// All heads share the cache's lines, so a workgroup keeps four heads in the lanes of a vector: each element of a line
// is loaded once for the scores and once for the sums of four heads.
#define LANES 1
#define WIDTH 64
#define COLUMNS 1
#define UNROLL 4
#define THREADS 256
#define KEYS 32
#import shared/elements

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
@group(0) @binding(0) var<storage, read> q: array<#{HALF_Q ? f16 : f32}>;                 // (rows, heads, width)
@group(0) @binding(1) var<storage, read> cache: array<#{HALF_CACHE ? Halves : Elements}>; // (slots, capacity, width)
@group(0) @binding(2) var<storage, read> slots: array<u32>;                              // (rows)
@group(0) @binding(3) var<storage, read> positions: array<u32>;                          // (rows)
@group(0) @binding(4) var<storage, read_write> sums: array<f32>;                         // (rows, heads, splits, ..)
@group(0) @binding(5) var<storage, read_write> statistics: array<f32>;                   // (rows, heads, splits, 2)

var<workgroup> queries: array<vec4<f32>, #{WIDTH}>;            // of four heads
var<workgroup> eighths: array<array<vec4<f32>, 8>, #{KEYS}>; // of the scores: each is the work of eight invocations
var<workgroup> weights: array<vec4<f32>, #{KEYS}>;             // scores, then exp(score - m)

const NEGLIGIBLE = vec4(-1e30);

// One head's element of q; 0 for heads that the model does not have.
fn query(row: u32, head: u32, column: u32) -> f32 {
    if (head >= p.heads) {
        return 0.0;
    }
    return f32(q[(row * p.heads + head) * #{WIDTH}u + column]);
}

@compute @workgroup_size(#{THREADS})
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = group_index(group, groups);
    let blocks = (p.heads + 3u) / 4u;
    let part = index % p.splits;
    let head = index / p.splits % blocks * 4u;
    let row = index / (p.splits * blocks);
    if (row >= p.rows) {
        return;
    }
    for (var i = lane; i < #{WIDTH}u; i += #{THREADS}u) {
        let first_two = vec2(query(row, head, i), query(row, head + 1u, i));
        queries[i] = vec4(first_two, query(row, head + 2u, i), query(row, head + 3u, i));
    }
    let slot = slots[row];
    let keys = select(positions[row] + 1u, 0u, slot == 0xffffffffu);
    let first_line = select(slot, 0u, slot == 0xffffffffu) * p.capacity;
    // An invocation sums two columns, half of a vector, or one.
#for j in 0..COLUMNS
    let column#{j} = min((lane + #{j * THREADS}u) / #{LANES == 4 ? 2u : 1u}, #{WIDTH / LANES - 1}u);
#end
    var largest = NEGLIGIBLE;
    var total = vec4<f32>();
#for j in 0..COLUMNS
    var sum#{j}_0 = vec4<f32>();
    var sum#{j}_1 = vec4<f32>();
#end
    workgroupBarrier();
    for (var first = part * #{KEYS}u; first < keys; first += p.splits * #{KEYS}u) {
        let own = first + lane / 8u;
        var eighth = vec4<f32>();
        let line = (first_line + min(own, keys - 1u)) * #{WIDTH / LANES}u;
        for (var start = lane % 8u; start < #{WIDTH / LANES}u; start += #{8 * UNROLL}u) {
#for u in 0..UNROLL
            let i#{u} = min(start + #{8 * u}u, #{WIDTH / LANES - 1}u);
            let x#{u} = Elements(cache[line + i#{u}]) * select(0.0, 1.0, start + #{8 * u}u < #{WIDTH / LANES}u);
#end
#for u in 0..UNROLL
#if LANES == 4
            eighth = fma(queries[4u * i#{u}], vec4(x#{u}.x), eighth);
            eighth = fma(queries[4u * i#{u} + 1u], vec4(x#{u}.y), eighth);
            eighth = fma(queries[4u * i#{u} + 2u], vec4(x#{u}.z), eighth);
            eighth = fma(queries[4u * i#{u} + 3u], vec4(x#{u}.w), eighth);
#else
            eighth = fma(queries[i#{u}], vec4(x#{u}), eighth);
#end
#end
        }
        eighths[lane / 8u][lane % 8u] = eighth;
        workgroupBarrier();
        if (lane < #{KEYS}u) {
            var score = vec4<f32>();
            for (var e = 0u; e < 8u; e++) {
                score += eighths[lane][e];
            }
            weights[lane] = select(NEGLIGIBLE, p.scale * score, first + lane < keys);
        }
        workgroupBarrier();
        var tile_largest = weights[0];
        for (var k = 1u; k < #{KEYS}u; k++) {
            tile_largest = max(tile_largest, weights[k]);
        }
        let now_largest = max(largest, tile_largest);
        let kept = exp(largest - now_largest);
        largest = now_largest;
        workgroupBarrier();
        if (lane < #{KEYS}u) {
            weights[lane] = exp(weights[lane] - largest); // 0 beyond the last key
        }
        workgroupBarrier();
        total *= kept;
#for j in 0..COLUMNS
        sum#{j}_0 *= kept;
        sum#{j}_1 *= kept;
#end
        // Beyond the last key a weight is 0, and the last line is read again.
        for (var k = 0u; k < min(#{KEYS}u, keys - first); k += #{UNROLL}u) {
#for u in 0..UNROLL
            let line#{u} = (first_line + min(first + k + #{u}u, keys - 1u)) * #{WIDTH / LANES}u;
#for j in 0..COLUMNS
            let x#{u}_#{j} = Elements(cache[line#{u} + column#{j}]);
#end
#end
#for u in 0..UNROLL
            let weight#{u} = weights[k + #{u}u];
            total += weight#{u};
#for j in 0..COLUMNS
#if LANES == 4
            let two#{u}_#{j} = select(x#{u}_#{j}.xy, x#{u}_#{j}.zw, lane % 2u == 1u);
            sum#{j}_0 = fma(weight#{u}, vec4(two#{u}_#{j}.x), sum#{j}_0);
            sum#{j}_1 = fma(weight#{u}, vec4(two#{u}_#{j}.y), sum#{j}_1);
#else
            sum#{j}_0 = fma(weight#{u}, vec4(x#{u}_#{j}), sum#{j}_0);
#end
#end
#end
        }
    }
    for (var h = 0u; h < min(4u, p.heads - head); h++) {
        let at = (row * p.heads + head + h) * p.splits + part;
#for j in 0..COLUMNS
        let at#{j} = (lane + #{j * THREADS}u) * #{LANES == 4 ? 2u : 1u};
        if (at#{j} < p.latent) {
            sums[at * p.latent + at#{j}] = sum#{j}_0[h];
#if LANES == 4
            sums[at * p.latent + at#{j} + 1u] = sum#{j}_1[h];
#end
        }
#end
        if (lane == 0u) {
            statistics[2u * at] = largest[h];
            statistics[2u * at + 1u] = total[h];
        }
    }
}
