// attention_backward_q.wgsl on cooperative matrices: 16x16x16 products of f16 with f32 sums. One workgroup a tile of
// QUERIES queries of one head, 16 to a subgroup; it walks over tiles of KEYS keys. Scores and their gradients pass
// through workgroup memory, since a cooperative matrix shows no elements; the sums of d_q stay in registers.
// Needs length and widths in sixteens. Subgroup operations stay out, as in shared/coop.wgsl.
// Reference: src/reference/attention_backward_q.rs.
enable wgpu_cooperative_matrix;
#import shared/flash
#define THREADS 2 * QUERIES
// A line of scores, and one of their gradients.
#define SCORES_LINE KEYS / 4 + 1
#define WEIGHTS_LINE KEYS / 8 + 1
#define EIGHTS_A_LANE KEYS / 16
#define VALUES KEYS * WIDTH_LINE
#define WEIGHTS VALUES + KEYS * VALUE_LINE
// Tiles of d_q that `scores` holds at a time in the end, and a line of them.
#define ROUND KEYS / 8
#define ROUND_LINE KEYS / 2 + 1

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
@group(0) @binding(0) var<storage, read> q: array<Eight>;             // (batch * length, heads, nope + rope)
@group(0) @binding(1) var<storage, read> kv: array<Eight>;            // (batch * length, heads, nope + value)
@group(0) @binding(2) var<storage, read> k_rope: array<Eight>;        // (batch * length, rope)
@group(0) @binding(3) var<storage, read> document_start: array<u32>;  // (batch * length)
@group(0) @binding(4) var<storage, read> state: array<u32>;           // (8)
@group(0) @binding(5) var<storage, read> row_stats: array<vec2<f32>>; // (batch, heads, length): lse, sum of d_out out
@group(0) @binding(6) var<storage, read> d_out: array<Eight>;         // (batch * length, heads, value)
@group(0) @binding(7) var<storage, read_write> d_q: array<Eight>;     // (batch * length, heads, nope + rope)

// Keys, values and gradients of the scores.
var<workgroup> part: array<Eight, #{WEIGHTS + QUERIES * WEIGHTS_LINE}>;
var<workgroup> scores: array<vec4<f32>, #{2 * QUERIES * SCORES_LINE}>; // q k^T, then d_out value^T

#import shared/flash_keys

