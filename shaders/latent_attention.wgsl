// One part of the attention of four heads of a row over the latent cache: of the tiles t of 64 keys among positions 0
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
#define THREADS 256
#define KEYS 64
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
@group(0) @binding(0) var<storage, read> q: array<#{HALF_Q ? f16 : f32}>;                 // (rows, heads, width)
@group(0) @binding(1) var<storage, read> cache: array<#{HALF_CACHE ? HalfLanes : Lanes}>; // (slots, capacity, width)
@group(0) @binding(2) var<storage, read> slots: array<u32>;                              // (rows)
@group(0) @binding(3) var<storage, read> positions: array<u32>;                          // (rows)
@group(0) @binding(4) var<storage, read_write> sums: array<f32>;                         // (rows, heads, splits, ..)
@group(0) @binding(5) var<storage, read_write> statistics: array<f32>;                   // (rows, heads, splits, 2)

var<workgroup> queries: array<vec4<f32>, #{WIDTH}>;            // of four heads
var<workgroup> quarters: array<array<vec4<f32>, 4>, #{KEYS}>;  // of the scores: each is the work of four invocations
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
    var largest = NEGLIGIBLE;
    var total = vec4<f32>();
#for j in 0..COLUMNS * LANES
    var sum#{j} = vec4<f32>();
#end
    workgroupBarrier();
    for (var first = part * #{KEYS}u; first < keys; first += p.splits * #{KEYS}u) {
        let own = first + lane / 4u;
        var quarter = vec4<f32>();
        if (own < keys) {
            let line = (first_line + own) * #{WIDTH / LANES}u;
            for (var i = lane % 4u; i < #{WIDTH / LANES}u; i += 4u) {
                let x = Lanes(cache[line + i]);
#if LANES == 2
                quarter = fma(queries[2u * i], vec4(x.x), quarter);
                quarter = fma(queries[2u * i + 1u], vec4(x.y), quarter);
#else
                quarter = fma(queries[i], vec4(x), quarter);
#end
            }
        }
        quarters[lane / 4u][lane % 4u] = quarter;
        workgroupBarrier();
        if (lane < #{KEYS}u) {
            let score = p.scale * (quarters[lane][0] + quarters[lane][1] + quarters[lane][2] + quarters[lane][3]);
            weights[lane] = select(NEGLIGIBLE, score, first + lane < keys);
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
#for j in 0..COLUMNS * LANES
        sum#{j} *= kept;
#end
        for (var k = 0u; k < min(#{KEYS}u, keys - first); k++) {
            let weight = weights[k];
            total += weight;
            let line = (first_line + first + k) * #{WIDTH / LANES}u;
#for j in 0..COLUMNS
            let x#{j} = Lanes(cache[line + min(lane + #{j * THREADS}u, #{WIDTH / LANES - 1}u)]);
#if LANES == 2
            sum#{2 * j} = fma(weight, vec4(x#{j}.x), sum#{2 * j});
            sum#{2 * j + 1} = fma(weight, vec4(x#{j}.y), sum#{2 * j + 1});
#else
            sum#{j} = fma(weight, vec4(x#{j}), sum#{j});
#end
#end
        }
    }
    for (var h = 0u; h < min(4u, p.heads - head); h++) {
        let at = (row * p.heads + head + h) * p.splits + part;
#for j in 0..COLUMNS
#for l in 0..LANES
        if ((lane + #{j * THREADS}u) * #{LANES}u < p.latent) {
            sums[at * p.latent + (lane + #{j * THREADS}u) * #{LANES}u + #{l}u] = sum#{j * LANES + l}[h];
        }
#end
#end
        if (lane == 0u) {
            statistics[2u * at] = largest[h];
            statistics[2u * at + 1u] = total[h];
        }
    }
}
