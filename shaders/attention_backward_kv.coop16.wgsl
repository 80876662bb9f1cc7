// attention_backward_kv.wgsl on cooperative matrices: 16x16x16 products of f16 with f32 sums. One workgroup a tile of
// KEYS keys of one head; it walks over tiles of QUERIES queries. QUERIES / 16 subgroups share 16 keys: in the tile of
// scores, keys first, each has 16 queries, and of the sums every such tile of columns. Scores and their gradients pass
// through workgroup memory, since a cooperative matrix shows no elements; the sums stay in registers.
// Needs the length in sixteens, widths of keys and values in 32s. Subgroup operations stay out, as in shared/coop.wgsl.
// Reference: src/reference/attention_backward_kv.rs.
enable wgpu_cooperative_matrix;
#import shared/flash
#define COLUMN_GROUPS QUERIES / 16
#define THREADS KEYS / 16 * COLUMN_GROUPS * 32
// A line of `scores`: q k^T, then d_out value^T. One of weights: P Z, then gradients of the scores.
#define SCORES_LINE 2 * QUERIES / 4 + 1
#define WEIGHTS_LINE 2 * QUERIES / 8 + 1
#define EIGHTS_A_LANE KEYS * QUERIES / 8 / THREADS
#define D_OUT QUERIES * WIDTH_LINE
#define WEIGHTS D_OUT + QUERIES * VALUE_LINE
#define WIDTH_TILES (NOPE + ROPE) / 16 / COLUMN_GROUPS
#define VALUE_TILES VALUE / 16 / COLUMN_GROUPS
#define Q_ITEMS (QUERIES * WIDTH8 + THREADS - 1) / THREADS
#define D_OUT_ITEMS (QUERIES * VALUE8 + THREADS - 1) / THREADS

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
@group(0) @binding(7) var<storage, read_write> d_heads: array<Eight>; // (batch * length, heads, nope + value + rope)

// Queries, gradients of out, weights.
var<workgroup> part: array<Eight, #{WEIGHTS + KEYS * WEIGHTS_LINE}>;
var<workgroup> scores: array<vec4<f32>, #{KEYS * SCORES_LINE}>;
// Of the tile's queries.
var<workgroup> log_sums: array<vec4<f32>, #{QUERIES / 4}>;
var<workgroup> deltas: array<vec4<f32>, #{QUERIES / 4}>;
var<workgroup> starts: array<vec4<u32>, #{QUERIES / 4}>;

