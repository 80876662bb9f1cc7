// Gradients of a head's keys and values: with P = exp(scale q k^T - lse) on visible keys and D the saved sums of d_out
// out, d_value = (P Z)^T d_out and d_k = scale (P (Z (d_out value^T) - D))^T q. Recomputes scores tile by tile;
// visibility, Z and k as in attention.wgsl. A row of d_heads is d_k's first nope columns, d_value, d_k's rope columns;
// the last are the head's share of the gradient of k_rope. One workgroup a tile of KEYS keys of one head; overwrites
// d_heads. Reference: src/reference/attention_backward_kv.rs.
#define PRODUCTS 2
#import shared/attention
#define KEY_SLOTS (WIDTH + 3) / 4
#define KEY_SLOTS_A_LANE (KEY_SLOTS + QUERY_LANES - 1) / QUERY_LANES
#define D_KEY_STRIDE KEY_SLOTS_A_LANE * QUERY_LANES
#define VALUE_SLOTS (VALUE + 3) / 4
#define VALUE_SLOTS_A_LANE (VALUE_SLOTS + QUERY_LANES - 1) / QUERY_LANES
#define D_VALUE_STRIDE VALUE_SLOTS_A_LANE * QUERY_LANES

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
// (tokens, heads, nope + value + rope)
@group(0) @binding(7) var<storage, read_write> d_heads: array<#{HALF_D_HEADS ? f16 : f32}>;

