// attention.wgsl on cooperative matrices: 16x16x16 products of f16 with f32 sums. One workgroup a tile of QUERIES
// queries of one head, 16 to a subgroup; it walks over tiles of KEYS keys. Scores and probabilities pass through
// workgroup memory, since a cooperative matrix shows no elements.
// The sums of out stay in registers. They are rescaled only where a row's maximum has risen by more than RISE since the
// last time: until then its probabilities are at most e^RISE, which f16 holds.
// Needs length and widths in sixteens. Subgroup operations stay out, as in shared/coop.wgsl.
// Reference: src/reference/attention.rs.
enable wgpu_cooperative_matrix;
#import shared/flash
#define THREADS 2 * QUERIES
// A line of scores, and one of probabilities.
#define SCORES_LINE KEYS / 4 + 1
#define WEIGHTS_LINE KEYS / 8 + 1
#define EIGHTS_A_LANE KEYS / 16
#define VALUES QUERIES * WEIGHTS_LINE
#define PART_KEYS KEYS * WIDTH_LINE
#define PART_VALUES VALUES + KEYS * VALUE_LINE
// The larger of the two.
#define PART (PART_KEYS > PART_VALUES) * PART_KEYS + (PART_KEYS <= PART_VALUES) * PART_VALUES
// Tiles of out that a subgroup's lines of `scores` hold at a time.
#define ROUND KEYS / 16

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
@group(0) @binding(0) var<storage, read> q: array<Eight>;            // (batch * length, heads, nope + rope)
@group(0) @binding(1) var<storage, read> kv: array<Eight>;           // (batch * length, heads, nope + value)
@group(0) @binding(2) var<storage, read> k_rope: array<Eight>;       // (batch * length, rope)
@group(0) @binding(3) var<storage, read> document_start: array<u32>; // (batch * length)
@group(0) @binding(4) var<storage, read> state: array<u32>;          // (8)
@group(0) @binding(5) var<storage, read_write> out: array<Eight>;    // (batch * length, heads, value)
@group(0) @binding(6) var<storage, read_write> lse: array<f32>;      // (batch, heads, length)

const RISE = 8.0;

// Keys; then probabilities and values.
var<workgroup> part: array<Eight, #{PART}>;
var<workgroup> scores: array<vec4<f32>, #{QUERIES * SCORES_LINE}>;
var<workgroup> halves: array<f32, #{2 * QUERIES}>; // of a row's maximum or sum
var<workgroup> risen: u32;                         // whether sums must be rescaled

#import shared/flash_keys

