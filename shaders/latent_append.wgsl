// cache[slots[n], positions[n]] = c[n], k_rope[n] for each row n with a slot; other lines stay.
// One invocation a scalar or a vector of four. Reference: src/reference/latent_append.rs.
#import shared/elements

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
}
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> c: array<#{HALF_C ? Halves : Elements}>;               // (rows, latent)
@group(0) @binding(1) var<storage, read> k_rope: array<#{HALF_K_ROPE ? Halves : Elements}>;     // (rows, rope)
@group(0) @binding(2) var<storage, read> slots: array<u32>;                                     // (rows)
@group(0) @binding(3) var<storage, read> positions: array<u32>;                                 // (rows)
@group(0) @binding(4) var<storage, read_write> cache: array<#{HALF_CACHE ? Halves : Elements}>; // (slots, capacity, ..)

@compute @workgroup_size(#{THREADS})
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let latent = p.latent / #{LANES}u;
    let rope = p.rope / #{LANES}u;
    let i = elements_index(group, groups, lane);
    let row = i / (latent + rope);
    if (row >= p.rows || slots[row] == 0xffffffffu) {
        return;
    }
    let column = i - row * (latent + rope);
    let line = slots[row] * p.capacity + positions[row];
    var x: Elements;
    if (column < latent) {
        x = Elements(c[row * latent + column]);
    } else {
        x = Elements(k_rope[row * rope + column - latent]);
    }
    cache[line * (latent + rope) + column] = #{HALF_CACHE ? Halves : Elements}(x);
}
