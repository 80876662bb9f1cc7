// y = x * Z; Z = 0 with probability rate, else 1 / (1 - rate). The mask is a function of key, site and element, so the
// same dispatch on the gradient of y gives that of x.
// One invocation a scalar or vector; overwrites y. Reference: src/reference/dropout.rs.
#import shared/elements
#import shared/random
#import shared/state

struct Params {
    count: u32,
    rate: f32,
    site: u32,
}
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> x: array<#{HALF_X ? Halves : Elements}>;       // (count)
@group(0) @binding(1) var<storage, read> state: array<u32>;                             // (8)
@group(0) @binding(2) var<storage, read_write> y: array<#{HALF_Y ? Halves : Elements}>; // (count)

@compute @workgroup_size(#{THREADS})
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = elements_index(group, groups, lane);
    if (i >= p.count / #{LANES}u) {
        return;
    }
    let key = random_key(state[STATE_KEY0], state[STATE_KEY1], p.site);
#if LANES == 4
    let random = vec4(
        random_at(key, 4u * i),
        random_at(key, 4u * i + 1u),
        random_at(key, 4u * i + 2u),
        random_at(key, 4u * i + 3u),
    );
    let threshold = vec4(keep_threshold(p.rate));
#else
    let random = random_at(key, i);
    let threshold = keep_threshold(p.rate);
#end
    let kept = Elements(x[i]) * (1.0 / (1.0 - p.rate));
    y[i] = #{HALF_Y ? Halves : Elements}(select(Elements(0.0), kept, random >= threshold));
}
