// What the cooperative attention shaders share. The importer declares p and state.
// A subgroup of 32 owns tiles of 16 rows. Parts of the tensors lie in workgroup memory as they lie in storage, a line
// padded by 16 bytes, which keeps the lines of a tile in different banks.
#import shared/random
#import shared/state
#define WIDTH NOPE + ROPE
// Eights in a row of a head.
#define WIDTH8 (NOPE + ROPE) / 8
#define KV8 (NOPE + VALUE) / 8
#define NOPE8 NOPE / 8
#define ROPE8 ROPE / 8
#define VALUE8 VALUE / 8
// Distances of lines in workgroup memory, in eights.
#define WIDTH_LINE WIDTH8 + 1
#define VALUE_LINE VALUE8 + 1

// What a lane copies at a time: 16 bytes.
struct Eight {
    a: vec4<f16>,
    b: vec4<f16>,
}

const LOWEST = -1e30; // stands for minus infinity, whose difference with itself would be NaN

// What dropout multiplies four probabilities by: 0 or 1 / (1 - rate). A row of the mask is a query of a head.
fn dropout_factors(rows: vec4<u32>, keys: vec4<u32>) -> vec4<f32> {
#if DROPOUT
    let key = random_key(state[STATE_KEY0], state[STATE_KEY1], p.site);
    let drawn = vec4(
        random_at(random_row(key, rows.x), keys.x), random_at(random_row(key, rows.y), keys.y),
        random_at(random_row(key, rows.z), keys.z), random_at(random_row(key, rows.w), keys.w),
    );
    return select(vec4(0.0), vec4(1.0 / (1.0 - p.dropout)), drawn >= vec4(keep_threshold(p.dropout)));
#else
    return vec4(1.0);
#end
}

// A row of a tile; rows past the end of the sequence repeat its last one.
fn row_within(row: u32) -> u32 {
    return min(row, p.length - 1u);
}
