// What the attention shaders share: tiles of products, visibility and dropout factors.
// A workgroup owns one head of one sequence and walks over tiles of QUERIES x KEYS scores (equal numbers). In a tile an
// invocation holds the queries query_lane + r QUERY_LANES, r = 0..4 (the vectors of a mat4x4), and of each the keys
// key_lane + j KEY_LANES, j = 0..4 (their components). With such strided fours, neighbouring invocations read
// neighbouring addresses.
// The importer declares p, q, kv, k_rope, document_start and state, and PRODUCTS: 1 for scores alone, 2 for
// d_out value^T as well (then also d_out). The other constants come from kernels::attention::tile_constants.
#import shared/index
#import shared/random
#import shared/state
#define WIDTH NOPE + ROPE
#define KEY_WIDTH NOPE + VALUE
#define QUERY_LANES QUERIES / 4
#define KEY_LANES KEYS / 4
#define THREADS QUERY_LANES * KEY_LANES
#define QUERY_STRIDE QUERY_LANES + 1
#define KEY_STRIDE KEY_LANES + 1
#define UNITS (CHUNK * QUERY_LANES + THREADS - 1) / THREADS

const LOWEST = -1e30; // stands for minus infinity, whose difference with itself would be NaN

// One head of one sequence.
struct Head {
    number: u32, // batch index * heads + head
    head: u32,
    first: u32,  // first token of the sequence
}

fn head_of(number: u32) -> Head {
    let sequence = number / p.heads;
    return Head(number, number - sequence * p.heads, sequence * p.length);
}

// Token of a row; rows past the end repeat the last one, and `visible` hides what comes of them.
fn token(at: Head, row: u32) -> u32 {
    return at.first + min(row, p.length - 1u);
}

fn query_place(at: Head, row: u32) -> u32 {
    return (token(at, row) * p.heads + at.head) * #{WIDTH}u;
}

fn kv_place(at: Head, row: u32) -> u32 {
    return (token(at, row) * p.heads + at.head) * #{KEY_WIDTH}u;
}

fn out_place(at: Head, row: u32) -> u32 {
    return (token(at, row) * p.heads + at.head) * #{VALUE}u;
}

