// AdamW with moments of 8 bits. A moment is values[code] * absmax, one code an element and one absmax a block of
// `block` elements in a row; with g = gradient * clip:
// m = beta1 m + (1 - beta1) g, v = beta2 v + (1 - beta2) g^2 in f32,
// parameter -= rate weight_decay parameter + (rate / c1) m / (sqrt(v) / sqrt(c2) + epsilon);
// then absmax = max |x| of the block and code = the entry nearest to x / absmax, the lower of two. A moment that is not
// zero keeps its sign: its code is never that of zero, nor beyond it. A gradient that is not finite makes no update.
// With p.zeroed = 1 the gradient becomes zeros in the end; else it is not written. With p.copied = 1 the parameter also
// goes to `copy`, as f16.
// Codes and absmax have the bits of the reference, for which every product and sum behind them must be rounded by
// itself, to nearest. So `exact` stands after each: it flips the bits that are set in `p.zero`. None is, but no
// compiler can know that, and thus none can fuse a product into the sum that follows. It also makes zero of all that is
// below 2^-125, since devices differ in whether they keep numbers below 2^-126.
// LANES invocations a block, each ITEMS vectors of four elements. Reference: src/reference/adamw8bit.rs.
#import shared/index
#import shared/state
#define THREADS 256
#define LANES 64
#define ITEMS 1
#define VEC4 1

struct Params {
    count: u32,
    block: u32,
    beta1: f32,
    beta2: f32,
    epsilon: f32,
    weight_decay: f32,
    copied: u32,
    zeroed: u32,
    zero: u32,
}
var<immediate> p: Params;
alias Elements = #{VEC4 ? vec4<f32> : f32};
#if HALVES
alias Halves = #{VEC4 ? vec4<f16> : f16}; // the same, as a copy stores it
#end
@group(0) @binding(0) var<storage, read> state: array<u32>;                // (8)
@group(0) @binding(1) var<storage, read> result: array<f32>;               // (8)
@group(0) @binding(2) var<storage, read> maps: array<f32>;                 // (2, 256): of m and of v
@group(0) @binding(3) var<storage, read_write> parameter: array<Elements>; // (count)
@group(0) @binding(4) var<storage, read_write> gradient: array<Elements>;  // (count)
@group(0) @binding(5) var<storage, read_write> codes: array<vec2<u32>>;    // (ceil(count / 4), 2): of m and of v
@group(0) @binding(6) var<storage, read_write> absmax: array<vec2<f32>>;   // (ceil(count / block), 2)
// (count), if copied
@group(0) @binding(7) var<storage, read_write> copy: array<#{HALF_COPY ? Halves : Elements}>;

const FIRST_V = 256u; // of the second map
const ZERO_M = 127u; // code of zero in the first
var<workgroup> values: array<f32, 512>; // the maps
var<workgroup> bounds: array<f32, 512>; // halfway from an entry to the next of its map
var<workgroup> largest: array<vec2<f32>, #{THREADS}>;

fn exact(x: vec4<f32>) -> vec4<f32> {
    let bits = bitcast<vec4<u32>>(x) ^ vec4(p.zero);
    return bitcast<vec4<f32>>(select(bits, vec4<u32>(), (bits & vec4(0x7f000000u)) == vec4<u32>()));
}

#if VEC4
fn load_gradient(i: u32) -> vec4<f32> {
    return gradient[i];
}

fn clear_gradient(i: u32) {
    gradient[i] = vec4<f32>();
}

fn load_parameter(i: u32) -> vec4<f32> {
    return parameter[i];
}

fn store_parameter(i: u32, x: vec4<f32>) {
    parameter[i] = x;
    if (p.copied == 1u) {
        copy[i] = #{HALF_COPY ? Halves : Elements}(x);
    }
}
#else
// Four places from 4 i on; what lies past the end is read from the last element and not written.
fn places(i: u32) -> vec4<u32> {
    return min(vec4(0u, 1u, 2u, 3u) + 4u * i, vec4(p.count - 1u));
}

fn load_gradient(i: u32) -> vec4<f32> {
    let at = places(i);
    return vec4(gradient[at.x], gradient[at.y], gradient[at.z], gradient[at.w]);
}