@compute @workgroup_size(#{THREADS})
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
#import shared/flash_queries

    let q_line = p.heads * #{WIDTH / 4}u;
    let q_at = ((first_token + min(first_query + rows, p.length - 16u)) * p.heads + head) * #{WIDTH8}u;
#for d in 0..WIDTH / 16
    let q#{d} = coopLoadT<coop_mat16x16<f16, A>>(&q[q_at + #{2 * d}u].a, q_line);
#end
#for j in 0..VALUE / 16
    var out#{j} = coop_mat16x16<f32, C>();
#end
    var highest = LOWEST;
    var sum = 0.0; // over this lane's keys alone
    let begin = document_start[first_token + first_query] / #{KEYS}u * #{KEYS}u;
#for i in 0..OWN_ITEMS
    var own#{i} = own_key(first_token, head, begin, lane + #{i * THREADS}u);
#end
#for i in 0..SHARED_ITEMS
    var shared#{i} = shared_key(first_token, begin, lane + #{i * THREADS}u);
#end
    for (var first_key = begin; first_key < min(first_query + #{QUERIES}u, p.length); first_key += #{KEYS}u) {
        workgroupBarrier(); // the part before may still be read
        if (lane == 0u) {
            risen = 0u;
        }
#for i in 0..OWN_ITEMS
        put_own_key(lane + #{i * THREADS}u, own#{i});
#end
#for i in 0..SHARED_ITEMS
        put_shared_key(lane + #{i * THREADS}u, shared#{i});
#end
        workgroupBarrier();
#for j in 0..KEYS / 16
        var s#{j} = coop_mat16x16<f32, C>();
#end
#for d in 0..WIDTH / 16
#for j in 0..KEYS / 16
        let k#{d}_#{j} = coopLoad<coop_mat16x16<f16, B>>(&part[#{16 * j * WIDTH_LINE + 2 * d}u].a, #{2 * WIDTH_LINE}u);
        s#{j} = coopMultiplyAdd(q#{d}, k#{d}_#{j}, s#{j});
#end
#end
#for j in 0..KEYS / 16
        // Bound to a name: naga 30 cannot write the translation of a store to a computed place.
        let s_at#{j} = rows * #{SCORES_LINE}u + #{4 * j}u;
        coopStoreT(s#{j}, &scores[s_at#{j}], #{SCORES_LINE}u);
#end
#for i in 0..VALUE_ITEMS
        let value#{i} = value_of(first_token, head, first_key, lane + #{i * THREADS}u);
#end
        // The next tile's keys are on their way while this one's scores are used.
        let next_key = select(first_key, first_key + #{KEYS}u, first_key + #{KEYS}u < p.length);
#for i in 0..OWN_ITEMS
        own#{i} = own_key(first_token, head, next_key, lane + #{i * THREADS}u);
#end
#for i in 0..SHARED_ITEMS
        shared#{i} = shared_key(first_token, next_key, lane + #{i * THREADS}u);
#end
        workgroupBarrier();
        var top = LOWEST;
#for i in 0..2 * EIGHTS_A_LANE
        let keys#{i} = first_key + #{i / 2 * 16 + i % 2 * 4}u + half * 8u + vec4(0u, 1u, 2u, 3u);
        let seen#{i} = (keys#{i} >= vec4(start)) & (keys#{i} <= vec4(query));
        let x#{i} = select(
            vec4(LOWEST), scores[row * #{SCORES_LINE}u + half * 2u + #{i / 2 * 4 + i % 2}u] * p.scale, seen#{i});
        top = max(top, max(max(x#{i}.x, x#{i}.y), max(x#{i}.z, x#{i}.w)));
#end
        halves[half * #{QUERIES}u + row] = top;
#for i in 0..VALUE_ITEMS
        put_value(lane + #{i * THREADS}u, value#{i});
#end
        workgroupBarrier();
        let higher = max(halves[row], halves[#{QUERIES}u + row]);
        var shrink = 1.0;
        if (higher > highest + RISE) {
            if (highest > LOWEST) {
                risen = 1u; // by several lanes, all alike
            }
            shrink = exp(highest - higher);
            sum *= shrink;
            highest = higher;
        }
#for i in 0..2 * EIGHTS_A_LANE
        let e#{i} = select(vec4(0.0), exp(x#{i} - highest), seen#{i});
        sum += dot(e#{i}, vec4(1.0));
        let w#{i} = vec4<f16>(e#{i} * dropout_factors(vec4(head_number * p.length + query), keys#{i}));
#end
#for i in 0..EIGHTS_A_LANE
        part[row * #{WEIGHTS_LINE}u + #{2 * i}u + half] = Eight(w#{2 * i}, w#{2 * i + 1});
#end
        workgroupBarrier();
        if (risen != 0u) {
#for g in 0..(VALUE / 16 + ROUND - 1) / ROUND
#for j in 0..ROUND
#if g * ROUND + j < VALUE / 16
            let old_at#{g}_#{j} = rows * #{SCORES_LINE}u + #{4 * j}u;
            coopStoreT(out#{g * ROUND + j}, &scores[old_at#{g}_#{j}], #{SCORES_LINE}u);
#end
#end
            workgroupBarrier();
#for i in 0..2 * EIGHTS_A_LANE
            scores[row * #{SCORES_LINE}u + #{2 * i}u + half] *= shrink;
#end
            workgroupBarrier();
#for j in 0..ROUND
#if g * ROUND + j < VALUE / 16
            out#{g * ROUND + j} =
                coopLoadT<coop_mat16x16<f32, C>>(&scores[rows * #{SCORES_LINE}u + #{4 * j}u], #{SCORES_LINE}u);
#end
#end
            workgroupBarrier();
#end
        }
#for k in 0..KEYS / 16
        let weights#{k} =
            coopLoadT<coop_mat16x16<f16, A>>(&part[rows * #{WEIGHTS_LINE}u + #{2 * k}u].a, #{2 * WEIGHTS_LINE}u);
#for j in 0..VALUE / 16
        let v#{k}_#{j} = coopLoadT<coop_mat16x16<f16, B>>(
            &part[#{VALUES + 16 * k * VALUE_LINE + 2 * j}u].a, #{2 * VALUE_LINE}u);
        out#{j} = coopMultiplyAdd(weights#{k}, v#{k}_#{j}, out#{j});
#end
#end
    }
    halves[half * #{QUERIES}u + row] = sum;
    workgroupBarrier();
    let whole = halves[row] + halves[#{QUERIES}u + row];
    workgroupBarrier();
    if (half == 0u) {
        halves[row] = select(0.0, 1.0 / whole, whole > 0.0);
        if (query < p.length) {
            lse[head_number * p.length + query] = select(LOWEST, highest + log(whole), whole > 0.0);
        }
    }
#for g in 0..(VALUE / 16 + ROUND - 1) / ROUND
#for j in 0..ROUND
#if g * ROUND + j < VALUE / 16
    let out_at#{g}_#{j} = rows * #{SCORES_LINE}u + #{4 * j}u;
    coopStoreT(out#{g * ROUND + j}, &scores[out_at#{g}_#{j}], #{SCORES_LINE}u);
#end
#end
    workgroupBarrier();
    for (var i = lane; i < #{QUERIES * KEYS / 8}u; i += #{THREADS}u) {
        let line = i / #{KEYS / 8}u;
        let column = #{g * KEYS / 8}u + i % #{KEYS / 8}u;
        if (first_query + line < p.length && column < #{VALUE8}u) {
            let at = line * #{SCORES_LINE}u + i % #{KEYS / 8}u * 2u;
            out[((first_token + first_query + line) * p.heads + head) * #{VALUE8}u + column] =
                Eight(vec4<f16>(scores[at] * halves[line]), vec4<f16>(scores[at + 1u] * halves[line]));
        }
    }
    workgroupBarrier();
#end
}