// Fours of rows of the factors of the products below. Columns past the end are zeros on the side of the queries and
// anything on the side of the keys.
fn queries_0(at: Head, row: u32, column: u32) -> vec4<f32> {
    let c = min(column, #{WIDTH - 1}u);
    let found = vec4(
        f32(q[query_place(at, row) + c]), f32(q[query_place(at, row + #{QUERY_LANES}u) + c]),
        f32(q[query_place(at, row + #{2 * QUERY_LANES}u) + c]), f32(q[query_place(at, row + #{3 * QUERY_LANES}u) + c]),
    );
    return select(vec4(0.0), found, column < #{WIDTH}u);
}

// The head's own columns, then those that all heads share.
fn keys_0(at: Head, row: u32, column: u32) -> vec4<f32> {
    if (column < #{NOPE}u) {
        return vec4(
            f32(kv[kv_place(at, row) + column]), f32(kv[kv_place(at, row + #{KEY_LANES}u) + column]),
            f32(kv[kv_place(at, row + #{2 * KEY_LANES}u) + column]),
            f32(kv[kv_place(at, row + #{3 * KEY_LANES}u) + column]),
        );
    }
    let c = min(column, #{WIDTH - 1}u) - #{NOPE}u;
    return vec4(
        f32(k_rope[token(at, row) * #{ROPE}u + c]), f32(k_rope[token(at, row + #{KEY_LANES}u) * #{ROPE}u + c]),
        f32(k_rope[token(at, row + #{2 * KEY_LANES}u) * #{ROPE}u + c]),
        f32(k_rope[token(at, row + #{3 * KEY_LANES}u) * #{ROPE}u + c]),
    );
}
#if PRODUCTS == 2

fn queries_1(at: Head, row: u32, column: u32) -> vec4<f32> {
    let c = min(column, #{VALUE - 1}u);
    let found = vec4(
        f32(d_out[out_place(at, row) + c]), f32(d_out[out_place(at, row + #{QUERY_LANES}u) + c]),
        f32(d_out[out_place(at, row + #{2 * QUERY_LANES}u) + c]),
        f32(d_out[out_place(at, row + #{3 * QUERY_LANES}u) + c]),
    );
    return select(vec4(0.0), found, column < #{VALUE}u);
}

fn keys_1(at: Head, row: u32, column: u32) -> vec4<f32> {
    let c = #{NOPE}u + min(column, #{VALUE - 1}u);
    return vec4(
        f32(kv[kv_place(at, row) + c]), f32(kv[kv_place(at, row + #{KEY_LANES}u) + c]),
        f32(kv[kv_place(at, row + #{2 * KEY_LANES}u) + c]), f32(kv[kv_place(at, row + #{3 * KEY_LANES}u) + c]),
    );
}
#end

// Chunks of both factors of a product, columns first; later a panel of rows for the product with `tile`.
var<workgroup> stage: array<vec4<f32>, #{STAGE}>;

// product_0: the tile of unscaled scores q k^T from `query` and `key` on; product_1: that of d_out value^T.
// All invocations must call. On return others may still read `stage`. A chunk is fetched while its predecessor is used.
#for product in 0..PRODUCTS
fn product_#{product}(at: Head, query: u32, key: u32, lane: u32) -> mat4x4<f32> {
    let query_lane = lane / #{KEY_LANES}u;
    let key_lane = lane % #{KEY_LANES}u;
    let width = #{(1 - product) * WIDTH + product * VALUE}u;
#for r in 0..4
    var s#{r} = vec4<f32>();
#end
    for (var first = 0u; first < width + #{CHUNK}u; first += #{CHUNK}u) {
#for u in 0..UNITS
        let column#{u} = (lane + #{u * THREADS}u) % #{CHUNK}u;
        let row#{u} = (lane + #{u * THREADS}u) / #{CHUNK}u;
        let left#{u} = queries_#{product}(at, query + row#{u}, first + column#{u});
        let right#{u} = keys_#{product}(at, key + row#{u}, first + column#{u});
#end
        if (first > 0u) {
            for (var k = 0u; k < #{CHUNK}u; k += #{UNROLL}u) {
#for k in 0..UNROLL
                let left_#{k} = stage[(k + #{k}u) * #{QUERY_STRIDE}u + query_lane];
                let right_#{k} = stage[#{CHUNK * QUERY_STRIDE}u + (k + #{k}u) * #{KEY_STRIDE}u + key_lane];
#for r in 0..4
                s#{r} = fma(vec4(left_#{k}[#{r}]), right_#{k}, s#{r});
#end
#end
            }
        }
        if (first < width) {
            workgroupBarrier();
#for u in 0..UNITS
            if (row#{u} < #{QUERY_LANES}u) {
                stage[column#{u} * #{QUERY_STRIDE}u + row#{u}] = left#{u};
            }
            if (row#{u} < #{KEY_LANES}u) {
                stage[#{CHUNK * QUERY_STRIDE}u + column#{u} * #{KEY_STRIDE}u + row#{u}] = right#{u};
            }
#end
            workgroupBarrier();
        }
    }
    return mat4x4(s0, s1, s2, s3);
}

#end
// Which of four keys a query sees: those from its document's first to itself. Queries past the end see none.
fn visible(at: Head, query: u32, keys: vec4<u32>) -> vec4<bool> {
    if (query >= p.length) {
        return vec4(false);
    }
    return (keys >= vec4(document_start[at.first + query])) & (keys <= vec4(query));
}

#if PRODUCTS == 2
// Probabilities of four keys from unscaled scores and the query's lse; 0 where the query does not see the key.
fn probabilities(at: Head, query: u32, keys: vec4<u32>, scores: vec4<f32>, lse: f32) -> vec4<f32> {
    return select(vec4(0.0), exp(scores * p.scale - lse), visible(at, query, keys));
}

#end
// What dropout multiplies the probabilities of four keys by: 0 or 1 / (1 - rate).
fn dropout_factors(at: Head, query: u32, keys: vec4<u32>) -> vec4<f32> {
#if DROPOUT
    let key = random_row(random_key(state[STATE_KEY0], state[STATE_KEY1], p.site), at.number * p.length + query);
    let drawn = vec4(random_at(key, keys.x), random_at(key, keys.y), random_at(key, keys.z), random_at(key, keys.w));
    return select(vec4(0.0), vec4(1.0 / (1.0 - p.dropout)), drawn >= vec4(keep_threshold(p.dropout)));
#else
    return vec4(1.0);
#end
}