fn clear_gradient(i: u32) {
#for e in 0..4
    gradient[min(4u * i + #{e}u, p.count - 1u)] = 0.0;
#end
}

fn load_parameter(i: u32) -> vec4<f32> {
    let at = places(i);
    return vec4(parameter[at.x], parameter[at.y], parameter[at.z], parameter[at.w]);
}

fn store_parameter(i: u32, x: vec4<f32>) {
#for e in 0..4
    if (4u * i + #{e}u < p.count) {
        parameter[4u * i + #{e}u] = x[#{e}];
        if (p.copied == 1u) {
            copy[4u * i + #{e}u] = #{HALF_COPY ? Halves : Elements}(x[#{e}]);
        }
    }
#end
}
#end

// The moments behind four codes of the map that begins at `first`.
fn decode(word: u32, first: u32, scale: f32) -> vec4<f32> {
    let at = ((vec4(word) >> vec4(0u, 8u, 16u, 24u)) & vec4(255u)) + first;
    return exact(vec4(values[at.x], values[at.y], values[at.z], values[at.w]) * scale);
}

// Codes of the entries nearest to x / scale: the number of bounds that lie below. A division could round otherwise.
fn nearest(x: vec4<f32>, first: u32, scale: f32) -> vec4<u32> {
    var at = vec4(first);
    for (var step = 128u; step > 0u; step /= 2u) {
        let next = at + step;
        let bound = vec4(bounds[next.x - 1u], bounds[next.y - 1u], bounds[next.z - 1u], bounds[next.w - 1u]);
        at = select(at, next, bound * scale < x);
    }
    return at - first;
}

fn encode_m(x: vec4<f32>, scale: f32) -> u32 {
    let code = nearest(x, 0u, scale);
    let below = min(code, vec4(ZERO_M - 1u));
    let above = max(code, vec4(ZERO_M + 1u));
    let signed = select(select(vec4(ZERO_M), above, x > vec4<f32>()), below, x < vec4<f32>());
    return dot(signed, vec4(1u, 1u << 8u, 1u << 16u, 1u << 24u));
}

fn encode_v(x: vec4<f32>, scale: f32) -> u32 {
    let code = select(vec4<u32>(), max(nearest(x, FIRST_V, scale), vec4(1u)), x > vec4<f32>());
    return dot(code, vec4(1u, 1u << 8u, 1u << 16u, 1u << 24u));
}

// Updates four parameters and gives their moments; `old` are the factors of the block's codes.
fn update(i: u32, old: vec2<f32>, m: ptr<function, vec4<f32>>, v: ptr<function, vec4<f32>>) {
    let fade1 = exact(vec4(1.0 - p.beta1));
    let fade2 = exact(vec4(1.0 - p.beta2));
    let word = codes[i];
    let g = exact(load_gradient(i) * result[RESULT_CLIP]);
    let mean = exact(exact(p.beta1 * decode(word.x, 0u, old.x)) + exact(fade1 * g));
    let square = exact(exact(p.beta2 * decode(word.y, FIRST_V, old.y)) + exact(exact(fade2 * g) * g));
    let rate = bitcast<f32>(state[STATE_LEARNING_RATE]);
    let step = rate / result[RESULT_CORRECTION1];
    let scale = 1.0 / sqrt(result[RESULT_CORRECTION2]);
    let x = load_parameter(i);
    store_parameter(i, x - (rate * p.weight_decay * x + step * mean / (sqrt(square) * scale + vec4(p.epsilon))));
    if (p.zeroed == 1u) {
        clear_gradient(i);
    }
    let real = vec4(0u, 1u, 2u, 3u) + 4u * i < vec4(p.count);
    *m = select(vec4<f32>(), mean, real);
    *v = select(vec4<f32>(), square, real);
}

@compute @workgroup_size(#{THREADS})
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let words = (p.count + 3u) / 4u;
    let blocks = (p.count + p.block - 1u) / p.block;
    let vectors = p.block / 4u; // of a block
    let first_block = group_index(group, groups) * #{THREADS / LANES}u;
    let block = first_block + lane / #{LANES}u;
    if (first_block >= blocks) {
        return;
    }
#for j in 0..ITEMS
    let within#{j} = lane % #{LANES}u + #{j * LANES}u;
    let i#{j} = block * vectors + within#{j};
    let mine#{j} = within#{j} < vectors && i#{j} < words;
#end
    if (result[RESULT_FINITE] != 1.0) {
#for j in 0..ITEMS
        if (mine#{j} && p.zeroed == 1u) {
            clear_gradient(i#{j});
        }
#end
        return;
    }
#for j in 0..2
    values[lane + #{j * 256}u] = maps[lane + #{j * 256}u];
    bounds[lane + #{j * 256}u] = 0.5 * (maps[lane + #{j * 256}u] + maps[min(lane + 1u, 255u) + #{j * 256}u]);
#end
    workgroupBarrier();
    var most = vec2<f32>();
#for j in 0..ITEMS
    var m#{j} = vec4<f32>();
    var v#{j} = vec4<f32>();
    if (mine#{j}) {
        update(i#{j}, absmax[block], &m#{j}, &v#{j});
        let a = max(abs(m#{j}.xy), abs(m#{j}.zw));
        let b = max(v#{j}.xy, v#{j}.zw);
        most = max(most, max(vec2(a.x, b.x), vec2(a.y, b.y)));
    }
#end
    largest[lane] = most;
    workgroupBarrier();
    for (var half = #{LANES / 2}u; half > 0u; half /= 2u) {
        if (lane % #{LANES}u < half) {
            largest[lane] = max(largest[lane], largest[lane + half]);
        }
        workgroupBarrier();
    }
    let scale = largest[lane / #{LANES}u * #{LANES}u];
#for j in 0..ITEMS
    if (mine#{j}) {
        codes[i#{j}] = vec2(encode_m(m#{j}, scale.x), encode_v(v#{j}, scale.y));
    }
#end
    if (mine0 && lane % #{LANES}u == 0u) {
        absmax[block] = scale;
    }
}