@compute @workgroup_size(#{THREADS})
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
#import shared/flash_queries
    let stats = row_stats[head_number * p.length + min(query, p.length - 1u)];

    let tile_token = first_token + min(first_query + rows, p.length - 16u);
    let q_line = p.heads * #{WIDTH / 4}u;
    let d_out_line = p.heads * #{VALUE / 4}u;
#for d in 0..WIDTH / 16
    let q#{d} = coopLoadT<coop_mat16x16<f16, A>>(&q[(tile_token * p.heads + head) * #{WIDTH8}u + #{2 * d}u].a, q_line);
#end
#for d in 0..VALUE / 16
    let d_out#{d} = coopLoadT<coop_mat16x16<f16, A>>(
        &d_out[(tile_token * p.heads + head) * #{VALUE8}u + #{2 * d}u].a, d_out_line);
#end
#for j in 0..WIDTH / 16
    var d_q#{j} = coop_mat16x16<f32, C>();
#end
    let begin = document_start[first_token + first_query] / #{KEYS}u * #{KEYS}u;
#for i in 0..OWN_ITEMS
    var own#{i} = own_key(first_token, head, begin, lane + #{i * THREADS}u);
#end
#for i in 0..SHARED_ITEMS
    var shared#{i} = shared_key(first_token, begin, lane + #{i * THREADS}u);
#end
#for i in 0..VALUE_ITEMS
    var value#{i} = value_of(first_token, head, begin, lane + #{i * THREADS}u);
#end
    for (var first_key = begin; first_key < min(first_query + #{QUERIES}u, p.length); first_key += #{KEYS}u) {
        workgroupBarrier(); // the part before may still be read
#for i in 0..OWN_ITEMS
        put_own_key(lane + #{i * THREADS}u, own#{i});
#end
#for i in 0..SHARED_ITEMS
        put_shared_key(lane + #{i * THREADS}u, shared#{i});
#end
#for i in 0..VALUE_ITEMS
        put_value(lane + #{i * THREADS}u, value#{i});
#end
        workgroupBarrier();
        // The next tile is on its way while this one is used.
        let next_key = select(first_key, first_key + #{KEYS}u, first_key + #{KEYS}u < p.length);
#for i in 0..OWN_ITEMS
        own#{i} = own_key(first_token, head, next_key, lane + #{i * THREADS}u);
#end
#for i in 0..SHARED_ITEMS
        shared#{i} = shared_key(first_token, next_key, lane + #{i * THREADS}u);
#end
#for i in 0..VALUE_ITEMS
        value#{i} = value_of(first_token, head, next_key, lane + #{i * THREADS}u);
#end
#for j in 0..KEYS / 16
        var s#{j} = coop_mat16x16<f32, C>();
        var w#{j} = coop_mat16x16<f32, C>();
#end
#for d in 0..WIDTH / 16
#for j in 0..KEYS / 16
        let k#{d}_#{j} = coopLoad<coop_mat16x16<f16, B>>(&part[#{16 * j * WIDTH_LINE + 2 * d}u].a, #{2 * WIDTH_LINE}u);
        s#{j} = coopMultiplyAdd(q#{d}, k#{d}_#{j}, s#{j});
#end
#end
#for d in 0..VALUE / 16
#for j in 0..KEYS / 16
        let v#{d}_#{j} =
            coopLoad<coop_mat16x16<f16, B>>(&part[#{VALUES + 16 * j * VALUE_LINE + 2 * d}u].a, #{2 * VALUE_LINE}u);
        w#{j} = coopMultiplyAdd(d_out#{d}, v#{d}_#{j}, w#{j});
#end
#end
#for j in 0..KEYS / 16
        // Bound to a name: naga 30 cannot write the translation of a store to a computed place.
        let s_at#{j} = rows * #{SCORES_LINE}u + #{4 * j}u;
        coopStoreT(s#{j}, &scores[s_at#{j}], #{SCORES_LINE}u);
        let w_at#{j} = (#{QUERIES}u + rows) * #{SCORES_LINE}u + #{4 * j}u;
        coopStoreT(w#{j}, &scores[w_at#{j}], #{SCORES_LINE}u);
#end
        workgroupBarrier();
#for i in 0..2 * EIGHTS_A_LANE
        let keys#{i} = first_key + #{i / 2 * 16 + i % 2 * 4}u + half * 8u + vec4(0u, 1u, 2u, 3u);
        let seen#{i} = (keys#{i} >= vec4(start)) & (keys#{i} <= vec4(query));
        let at#{i} = row * #{SCORES_LINE}u + half * 2u + #{i / 2 * 4 + i % 2}u;
        let x#{i} = scores[at#{i}];
        let e#{i} = select(vec4(0.0), exp(x#{i} * p.scale - stats.x), seen#{i});
        let z#{i} = dropout_factors(vec4(head_number * p.length + query), keys#{i});
        let y#{i} = z#{i} * scores[#{QUERIES * SCORES_LINE}u + at#{i}] - stats.y;
        let d#{i} = vec4<f16>(p.scale * e#{i} * y#{i});
#end
#for i in 0..EIGHTS_A_LANE
        part[#{WEIGHTS}u + row * #{WEIGHTS_LINE}u + #{2 * i}u + half] = Eight(d#{2 * i}, d#{2 * i + 1});
#end
        workgroupBarrier();
#for k in 0..KEYS / 16
        let d_s#{k} = coopLoadT<coop_mat16x16<f16, A>>(
            &part[#{WEIGHTS}u + rows * #{WEIGHTS_LINE}u + #{2 * k}u].a, #{2 * WEIGHTS_LINE}u);
#for j in 0..WIDTH / 16
        let k_down#{k}_#{j} =
            coopLoadT<coop_mat16x16<f16, B>>(&part[#{16 * k * WIDTH_LINE + 2 * j}u].a, #{2 * WIDTH_LINE}u);
        d_q#{j} = coopMultiplyAdd(d_s#{k}, k_down#{k}_#{j}, d_q#{j});
#end
#end
    }
#for g in 0..(WIDTH / 16 + ROUND - 1) / ROUND
    workgroupBarrier();
#for j in 0..ROUND
#if g * ROUND + j < WIDTH / 16
    let out_at#{g}_#{j} = rows * #{ROUND_LINE}u + #{4 * j}u;
    coopStoreT(d_q#{g * ROUND + j}, &scores[out_at#{g}_#{j}], #{ROUND_LINE}u);
#end
#end
    workgroupBarrier();
    for (var i = lane; i < #{QUERIES * KEYS / 4}u; i += #{THREADS}u) {
        let line = i / #{KEYS / 4}u;
        let column = #{g * KEYS / 4}u + i % #{KEYS / 4}u;
        if (first_query + line < p.length && column < #{WIDTH8}u) {
            let at = line * #{ROUND_LINE}u + i % #{KEYS / 4}u * 2u;
            d_q[((first_token + first_query + line) * p.heads + head) * #{WIDTH8}u + column] =
                Eight(vec4<f16>(scores[at]), vec4<f16>(scores[at + 1u]));
        }
    }
#end
}
