// out = softmax(mask(scale q k^T)) Z value and lse = log of the softmax denominator, in one sweep over the keys with
// a running maximum (Dao 2023, algorithm 1). A query at i of its sequence sees the keys document_start[i]..=i, where
// document_start never falls along a sequence; Z are the dropout factors, which lse does not see.
// k = the head's columns 0..nope of kv, then k_rope; value = the rest of kv. One workgroup a tile of QUERIES queries of
// one head; overwrites out and lse. Reference: src/reference/attention.rs.
#define PRODUCTS 1
#import shared/attention
#define SLOTS (VALUE + 3) / 4
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
@group(0) @binding(5) var<storage, read_write> out: array<#{HALF_OUT ? f16 : f32}>; // (tokens, heads, value)
@group(0) @binding(6) var<storage, read_write> lse: array<f32>;                     // (batch, heads, length)

var<workgroup> tile: array<vec4<f32>, #{KEYS * QUERY_STRIDE}>;         // probabilities, keys first
var<workgroup> partial: array<vec4<f32>, #{KEY_LANES * QUERY_LANES}>;  // of a row's maximum or sum

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
#for t in 0..SLOTS_A_LANE
    var out#{r}_#{t} = vec4<f32>();
#end
#end
    var maximum = vec4(LOWEST); // of the lane's four rows
    var sum = vec4<f32>();      // over this lane's keys alone
    let begin = document_start[at.first + first_query] / #{KEYS}u * #{KEYS}u;
    for (var first_key = begin; first_key < min(first_query + #{QUERIES}u, p.length); first_key += #{KEYS}u) {
        let keys = first_key + keys_of_lane;
        let product = product_0(at, first_query, first_key, lane);
#for r in 0..4
        let query#{r} = first_query + query_lane + #{r * QUERY_LANES}u;
        let s#{r} = select(vec4(LOWEST), product[#{r}] * p.scale, visible(at, query#{r}, keys));
        let top#{r} = max(max(s#{r}.x, s#{r}.y), max(s#{r}.z, s#{r}.w));
#end
        partial[key_lane * #{QUERY_LANES}u + query_lane] = vec4(top0, top1, top2, top3);
        workgroupBarrier();
        var higher = maximum;
        for (var c = 0u; c < #{KEY_LANES}u; c += 1u) {
            higher = max(higher, partial[c * #{QUERY_LANES}u + query_lane]);
        }
        let shrink = exp(maximum - higher);
        maximum = higher;
#for r in 0..4
        let e#{r} = select(vec4(0.0), exp(s#{r} - maximum[#{r}]), s#{r} > vec4(0.5 * LOWEST));
        let w#{r} = e#{r} * dropout_factors(at, query#{r}, keys);
#for t in 0..SLOTS_A_LANE
        out#{r}_#{t} *= shrink[#{r}];
#end
#end
        sum = fma(sum, shrink, vec4(dot(e0, vec4(1.0)), dot(e1, vec4(1.0)), dot(e2, vec4(1.0)), dot(e3, vec4(1.0))));
#for j in 0..4
        tile[(key_lane + #{j * KEY_LANES}u) * #{QUERY_STRIDE}u + query_lane] =
            vec4(w0[#{j}], w1[#{j}], w2[#{j}], w3[#{j}]);
#end
        for (var first = 0u; first < #{KEYS}u; first += #{PANEL}u) {
#for u in 0..(PANEL * PANEL_STRIDE + THREADS - 1) / THREADS
            let slot#{u} = (lane + #{u * THREADS}u) % #{PANEL_STRIDE}u;
            let row#{u} = kv_place(at, first_key + first + (lane + #{u * THREADS}u) / #{PANEL_STRIDE}u) + #{NOPE}u;
            let v#{u} = vec4(
                f32(kv[row#{u} + min(slot#{u}, #{VALUE - 1}u)]),
                f32(kv[row#{u} + min(slot#{u} + #{SLOTS}u, #{VALUE - 1}u)]),
                f32(kv[row#{u} + min(slot#{u} + #{2 * SLOTS}u, #{VALUE - 1}u)]),
                f32(kv[row#{u} + min(slot#{u} + #{3 * SLOTS}u, #{VALUE - 1}u)]),
            );
#end
            workgroupBarrier();
#for u in 0..(PANEL * PANEL_STRIDE + THREADS - 1) / THREADS
            if (lane + #{u * THREADS}u < #{PANEL * PANEL_STRIDE}u) {
                stage[lane + #{u * THREADS}u] = v#{u};
            }
#end
            workgroupBarrier();
            for (var k = 0u; k < #{PANEL}u; k += #{UNROLL}u) {
#for k in 0..UNROLL
                let w_#{k} = tile[(first + k + #{k}u) * #{QUERY_STRIDE}u + query_lane];
#for t in 0..SLOTS_A_LANE
                let v_#{k}_#{t} = stage[(k + #{k}u) * #{PANEL_STRIDE}u + key_lane + #{t * KEY_LANES}u];
#for r in 0..4
                out#{r}_#{t} = fma(vec4(w_#{k}[#{r}]), v_#{k}_#{t}, out#{r}_#{t});
#end
#end
#end
            }
        }
    }
    workgroupBarrier();
    partial[key_lane * #{QUERY_LANES}u + query_lane] = sum;
    workgroupBarrier();
    sum = vec4<f32>();
    for (var c = 0u; c < #{KEY_LANES}u; c += 1u) {
        sum += partial[c * #{QUERY_LANES}u + query_lane];
    }
    let inverse = select(vec4(0.0), 1.0 / sum, sum > vec4(0.0));
    let log_sum = select(vec4(LOWEST), maximum + log(sum), sum > vec4(0.0));
#for r in 0..4
    let query#{r} = first_query + query_lane + #{r * QUERY_LANES}u;
    if (query#{r} < p.length) {
        let row = ((at.first + query#{r}) * p.heads + at.head) * #{VALUE}u;
        if (key_lane == 0u) {
            lse[at.number * p.length + query#{r}] = log_sum[#{r}];
        }
#for t in 0..SLOTS_A_LANE
        let slot#{r}_#{t} = key_lane + #{t * KEY_LANES}u;
#for e in 0..4
        if (slot#{r}_#{t} < #{SLOTS}u && slot#{r}_#{t} + #{e * SLOTS}u < #{VALUE}u) {
            out[row + slot#{r}_#{t} + #{e * SLOTS}u] = #{HALF_OUT ? f16 : f32}(out#{r}_#{t}[#{e}] * inverse[#{r}]);
        }
#end
#end
    }
#end
}
