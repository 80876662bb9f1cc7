// What the attention shaders share: tiles of products, visibility and dropout factors.
// A workgroup owns one head of one sequence and walks over tiles of QUERIES x KEYS scores. In a tile an invocation holds
// the queries query_lane + r QUERY_LANES, r = 0..4 (the vectors of a mat4x4), and of each the keys key_lane +
// j KEY_LANES, j = 0..4 (their components). Such strided fours make neighbouring invocations read neighbouring addresses.
// The importer declares p, q, kv, k_rope, document_start and state, the constants of kernels::attention::constants, and
// PRODUCTS: 1 for scores alone, 2 for d_out value^T as well (then also d_out).
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

// Elements by position in the sequence and column of the head; 0 past either end. Keys have the head's own columns,
// then those that all heads share.
fn query_at(at: Head, row: u32, column: u32) -> f32 {
    if (row >= p.length || column >= #{WIDTH}u) {
        return 0.0;
    }
    return q[((at.first + row) * p.heads + at.head) * #{WIDTH}u + column];
}

fn key_at(at: Head, row: u32, column: u32) -> f32 {
    if (row >= p.length || column >= #{WIDTH}u) {
        return 0.0;
    }
    if (column < #{NOPE}u) {
        return kv[((at.first + row) * p.heads + at.head) * #{KEY_WIDTH}u + column];
    }
    return k_rope[(at.first + row) * #{ROPE}u + column - #{NOPE}u];
}

fn value_at(at: Head, row: u32, column: u32) -> f32 {
    if (row >= p.length || column >= #{VALUE}u) {
        return 0.0;
    }
    return kv[((at.first + row) * p.heads + at.head) * #{KEY_WIDTH}u + #{NOPE}u + column];
}
#if PRODUCTS == 2

fn d_out_at(at: Head, row: u32, column: u32) -> f32 {
    if (row >= p.length || column >= #{VALUE}u) {
        return 0.0;
    }
    return d_out[((at.first + row) * p.heads + at.head) * #{VALUE}u + column];
}
#end

// Chunks of both factors of a product of rows, columns first; later a panel of rows for the product with `tile`.
var<workgroup> stage: array<vec4<f32>, #{STAGE}>;

// product_0: the tile of unscaled scores q k^T from `query` and `key` on; product_1: that of d_out value^T.
// All invocations must call. On return others may still read `stage`. The next chunk is fetched while one is used.
#for product in 0..PRODUCTS
fn queries_#{product}(at: Head, row: u32, column: u32) -> vec4<f32> {
#if product == 0
    return vec4(
        query_at(at, row, column), query_at(at, row + #{QUERY_LANES}u, column),
        query_at(at, row + #{2 * QUERY_LANES}u, column), query_at(at, row + #{3 * QUERY_LANES}u, column),
    );
#else
    return vec4(
        d_out_at(at, row, column), d_out_at(at, row + #{QUERY_LANES}u, column),
        d_out_at(at, row + #{2 * QUERY_LANES}u, column), d_out_at(at, row + #{3 * QUERY_LANES}u, column),
    );
#end
}

fn keys_#{product}(at: Head, row: u32, column: u32) -> vec4<f32> {
#if product == 0
    return vec4(
        key_at(at, row, column), key_at(at, row + #{KEY_LANES}u, column),
        key_at(at, row + #{2 * KEY_LANES}u, column), key_at(at, row + #{3 * KEY_LANES}u, column),
    );
#else
    return vec4(
        value_at(at, row, column), value_at(at, row + #{KEY_LANES}u, column),
        value_at(at, row + #{2 * KEY_LANES}u, column), value_at(at, row + #{3 * KEY_LANES}u, column),
    );
#end
}

fn product_#{product}(at: Head, query: u32, key: u32, lane: u32) -> mat4x4<f32> {
    let query_lane = lane / #{KEY_LANES}u;
    let key_lane = lane % #{KEY_LANES}u;
#for r in 0..4
    var s#{r} = vec4<f32>();
#end
#for u in 0..(CHUNK * QUERY_LANES + THREADS - 1) / THREADS
    let left_unit#{u} = lane + #{u * THREADS}u;
    var left#{u} = queries_#{product}(at, query + left_unit#{u} / #{CHUNK}u, left_unit#{u} % #{CHUNK}u);
#end
#for u in 0..(CHUNK * KEY_LANES + THREADS - 1) / THREADS
    let right_unit#{u} = lane + #{u * THREADS}u;
    var right#{u} = keys_#{product}(at, key + right_unit#{u} / #{CHUNK}u, right_unit#{u} % #{CHUNK}u);
#end
    for (var first = 0u; first < #{(1 - product) * WIDTH + product * VALUE}u; first += #{CHUNK}u) {
        workgroupBarrier();
#for u in 0..(CHUNK * QUERY_LANES + THREADS - 1) / THREADS
        if (left_unit#{u} < #{CHUNK * QUERY_LANES}u) {
            stage[left_unit#{u} % #{CHUNK}u * #{QUERY_STRIDE}u + left_unit#{u} / #{CHUNK}u] = left#{u};
        }
#end
#for u in 0..(CHUNK * KEY_LANES + THREADS - 1) / THREADS
        if (right_unit#{u} < #{CHUNK * KEY_LANES}u) {
            let place = right_unit#{u} % #{CHUNK}u * #{KEY_STRIDE}u + right_unit#{u} / #{CHUNK}u;
            stage[#{CHUNK * QUERY_STRIDE}u + place] = right#{u};
        }
#end
        workgroupBarrier();
        let next = first + #{CHUNK}u;
#for u in 0..(CHUNK * QUERY_LANES + THREADS - 1) / THREADS
        left#{u} = queries_#{product}(at, query + left_unit#{u} / #{CHUNK}u, next + left_unit#{u} % #{CHUNK}u);
#end
#for u in 0..(CHUNK * KEY_LANES + THREADS - 1) / THREADS
        right#{u} = keys_#{product}(at, key + right_unit#{u} / #{CHUNK}u, next + right_unit#{u} % #{CHUNK}u);
#end
#for k in 0..CHUNK
        let left_#{k} = stage[#{k * QUERY_STRIDE}u + query_lane];
        let right_#{k} = stage[#{CHUNK * QUERY_STRIDE + k * KEY_STRIDE}u + key_lane];
#for r in 0..4
        s#{r} = fma(vec4(left_#{k}[#{r}]), right_#{k}, s#{r});
#end
#end
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

// What dropout multiplies the probabilities of four keys by: 0 or 1 / (1 - rate).
fn dropout_factors(at: Head, query: u32, keys: vec4<u32>) -> vec4<f32> {
#if DROPOUT
    let key = random_key(state[STATE_KEY0], state[STATE_KEY1], p.site);
    let elements = (at.number * p.length + query) * p.length + keys;
    let drawn = vec4(
        random_at(key, elements.x), random_at(key, elements.y), random_at(key, elements.z), random_at(key, elements.w),
    );
    return select(vec4(0.0), vec4(1.0 / (1.0 - p.dropout)), drawn >= vec4(keep_threshold(p.dropout)));
#else
    return vec4(1.0);
#end
}