// Eights of a tile's queries and gradients of out, as in shared/flash_keys.wgsl.
fn query_of(first_token: u32, head: u32, first_query: u32, item: u32) -> Eight {
    let row = row_within(first_query + item / #{WIDTH8}u);
    return q[((first_token + row) * p.heads + head) * #{WIDTH8}u + item % #{WIDTH8}u];
}

fn put_query(item: u32, x: Eight) {
    if (item < #{QUERIES * WIDTH8}u) {
        part[item / #{WIDTH8}u * #{WIDTH_LINE}u + item % #{WIDTH8}u] = x;
    }
}

fn d_out_of(first_token: u32, head: u32, first_query: u32, item: u32) -> Eight {
    let row = row_within(first_query + item / #{VALUE8}u);
    return d_out[((first_token + row) * p.heads + head) * #{VALUE8}u + item % #{VALUE8}u];
}

fn put_d_out(item: u32, x: Eight) {
    if (item < #{QUERIES * VALUE8}u) {
        part[#{D_OUT}u + item / #{VALUE8}u * #{VALUE_LINE}u + item % #{VALUE8}u] = x;
    }
}

// Of one query; those past the end see no key.
fn stats_of(head_number: u32, query: u32) -> vec2<f32> {
    return row_stats[head_number * p.length + min(query, p.length - 1u)];
}

fn begin_of(first_token: u32, query: u32) -> u32 {
    return select(0xffffffffu, document_start[first_token + min(query, p.length - 1u)], query < p.length);
}

@compute @workgroup_size(#{THREADS})
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    // Without calls, whose results naga takes to differ within a workgroup: cooperative operations follow.
    let number = group.y * groups.x + group.x;
    let tiles = (p.length + #{KEYS - 1}u) / #{KEYS}u;
    if (number >= tiles * p.head_count) {
        return;
    }
    let head_number = p.first_head + number % p.head_count;
    let first_token = head_number / p.heads * p.length;
    let head = head_number % p.heads;
    let first_key = number / p.head_count * #{KEYS}u; // the longest sweeps start first
    let rows = lane / #{32 * COLUMN_GROUPS}u * 16u; // first of the subgroup's keys
    let side = lane / 32u % #{COLUMN_GROUPS}u;      // its number among those that have the same keys
    let row = lane % #{KEYS}u;                      // the key of which this lane handles some eights of scores
    let key = first_key + row;

    let tile_token = first_token + min(first_key + rows, p.length - 16u);
    let kv_line = p.heads * #{(NOPE + VALUE) / 4}u;
#for d in 0..NOPE / 16
    let k#{d} = coopLoadT<coop_mat16x16<f16, A>>(&kv[(tile_token * p.heads + head) * #{KV8}u + #{2 * d}u].a, kv_line);
#end
#for d in 0..ROPE / 16
    let k#{NOPE / 16 + d} =
        coopLoadT<coop_mat16x16<f16, A>>(&k_rope[tile_token * #{ROPE8}u + #{2 * d}u].a, #{ROPE / 4}u);
#end
#for d in 0..VALUE / 16
    let v#{d} =
        coopLoadT<coop_mat16x16<f16, A>>(&kv[(tile_token * p.heads + head) * #{KV8}u + #{NOPE8 + 2 * d}u].a, kv_line);
#end
#for j in 0..VALUE_TILES
    var d_value#{j} = coop_mat16x16<f32, C>();
#end
#for j in 0..WIDTH_TILES
    var d_key#{j} = coop_mat16x16<f32, C>();
#end
#for i in 0..Q_ITEMS
    var q_item#{i} = query_of(first_token, head, first_key, lane + #{i * THREADS}u);
#end
#for i in 0..D_OUT_ITEMS
    var d_item#{i} = d_out_of(first_token, head, first_key, lane + #{i * THREADS}u);
#end
    var stats = stats_of(head_number, first_key + lane);
    var begins = begin_of(first_token, first_key + lane);
    for (var first_query = first_key; first_query < p.length; first_query += #{QUERIES}u) {
        if (document_start[first_token + first_query] >= first_key + #{KEYS}u) {
            break; // every later query belongs to a later document too
        }
        workgroupBarrier(); // the part before may still be read
#for i in 0..Q_ITEMS
        put_query(lane + #{i * THREADS}u, q_item#{i});
#end
#for i in 0..D_OUT_ITEMS
        put_d_out(lane + #{i * THREADS}u, d_item#{i});
#end
        if (lane < #{QUERIES}u) {
            log_sums[lane / 4u][lane % 4u] = stats.x;
            deltas[lane / 4u][lane % 4u] = stats.y;
            starts[lane / 4u][lane % 4u] = begins;
        }
        workgroupBarrier();
        // The next tile is on its way while this one is used.
        let next_query = select(first_query, first_query + #{QUERIES}u, first_query + #{QUERIES}u < p.length);
#for i in 0..Q_ITEMS
        q_item#{i} = query_of(first_token, head, next_query, lane + #{i * THREADS}u);
#end
#for i in 0..D_OUT_ITEMS
        d_item#{i} = d_out_of(first_token, head, next_query, lane + #{i * THREADS}u);
#end
        stats = stats_of(head_number, next_query + lane);
        begins = begin_of(first_token, next_query + lane);
        var s = coop_mat16x16<f32, C>();
        var w = coop_mat16x16<f32, C>();
#for d in 0..WIDTH / 16
        let q#{d} =
            coopLoad<coop_mat16x16<f16, B>>(&part[side * #{16 * WIDTH_LINE}u + #{2 * d}u].a, #{2 * WIDTH_LINE}u);
        s = coopMultiplyAdd(k#{d}, q#{d}, s);
#end
#for d in 0..VALUE / 16
        let d_out#{d} = coopLoad<coop_mat16x16<f16, B>>(
            &part[#{D_OUT}u + side * #{16 * VALUE_LINE}u + #{2 * d}u].a, #{2 * VALUE_LINE}u);
        w = coopMultiplyAdd(v#{d}, d_out#{d}, w);
#end
        // Bound to a name: naga 30 cannot write the translation of a store to a computed place.
        let s_at = rows * #{SCORES_LINE}u + side * 4u;
        coopStoreT(s, &scores[s_at], #{SCORES_LINE}u);
        let w_at = rows * #{SCORES_LINE}u + #{QUERIES / 4}u + side * 4u;
        coopStoreT(w, &scores[w_at], #{SCORES_LINE}u);
        workgroupBarrier();
#for i in 0..EIGHTS_A_LANE
        let eight#{i} = lane / #{KEYS}u + #{i * THREADS / KEYS}u; // of queries
#for h in 0..2
        let c#{i}_#{h} = 2u * eight#{i} + #{h}u;
        let queries#{i}_#{h} = first_query + 4u * c#{i}_#{h} + vec4(0u, 1u, 2u, 3u);
        let seen#{i}_#{h} = (vec4(key) >= starts[c#{i}_#{h}]) & (vec4(key) <= queries#{i}_#{h});
        let y#{i}_#{h} = scores[row * #{SCORES_LINE}u + c#{i}_#{h}] * p.scale - log_sums[c#{i}_#{h}];
        let e#{i}_#{h} = select(vec4(0.0), exp(y#{i}_#{h}), seen#{i}_#{h});
        let z#{i}_#{h} = dropout_factors(head_number * p.length + queries#{i}_#{h}, vec4(key));
        let g#{i}_#{h} =
            z#{i}_#{h} * scores[row * #{SCORES_LINE}u + #{QUERIES / 4}u + c#{i}_#{h}] - deltas[c#{i}_#{h}];
#end
        let at#{i} = #{WEIGHTS}u + row * #{WEIGHTS_LINE}u + eight#{i};
        part[at#{i}] = Eight(vec4<f16>(e#{i}_0 * z#{i}_0), vec4<f16>(e#{i}_1 * z#{i}_1));
        part[at#{i} + #{QUERIES / 8}u] =
            Eight(vec4<f16>(p.scale * e#{i}_0 * g#{i}_0), vec4<f16>(p.scale * e#{i}_1 * g#{i}_1));
#end
        workgroupBarrier();
#for k in 0..QUERIES / 16
        let p_z#{k} = coopLoadT<coop_mat16x16<f16, A>>(
            &part[#{WEIGHTS}u + rows * #{WEIGHTS_LINE}u + #{2 * k}u].a, #{2 * WEIGHTS_LINE}u);
#for j in 0..VALUE_TILES
        let d_out_down#{k}_#{j} = coopLoadT<coop_mat16x16<f16, B>>(
            &part[#{D_OUT + 16 * k * VALUE_LINE + 2 * j * COLUMN_GROUPS}u + 2u * side].a, #{2 * VALUE_LINE}u);
        d_value#{j} = coopMultiplyAdd(p_z#{k}, d_out_down#{k}_#{j}, d_value#{j});
#end
        let d_s#{k} = coopLoadT<coop_mat16x16<f16, A>>(
            &part[#{WEIGHTS}u + rows * #{WEIGHTS_LINE}u + #{QUERIES / 8 + 2 * k}u].a, #{2 * WEIGHTS_LINE}u);
#for j in 0..WIDTH_TILES
        let q_down#{k}_#{j} = coopLoadT<coop_mat16x16<f16, B>>(
            &part[#{16 * k * WIDTH_LINE + 2 * j * COLUMN_GROUPS}u + 2u * side].a, #{2 * WIDTH_LINE}u);
        d_key#{j} = coopMultiplyAdd(d_s#{k}, q_down#{k}_#{j}, d_key#{j});
#end
#end
    }
    // Two tiles a subgroup at a time go through `scores`.
#for j in 0..(VALUE_TILES + 1) / 2
    workgroupBarrier();
#for t in 2 * j..2 * j + 2
#if t < VALUE_TILES
    let value_at#{t} = rows * #{SCORES_LINE}u + #{4 * (t - 2 * j) * COLUMN_GROUPS}u + 4u * side;
    coopStoreT(d_value#{t}, &scores[value_at#{t}], #{SCORES_LINE}u);
#end
#end
    workgroupBarrier();
    for (var i = lane; i < #{KEYS * QUERIES / 4}u; i += #{THREADS}u) {
        let line = i / #{QUERIES / 4}u;
        let column = #{j * QUERIES / 4}u + i % #{QUERIES / 4}u;
        let at = line * #{SCORES_LINE}u + i % #{QUERIES / 4}u * 2u;
        if (first_key + line < p.length && column < #{VALUE8}u) {
            d_heads[((first_token + first_key + line) * p.heads + head) * #{WIDTH8 + VALUE8}u + #{NOPE8}u + column] =
                Eight(vec4<f16>(scores[at]), vec4<f16>(scores[at + 1u]));
        }
    }
#end
#for j in 0..(WIDTH_TILES + 1) / 2
    workgroupBarrier();
#for t in 2 * j..2 * j + 2
#if t < WIDTH_TILES
    let key_at#{t} = rows * #{SCORES_LINE}u + #{4 * (t - 2 * j) * COLUMN_GROUPS}u + 4u * side;
    coopStoreT(d_key#{t}, &scores[key_at#{t}], #{SCORES_LINE}u);
#end
#end
    workgroupBarrier();
    for (var i = lane; i < #{KEYS * QUERIES / 4}u; i += #{THREADS}u) {
        let line = i / #{QUERIES / 4}u;
        let column = #{j * QUERIES / 4}u + i % #{QUERIES / 4}u;
        let at = line * #{SCORES_LINE}u + i % #{QUERIES / 4}u * 2u;
        if (first_key + line < p.length && column < #{WIDTH8}u) {
            d_heads[((first_token + first_key + line) * p.heads + head) * #{WIDTH8 + VALUE8}u
                + select(column, column + #{VALUE8}u, column >= #{NOPE8}u)] =
                Eight(vec4<f16>(scores[at]), vec4<f16>(scores[at + 1u]));
        }
    }
#end
}
