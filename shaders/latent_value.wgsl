// With (m, l) the statistics of each part and M the largest m: o = sum of exp(m - M) sums / sum of exp(m - M) l over
// the parts; out[n, h] = W_UV[h] o, where W_UV[h] are rows h (nope + value) + nope to + value of the weight. Zeros for
// a row without keys. One workgroup a block of #{ROWS} rows, a head and 32 outputs, eight invocations an output;
// overwrites out. Reference: src/reference/latent_value.rs.
#define LANES 1
#define ROWS 1
#define LATENT 512
#define SPLITS 1
#define THREADS 256
#define UNROLL 8
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
    epsilon: f32,
}
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> sums: array<Elements>;                             // (rows, heads, splits, ..)
@group(0) @binding(1) var<storage, read> statistics: array<vec2<f32>>;                      // (rows, heads, splits)
@group(0) @binding(2) var<storage, read> weight: array<#{HALF_WEIGHT ? Halves : Elements}>; // (heads .., latent)
@group(0) @binding(3) var<storage, read_write> out: array<#{HALF_OUT ? f16 : f32}>;         // (rows, heads value)

const COLUMNS = #{LATENT / LANES}u;

var<workgroup> shares: array<array<f32, #{SPLITS}>, #{ROWS}>;   // exp(m - M) / sum of exp(m - M) l
var<workgroup> attended: array<array<Elements, COLUMNS>, #{ROWS}>;
var<workgroup> eighths: array<array<f32, #{ROWS}>, #{THREADS}>; // of the outputs

@compute @workgroup_size(#{THREADS})
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let tiles = (p.value + 31u) / 32u;
    let index = group_index(group, groups);
    let start = index % tiles * 32u;
    let head = index / tiles % p.heads;
    let first = index / (tiles * p.heads) * #{ROWS}u;
    if (first >= p.rows) {
        return;
    }
    if (lane < #{ROWS * SPLITS}u) {
        let row = min(first + lane / #{SPLITS}u, p.rows - 1u); // beyond the last: nobody writes what comes of it
        let parts = (row * p.heads + head) * #{SPLITS}u;
#for s in 0..SPLITS
        let part#{s} = statistics[parts + #{s}u];
#end
        var largest = -1e30;
#for s in 0..SPLITS
        largest = max(largest, part#{s}.x);
#end
        var total = 0.0;
#for s in 0..SPLITS
        total += exp(part#{s}.x - largest) * part#{s}.y;
#end
        let own = exp(statistics[parts + lane % #{SPLITS}u].x - largest);
        shares[lane / #{SPLITS}u][lane % #{SPLITS}u] = select(0.0, own / total, total > 0.0);
    }
    workgroupBarrier();
    for (var i = lane; i < #{ROWS}u * COLUMNS; i += #{THREADS}u) {
        let r = i / COLUMNS;
        let parts = (min(first + r, p.rows - 1u) * p.heads + head) * #{SPLITS}u * COLUMNS + i % COLUMNS;
#for s in 0..SPLITS
        let sum#{s} = sums[parts + #{s}u * COLUMNS];
#end
        var o: Elements;
#for s in 0..SPLITS
        o += shares[r][#{s}] * sum#{s};
#end
        attended[r][i % COLUMNS] = o;
    }
    workgroupBarrier();
    let output = start + lane / 8u;
    let up = (head * (p.nope + p.value) + p.nope + min(output, p.value - 1u)) * COLUMNS;
    var own: array<Elements, #{ROWS}>;
    for (var step = lane % 8u; step < COLUMNS; step += #{8 * UNROLL}u) {
#for u in 0..UNROLL
        let i#{u} = min(step + #{8 * u}u, COLUMNS - 1u);
        let w#{u} = Elements(weight[up + i#{u}]) * select(0.0, 1.0, step + #{8 * u}u < COLUMNS);
#end
#for u in 0..UNROLL
#for r in 0..ROWS
        own[#{r}] = fma(w#{u}, attended[#{r}][i#{u}], own[#{r}]);
#end
#end
    }
#for r in 0..ROWS
#if LANES == 4
    eighths[lane][#{r}] = dot(own[#{r}], vec4(1.0));
#else
    eighths[lane][#{r}] = own[#{r}];
#end
#end
    workgroupBarrier();
    let r = lane / 32u;
    let done = start + lane % 32u;
    if (r < #{ROWS}u && first + r < p.rows && done < p.value) {
        var sum = 0.0;
        for (var e = 0u; e < 8u; e++) {
            sum += eighths[lane % 32u * 8u + e][r];
        }
        out[((first + r) * p.heads + head) * p.value + done] = #{HALF_OUT ? f16 : f32}(sum);
    }
}
