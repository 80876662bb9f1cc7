// With (m, l) the statistics of each part and M the largest m: o = sum of exp(m - M) sums / sum of exp(m - M) l over
// the parts; out[n, h] = W_UV[h] o, where W_UV[h] are rows h (nope + value) + nope to + value of the weight. Zeros for
// a row without keys. One workgroup a block of #{ROWS} rows and a head, eight invocations an output; overwrites out.
// Reference: src/reference/latent_value.rs.
#define LANES 1
#define ROWS 1
#define LATENT 512
#define THREADS 256
#import shared/index
alias Lanes = #{LANES == 2 ? vec2<f32> : f32};
#if HALVES
alias HalfLanes = #{LANES == 2 ? vec2<f16> : f16};
#end

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
@group(0) @binding(0) var<storage, read> sums: array<Lanes>;                                // (rows, heads, splits, ..)
@group(0) @binding(1) var<storage, read> statistics: array<vec2<f32>>;                      // (rows, heads, splits)
@group(0) @binding(2) var<storage, read> weight: array<#{HALF_WEIGHT ? HalfLanes : Lanes}>; // (heads .., latent)
@group(0) @binding(3) var<storage, read_write> out: array<#{HALF_OUT ? f16 : f32}>;         // (rows, heads value)

const COLUMNS = #{LATENT / LANES}u;

var<workgroup> attended: array<array<Lanes, COLUMNS>, #{ROWS}>;
var<workgroup> eighths: array<array<f32, #{ROWS}>, #{THREADS}>; // of the outputs

// Fills a row of `attended`.
fn attend(r: u32, row: u32, head: u32, lane: u32) {
    let first = (min(row, p.rows - 1u) * p.heads + head) * p.splits; // beyond the last: nobody writes what comes of it
    var largest = -1e30;
    for (var s = 0u; s < p.splits; s++) {
        largest = max(largest, statistics[first + s].x);
    }
    var total = 0.0;
    for (var s = 0u; s < p.splits; s++) {
        total += exp(statistics[first + s].x - largest) * statistics[first + s].y;
    }
    let inverse = select(0.0, 1.0 / total, total > 0.0);
    for (var i = lane; i < COLUMNS; i += #{THREADS}u) {
        var sum: Lanes;
        for (var s = 0u; s < p.splits; s++) {
            sum += exp(statistics[first + s].x - largest) * sums[(first + s) * COLUMNS + i];
        }
        attended[r][i] = sum * inverse;
    }
}

@compute @workgroup_size(#{THREADS})
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = group_index(group, groups);
    let head = index % p.heads;
    let first = index / p.heads * #{ROWS}u;
    if (first >= p.rows) {
        return;
    }
#for r in 0..ROWS
    attend(#{r}u, first + #{r}u, head, lane);
#end
    workgroupBarrier();
    for (var start = 0u; start < p.value; start += #{THREADS / 8}u) {
        let output = start + lane / 8u;
        let up = (head * (p.nope + p.value) + p.nope + min(output, p.value - 1u)) * COLUMNS;
        var own: array<Lanes, #{ROWS}>;
        for (var i = lane % 8u; i < COLUMNS; i += 8u) {
            let w = Lanes(weight[up + i]);
#for r in 0..ROWS
            own[#{r}] = fma(w, attended[#{r}][i], own[#{r}]);
#end
        }
#for r in 0..ROWS
#if LANES == 2
        eighths[lane][#{r}] = own[#{r}].x + own[#{r}].y;
#else
        eighths[lane][#{r}] = own[#{r}];
#end
#end
        workgroupBarrier();
        let r = lane / #{THREADS / 8}u;
        let done = start + lane % #{THREADS / 8}u;
        if (r < #{ROWS}u && first + r < p.rows && done < p.value) {
            var sum = 0.0;
            for (var e = 0u; e < 8u; e++) {
                sum += eighths[lane % #{THREADS / 8}u * 8u + e][r];
            }
            out[((first + r) * p.heads + head) * p.value + done] = #{HALF_OUT ? f16 : f32}(sum);
        }
        workgroupBarrier(); // the next outputs take the place of these
    }
}
