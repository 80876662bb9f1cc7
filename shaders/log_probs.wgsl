// log_probs[t] = ln softmax(z)[target], entropies[t] = -sum p ln p with p = softmax(z); zeros for targets from
// `classes` on. One workgroup a row, in one sweep over it; overwrites the results of its rows. The sums are those of
// cross_entropy, so that its loss is -log_probs[t]. Reference: src/reference/log_probs.rs.
#import shared/elements
#import shared/reduce

struct Params {
    rows: u32,
    classes: u32,
    first_row: u32,
}
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> logits: array<#{HALF_LOGITS ? Halves : Elements}>; // (rows, classes)
@group(0) @binding(1) var<storage, read> targets: array<u32>;                               // (tokens)
@group(0) @binding(2) var<storage, read_write> log_probs: array<f32>;                       // (tokens)
@group(0) @binding(3) var<storage, read_write> entropies: array<f32>;                       // (tokens)

const LOWEST = -1e30; // below every logit; finite, since WGSL promises nothing about infinities

var<workgroup> largest_of: array<f32, #{THREADS}>;
var<workgroup> target_logit: f32;

fn reduce_largest(lane: u32, value: f32) -> f32 {
    largest_of[lane] = value;
    workgroupBarrier();
    for (var half = #{THREADS / 2}u; half > 0u; half /= 2u) {
        if (lane < half) {
            largest_of[lane] = max(largest_of[lane], largest_of[lane + half]);
        }
        workgroupBarrier();
    }
    return largest_of[0];
}

@compute @workgroup_size(#{THREADS})
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group_index(group, groups);
    if (row >= p.rows) {
        return;
    }
    let token = p.first_row + row;
    let width = p.classes / #{LANES}u;
    let first = row * width;
    let wanted = targets[token];
    if (wanted >= p.classes) {
        if (lane == 0u) {
            log_probs[token] = 0.0;
            entropies[token] = 0.0;
        }
        return;
    }

    // With u = z - largest so far: the sums of exp(u) and of u exp(u).
    var largest = LOWEST;
    var sum = 0.0;
    var weighted = 0.0;
    for (var i = lane; i < width; i += #{THREADS}u) {
        let z = Elements(logits[first + i]);
#if LANES == 4
        let upper = max(max(z.x, z.y), max(z.z, z.w));
#else
        let upper = z;
#end
        if (upper > largest) {
            let fall = largest - upper;
            let shrink = exp(fall);
            weighted = shrink * (weighted + fall * sum);
            sum *= shrink;
            largest = upper;
        }
        let u = z - Elements(largest);
        let e = exp(u);
#if LANES == 4
        sum += (e.x + e.y) + (e.z + e.w);
        weighted += dot(u, e);
        if (i == wanted / 4u) {
            target_logit = z[wanted % 4u];
        }
#else
        sum += e;
        weighted += u * e;
        if (i == wanted) {
            target_logit = z;
        }
#end
    }
    let top = reduce_largest(lane, largest);
    let fall = largest - top; // of an invocation without logits far below zero, where its sums are 0
    let shrink = exp(fall);
    let total = reduce_sum(lane, sum * shrink);
    let mean = reduce_sum(lane, shrink * (weighted + fall * sum)) / total;

    if (lane == 0u) {
        log_probs[token] = (target_logit - top) - log(total);
        entropies[token] = log(total) - mean;
    }
}
