// latent_attention.wgsl on cooperative matrices: 16x16x16 products of f16 with f32 sums. One workgroup a row, sixteen
// heads and a part, so that the heads share every line of the cache, which passes through workgroup memory a tile of 32
// keys at a time, as do scores, and weights as f16. Needs heads and latent in sixteens, lines in thirty-twos.
// A team is a subgroup of 32; subgroup operations stay out, as in shared/coop.wgsl.
// Reference: src/reference/latent_attention.rs.
enable wgpu_cooperative_matrix;
#define WIDTH 64
#define LATENT 48
#define THREADS 256
#define KEYS 32
// Subgroups that share the columns of a score; two times as many sum scores.
#define DEEP 4
#define STEPS WIDTH / 16 / DEEP
// Eights in a line of the cache, and distances of lines in workgroup memory: padded by 16 bytes, to spread the banks.
#define LINE WIDTH / 8
#define PART_LINE LINE + 1
#define SCORES_LINE KEYS / 4 + 1
#define WEIGHTS_LINE KEYS / 8 + 1
#define ITEMS (KEYS * LINE + THREADS - 1) / THREADS
// Sixteens of latent columns that a team sums.
#define OWN (LATENT / 16 + 7) / 8
// Vectors of scores, or of the sums of eight teams that are rescaled.
#define SCORES 16 * DEEP * SCORES_LINE
#define SCRATCH (SCORES > 512) * SCORES + (SCORES <= 512) * 512

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
// What a lane copies at a time: 16 bytes.
struct Eight {
    a: vec4<f16>,
    b: vec4<f16>,
}
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> q: array<Eight>;              // (rows, heads, width)
@group(0) @binding(1) var<storage, read> cache: array<Eight>;          // (slots, capacity, width)
@group(0) @binding(2) var<storage, read> slots: array<u32>;            // (rows)
@group(0) @binding(3) var<storage, read> positions: array<u32>;        // (rows)
@group(0) @binding(4) var<storage, read_write> sums: array<f32>;       // (rows, heads, splits, latent)
@group(0) @binding(5) var<storage, read_write> statistics: array<f32>; // (rows, heads, splits, 2)

const LOWEST = -1e30;

// Sizes are multiples of 16 bytes, `risen` too: the driver orders these as it likes, and reads a matrix wrong that does
// not begin at such a multiple (NVIDIA 580).
var<workgroup> part: array<Eight, #{KEYS * PART_LINE}>;
var<workgroup> scores: array<vec4<f32>, #{SCRATCH}>; // of a share of the columns each; later sums to be rescaled
var<workgroup> weights: array<Eight, #{16 * WEIGHTS_LINE}>; // exp(score - m)
var<workgroup> eighths: array<f32, 128>;                    // of a head's maximum or sum
var<workgroup> shrinks: array<f32, 16>;                     // exp(m before - m)
var<workgroup> risen: array<u32, 4>;                                 // whether sums must be rescaled