var<workgroup> tile: array<vec4<f32>, #{QUERIES * KEY_STRIDE}>; // P Z, then gradients of the scores, queries first

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
    let first_key = number / p.head_count * #{KEYS}u; // the longest sweeps start first
    let query_lane = lane / #{KEY_LANES}u;
    let key_lane = lane % #{KEY_LANES}u;
    let keys = first_key + key_lane + vec4(0u, #{KEY_LANES}u, #{2 * KEY_LANES}u, #{3 * KEY_LANES}u);
    // In the products with `tile` an invocation holds the keys row_lane + r KEY_LANES and some fours of columns.
    let row_lane = lane / #{QUERY_LANES}u;
    let slot_lane = lane % #{QUERY_LANES}u;
#for r in 0..4
#for t in 0..VALUE_SLOTS_A_LANE
    var d_value#{r}_#{t} = vec4<f32>();
#end
#for t in 0..KEY_SLOTS_A_LANE
    var d_key#{r}_#{t} = vec4<f32>();
#end
#end
    for (var first_query = first_key; first_query < p.length; first_query += #{QUERIES}u) {
        if (document_start[at.first + first_query] >= first_key + #{KEYS}u) {
            break; // every later query belongs to a later document too
        }
        let scores = product_0(at, first_query, first_key, lane);
        let d_weights = product_1(at, first_query, first_key, lane);
#for r in 0..4
        let query#{r} = first_query + query_lane + #{r * QUERY_LANES}u;
        let stats#{r} = row_stats[at.number * p.length + min(query#{r}, p.length - 1u)];
        let p#{r} = probabilities(at, query#{r}, keys, scores[#{r}], stats#{r}.x);
        let z#{r} = dropout_factors(at, query#{r}, keys);
        tile[(query_lane + #{r * QUERY_LANES}u) * #{KEY_STRIDE}u + key_lane] = p#{r} * z#{r};
#end
        for (var first = 0u; first < #{QUERIES}u; first += #{PANEL}u) {
#for u in 0..(PANEL * D_VALUE_STRIDE + THREADS - 1) / THREADS
            let slot#{u} = (lane + #{u * THREADS}u) % #{D_VALUE_STRIDE}u;
            let row#{u} = out_place(at, first_query + first + (lane + #{u * THREADS}u) / #{D_VALUE_STRIDE}u);
            let x#{u} = vec4(
                f32(d_out[row#{u} + min(slot#{u}, #{VALUE - 1}u)]),
                f32(d_out[row#{u} + min(slot#{u} + #{VALUE_SLOTS}u, #{VALUE - 1}u)]),
                f32(d_out[row#{u} + min(slot#{u} + #{2 * VALUE_SLOTS}u, #{VALUE - 1}u)]),
                f32(d_out[row#{u} + min(slot#{u} + #{3 * VALUE_SLOTS}u, #{VALUE - 1}u)]),
            );
#end
            workgroupBarrier();
#for u in 0..(PANEL * D_VALUE_STRIDE + THREADS - 1) / THREADS
            if (lane + #{u * THREADS}u < #{PANEL * D_VALUE_STRIDE}u) {
                stage[lane + #{u * THREADS}u] = x#{u};
            }
#end
            workgroupBarrier();
            for (var k = 0u; k < #{PANEL}u; k += #{UNROLL}u) {
#for k in 0..UNROLL
                let w_#{k} = tile[(first + k + #{k}u) * #{KEY_STRIDE}u + row_lane];
#for t in 0..VALUE_SLOTS_A_LANE
                let x_#{k}_#{t} = stage[(k + #{k}u) * #{D_VALUE_STRIDE}u + #{t * QUERY_LANES}u + slot_lane];
#for r in 0..4
                d_value#{r}_#{t} = fma(vec4(w_#{k}[#{r}]), x_#{k}_#{t}, d_value#{r}_#{t});
#end
#end
#end
            }
        }
        workgroupBarrier();
#for r in 0..4
        tile[(query_lane + #{r * QUERY_LANES}u) * #{KEY_STRIDE}u + key_lane] =
            p#{r} * (z#{r} * d_weights[#{r}] - stats#{r}.y);
#end
        for (var first = 0u; first < #{QUERIES}u; first += #{PANEL}u) {
#for u in 0..(PANEL * D_KEY_STRIDE + THREADS - 1) / THREADS
            let slot#{u} = (lane + #{u * THREADS}u) % #{D_KEY_STRIDE}u;
            let row#{u} = query_place(at, first_query + first + (lane + #{u * THREADS}u) / #{D_KEY_STRIDE}u);
            let x#{u} = vec4(
                f32(q[row#{u} + min(slot#{u}, #{WIDTH - 1}u)]),
                f32(q[row#{u} + min(slot#{u} + #{KEY_SLOTS}u, #{WIDTH - 1}u)]),
                f32(q[row#{u} + min(slot#{u} + #{2 * KEY_SLOTS}u, #{WIDTH - 1}u)]),
                f32(q[row#{u} + min(slot#{u} + #{3 * KEY_SLOTS}u, #{WIDTH - 1}u)]),
            );
#end
            workgroupBarrier();
#for u in 0..(PANEL * D_KEY_STRIDE + THREADS - 1) / THREADS
            if (lane + #{u * THREADS}u < #{PANEL * D_KEY_STRIDE}u) {
                stage[lane + #{u * THREADS}u] = x#{u};
            }
#end
            workgroupBarrier();
            for (var k = 0u; k < #{PANEL}u; k += #{UNROLL}u) {
#for k in 0..UNROLL
                let w_#{k} = tile[(first + k + #{k}u) * #{KEY_STRIDE}u + row_lane];
#for t in 0..KEY_SLOTS_A_LANE
                let x_#{k}_#{t} = stage[(k + #{k}u) * #{D_KEY_STRIDE}u + #{t * QUERY_LANES}u + slot_lane];
#for r in 0..4
                d_key#{r}_#{t} = fma(vec4(w_#{k}[#{r}]), x_#{k}_#{t}, d_key#{r}_#{t});
#end
#end
#end
            }
        }
    }
#for r in 0..4
    let key#{r} = first_key + row_lane + #{r * KEY_LANES}u;
    if (key#{r} < p.length) {
        let row = (token(at, key#{r}) * p.heads + at.head) * #{WIDTH + VALUE}u;
#for t in 0..VALUE_SLOTS_A_LANE
        let d_value_slot#{r}_#{t} = slot_lane + #{t * QUERY_LANES}u;
#for e in 0..4
        if (d_value_slot#{r}_#{t} < #{VALUE_SLOTS}u && d_value_slot#{r}_#{t} + #{e * VALUE_SLOTS}u < #{VALUE}u) {
            let column = d_value_slot#{r}_#{t} + #{e * VALUE_SLOTS}u;
            d_heads[row + #{NOPE}u + column] = #{HALF_D_HEADS ? f16 : f32}(d_value#{r}_#{t}[#{e}]);
        }
#end
#end
#for t in 0..KEY_SLOTS_A_LANE
        let d_key_slot#{r}_#{t} = slot_lane + #{t * QUERY_LANES}u;
#for e in 0..4
        if (d_key_slot#{r}_#{t} < #{KEY_SLOTS}u && d_key_slot#{r}_#{t} + #{e * KEY_SLOTS}u < #{WIDTH}u) {
            let column = d_key_slot#{r}_#{t} + #{e * KEY_SLOTS}u;
            let place = row + select(column, column + #{VALUE}u, column >= #{NOPE}u);
            d_heads[place] = #{HALF_D_HEADS ? f16 : f32}(p.scale * d_key#{r}_#{t}[#{e}]);
        }
#end
#end
    }
#end
}
