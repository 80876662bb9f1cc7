// d_q of causal attention: with P = exp(scale q k^T - lse) on visible keys and D the saved sums of d_out out,
// d_q = scale (P (Z (d_out value^T) - D)) k. Recomputes scores tile by tile; visibility, Z and k as in attention.wgsl.
// One workgroup a tile of QUERIES queries of one head; overwrites d_q.
// Reference: src/reference/attention_backward_q.rs.
#define PRODUCTS 2
#import shared/attention
#define SLOTS (WIDTH + 3) / 4
#define SLOTS_A_LANE (SLOTS + KEY_LANES - 1) / KEY_LANES
#define PANEL_STRIDE SLOTS_A_LANE * KEY_LANES

struct Params {
    batch: u32,
    length: u32,
    heads: u32,
    nope: u32,
    rope: u32,
    value: u32,
    scale: f32,
    dropout: f32,
    site: u32,
    first_head: u32,
    head_count: u32,
}
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> q: array<#{HALF_Q ? f16 : f32}>;           // (tokens, heads, nope + rope)
@group(0) @binding(1) var<storage, read> kv: array<#{HALF_KV ? f16 : f32}>;         // (tokens, heads, nope + value)
@group(0) @binding(2) var<storage, read> k_rope: array<#{HALF_K_ROPE ? f16 : f32}>; // (tokens, rope)
@group(0) @binding(3) var<storage, read> document_start: array<u32>;                // (tokens)
@group(0) @binding(4) var<storage, read> state: array<u32>;                         // (8)
// (batch, heads, length): lse, sum of d_out out
@group(0) @binding(5) var<storage, read> row_stats: array<vec2<f32>>;
@group(0) @binding(6) var<storage, read> d_out: array<#{HALF_D_OUT ? f16 : f32}>;   // (tokens, heads, value)
@group(0) @binding(7) var<storage, read_write> d_q: array<#{HALF_D_Q ? f16 : f32}>; // (tokens, heads, nope + rope)

var<workgroup> tile: array<vec4<f32>, #{KEYS * QUERY_STRIDE}>; // gradients of the scores, keys first

// Element of a key: the head's own columns, then those that all heads share; anything past the end.
fn key_at(at: Head, row: u32, column: u32) -> f32 {
    if (column < #{NOPE}u) {
        return f32(kv[kv_place(at, row) + column]);
    }
    return f32(k_rope[token(at, row) * #{ROPE}u + min(column, #{WIDTH - 1}u) - #{NOPE}u]);
}

@compute @workgroup_size(#{THREADS})
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let number = group_index(group, groups);
    let tiles = (p.length + #{QUERIES - 1}u) / #{QUERIES}u;
    if (number >= tiles * p.head_count) {
        return;
    }
    let at = head_of(p.first_head + number % p.head_count);
    let first_query = (tiles - 1u - number / p.head_count) * #{QUERIES}u; // the longest sweeps start first
    let query_lane = lane / #{KEY_LANES}u;
    let key_lane = lane % #{KEY_LANES}u;
    let keys_of_lane = key_lane + vec4(0u, #{KEY_LANES}u, #{2 * KEY_LANES}u, #{3 * KEY_LANES}u);
#for r in 0..4
    let query#{r} = first_query + query_lane + #{r * QUERY_LANES}u;
    let stats#{r} = row_stats[at.number * p.length + min(query#{r}, p.length - 1u)];
#for t in 0..SLOTS_A_LANE
    var d_q#{r}_#{t} = vec4<f32>();
#end
#end
    let begin = document_start[at.first + first_query] / #{KEYS}u * #{KEYS}u;
    for (var first_key = begin; first_key < min(first_query + #{QUERIES}u, p.length); first_key += #{KEYS}u) {
        let keys = first_key + keys_of_lane;
        let scores = product_0(at, first_query, first_key, lane);
        let d_weights = product_1(at, first_query, first_key, lane);
#for r in 0..4
        let p#{r} = probabilities(at, query#{r}, keys, scores[#{r}], stats#{r}.x);
        let d#{r} = p#{r} * (dropout_factors(at, query#{r}, keys) * d_weights[#{r}] - stats#{r}.y);
#end
#for j in 0..4
        tile[(key_lane + #{j * KEY_LANES}u) * #{QUERY_STRIDE}u + query_lane] =
            vec4(d0[#{j}], d1[#{j}], d2[#{j}], d3[#{j}]);
#end
        for (var first = 0u; first < #{KEYS}u; first += #{PANEL}u) {
#for u in 0..(PANEL * PANEL_STRIDE + THREADS - 1) / THREADS
            let slot#{u} = (lane + #{u * THREADS}u) % #{PANEL_STRIDE}u;
            let key#{u} = first_key + first + (lane + #{u * THREADS}u) / #{PANEL_STRIDE}u;
            let k#{u} = vec4(
                key_at(at, key#{u}, slot#{u}), key_at(at, key#{u}, slot#{u} + #{SLOTS}u),
                key_at(at, key#{u}, slot#{u} + #{2 * SLOTS}u), key_at(at, key#{u}, slot#{u} + #{3 * SLOTS}u),
            );
#end
            workgroupBarrier();
#for u in 0..(PANEL * PANEL_STRIDE + THREADS - 1) / THREADS
            if (lane + #{u * THREADS}u < #{PANEL * PANEL_STRIDE}u) {
                stage[lane + #{u * THREADS}u] = k#{u};
            }
#end
            workgroupBarrier();
            for (var k = 0u; k < #{PANEL}u; k += #{UNROLL}u) {
#for k in 0..UNROLL
                let d_#{k} = tile[(first + k + #{k}u) * #{QUERY_STRIDE}u + query_lane];
#for t in 0..SLOTS_A_LANE
                let k_#{k}_#{t} = stage[(k + #{k}u) * #{PANEL_STRIDE}u + key_lane + #{t * KEY_LANES}u];
#for r in 0..4
                d_q#{r}_#{t} = fma(vec4(d_#{k}[#{r}]), k_#{k}_#{t}, d_q#{r}_#{t});
#end
#end
#end
            }
        }
    }
#for r in 0..4
    if (query#{r} < p.length) {
        let row = query_place(at, query#{r});
#for t in 0..SLOTS_A_LANE
        let slot#{r}_#{t} = key_lane + #{t * KEY_LANES}u;
#for e in 0..4
        if (slot#{r}_#{t} < #{SLOTS}u && slot#{r}_#{t} + #{e * SLOTS}u < #{WIDTH}u) {
            d_q[row + slot#{r}_#{t} + #{e * SLOTS}u] = #{HALF_D_Q ? f16 : f32}(p.scale * d_q#{r}_#{t}[#{e}]);
        }
#end
#end
    }
#end
}