// An item of the tile that begins with key `first`; beyond the last key the last line again.
fn fetch(first_line: u32, first: u32, keys: u32, item: u32) -> Eight {
    return cache[(first_line + min(first + item / #{LINE}u, keys - 1u)) * #{LINE}u + item % #{LINE}u];
}

fn put(item: u32, eight: Eight) {
    if (item < #{KEYS * LINE}u) {
        part[item / #{LINE}u * #{PART_LINE}u + item % #{LINE}u] = eight;
    }
}

@compute @workgroup_size(#{THREADS})
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let number = group.y * groups.x + group.x; // in place, as in matmul.coop16.wgsl
    let blocks = p.heads / 16u;
    let of_splits = number % p.splits;
    let first_head = number / p.splits % blocks * 16u;
    let row = number / (p.splits * blocks);
    if (row >= p.rows) {
        return;
    }
    let slot = slots[row];
    let keys = select(positions[row] + 1u, 0u, slot == 0xffffffffu);
    let first_line = select(slot, 0u, slot == 0xffffffffu) * p.capacity;
    let team = lane / 32u;
    let depth = team / 2u % #{DEEP}u;
    let q_at = (row * p.heads + first_head) * #{LINE}u + depth * 2u;
#for i in 0..STEPS
    let q#{i} = coopLoadT<coop_mat16x16<f16, A>>(&q[q_at + #{2 * DEEP * i}u].a, #{2 * LINE}u);
#end
    // In the softmax eight invocations share a head, four keys each; the upper half has nothing of its own.
    let head = lane % 128u / 8u;
    let eighth = lane % 8u;
    var highest = LOWEST;
    var total = 0.0;
#for f in 0..OWN
    var out#{f} = coop_mat16x16<f32, C>();
#end
    let last = max(keys, 1u);
#for i in 0..ITEMS
    var own#{i} = fetch(first_line, of_splits * #{KEYS}u, last, lane + #{i * THREADS}u);
#end
    for (var first = of_splits * #{KEYS}u; first < keys; first += p.splits * #{KEYS}u) {
        workgroupBarrier(); // the tile before may still be read
        if (lane == 0u) {
            risen[0] = 0u;
        }
#for i in 0..ITEMS
        put(lane + #{i * THREADS}u, own#{i});
#end
        workgroupBarrier();
        var score = coop_mat16x16<f32, C>();
#for i in 0..STEPS
        let key#{i} = coopLoad<coop_mat16x16<f16, B>>(
            &part[team % 2u * #{16 * PART_LINE}u + depth * 2u + #{2 * DEEP * i}u].a, #{2 * PART_LINE}u);
        score = coopMultiplyAdd(q#{i}, key#{i}, score);
#end
        let score_at = depth * #{16 * SCORES_LINE}u + team % 2u * 4u;
        coopStoreT(score, &scores[score_at], #{SCORES_LINE}u);
        // The next tile travels meanwhile.
#for i in 0..ITEMS
        own#{i} = fetch(first_line, first + p.splits * #{KEYS}u, last, lane + #{i * THREADS}u);
#end
        workgroupBarrier();
        var x = vec4<f32>();
#for d in 0..DEEP
        x += scores[head * #{SCORES_LINE}u + eighth + #{16 * d * SCORES_LINE}u];
#end
        let seen = first + eighth * 4u + vec4(0u, 1u, 2u, 3u) < vec4(keys);
        x = select(vec4(LOWEST), p.scale * x, seen);
        if (lane < 128u) {
            eighths[lane] = max(max(x.x, x.y), max(x.z, x.w));
        }
        workgroupBarrier();
        var higher = highest;
#for i in 0..8
        higher = max(higher, eighths[head * 8u + #{i}u]);
#end
        let shrink = exp(highest - higher);
        if (higher > highest && highest > LOWEST) {
            risen[0] = 1u; // by several lanes, all alike
        }
        highest = higher;
        let e = select(vec4(0.0), exp(x - higher), seen);
        total = total * shrink + dot(e, vec4(1.0));
        if (lane < 128u) {
            let at = head * #{WEIGHTS_LINE}u + eighth / 2u;
            if (eighth % 2u == 0u) {
                weights[at].a = vec4<f16>(e);
            } else {
                weights[at].b = vec4<f16>(e);
            }
            if (eighth == 0u) {
                shrinks[head] = shrink;
            }
        }
        workgroupBarrier();
        if (risen[0] != 0u) {
            let strip = team * 64u;
#for f in 0..OWN
            coopStoreT(out#{f}, &scores[strip], 4u);
            workgroupBarrier();
            scores[strip + lane % 32u] *= shrinks[lane % 32u / 4u];
            scores[strip + 32u + lane % 32u] *= shrinks[8u + lane % 32u / 4u];
            workgroupBarrier();
            out#{f} = coopLoadT<coop_mat16x16<f32, C>>(&scores[strip], 4u);
            workgroupBarrier();
#end
        }
#for g in 0..KEYS / 16
        let weight#{g} = coopLoadT<coop_mat16x16<f16, A>>(&weights[#{2 * g}u].a, #{2 * WEIGHTS_LINE}u);
#for f in 0..OWN
        let value#{g}_#{f} = coopLoadT<coop_mat16x16<f16, B>>(
            &part[#{16 * g * PART_LINE}u + min(team * 2u + #{16 * f}u, #{LATENT / 8 - 2}u)].a, #{2 * PART_LINE}u);
        out#{f} = coopMultiplyAdd(weight#{g}, value#{g}_#{f}, out#{f});
#end
#end
    }
    workgroupBarrier();
    if (lane < 128u) {
        eighths[lane] = total;
    }
    workgroupBarrier();
    let first_sum = (row * p.heads + first_head) * p.splits + of_splits;
    if (lane < 16u) {
        var whole = 0.0;
#for i in 0..8
        whole += eighths[lane * 8u + #{i}u];
#end
        statistics[2u * (first_sum + lane * p.splits) + 1u] = whole;
    }
    if (lane < 128u && eighth == 0u) {
        statistics[2u * (first_sum + head * p.splits)] = highest;
    }
    workgroupBarrier(); // all lanes together again, before they store
    let sums_line = p.splits * #{LATENT}u;
#for f in 0..OWN
    if (team * 16u + #{128 * f}u < #{LATENT}u) {
        let out_at#{f} = first_sum * #{LATENT}u + team * 16u + #{128 * f}u;
        coopStoreT(out#{f}, &sums[out_at#{f}], sums_line);
    }
#end
}
