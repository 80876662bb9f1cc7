// For each row with a slot, with down[n] = c, k: cache[slots[n], positions[n]] = norm c / sqrt(mean(c^2) + epsilon),
// and k with its pairs turned by the row's position; other lines stay. One workgroup a row.
// Reference: src/reference/latent_append.rs.
#define THREADS 256
#import shared/index
#import shared/reduce

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
@group(0) @binding(0) var<storage, read> down: array<#{HALF_DOWN ? f16 : f32}>;         // (rows, latent + rope)
@group(0) @binding(1) var<storage, read> norm: array<f32>;                              // (latent)
@group(0) @binding(2) var<storage, read> table: array<vec2<f32>>;                       // (capacity, rope / 2)
@group(0) @binding(3) var<storage, read> slots: array<u32>;                             // (rows)
@group(0) @binding(4) var<storage, read> positions: array<u32>;                         // (rows)
@group(0) @binding(5) var<storage, read_write> cache: array<#{HALF_CACHE ? f16 : f32}>; // (slots, capacity, ..)

@compute @workgroup_size(#{THREADS})
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group_index(group, groups);
    if (row >= p.rows || slots[row] == 0xffffffffu) {
        return;
    }
    let width = p.latent + p.rope;
    let line = (slots[row] * p.capacity + positions[row]) * width;
    var square = 0.0;
    for (var i = lane; i < p.latent; i += #{THREADS}u) {
        let x = f32(down[row * width + i]);
        square = fma(x, x, square);
    }
    let inverse = 1.0 / sqrt(reduce_sum(lane, square) / f32(p.latent) + p.epsilon);
    for (var i = lane; i < p.latent; i += #{THREADS}u) {
        cache[line + i] = #{HALF_CACHE ? f16 : f32}(norm[i] * f32(down[row * width + i]) * inverse);
    }
    for (var i = lane; i < p.rope / 2u; i += #{THREADS}u) {
        let at = p.latent + 2u * i;
        let k = vec2(f32(down[row * width + at]), f32(down[row * width + at + 1u]));
        let turn = table[positions[row] * (p.rope / 2u) + i];
        cache[line + at] = #{HALF_CACHE ? f16 : f32}(k.x * turn.x - k.y * turn.y);
        cache[line + at + 1u] = #{HALF_CACHE ? f16 : f32}(k.y * turn.x + k.x * turn.y);
    }
}
