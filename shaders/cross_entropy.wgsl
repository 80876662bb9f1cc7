// losses[t] = logsumexp(z) - z[target], correct[t] = 1 if the target is the lowest class of the largest logit, and
// with p.gradient = 1 z becomes
//   ((s - onehot(target)) * loss_weights[t] + entropy_bonus * factors[t] * s * (ln(s) + entropies[t])) * loss scale
// with s = softmax(z); zeros for targets from `classes` on. One workgroup a row, in two sweeps over it; overwrites the
// losses and hits of its rows. An invocation rewrites only logits that it alone has read.
// Reference: src/reference/cross_entropy.rs.
#import shared/elements
#import shared/reduce
#import shared/state

struct Params {
    rows: u32,
    classes: u32,
    first_row: u32,
    gradient: u32,
    entropy_bonus: f32,
}
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read_write> logits: array<#{HALF_LOGITS ? Halves : Elements}>; // (rows, classes)
@group(0) @binding(1) var<storage, read> targets: array<u32>;                                     // (tokens)
@group(0) @binding(2) var<storage, read> loss_weights: array<f32>;                                // (tokens)
@group(0) @binding(3) var<storage, read> result: array<f32>;                                      // (8)
@group(0) @binding(4) var<storage, read> entropies: array<f32>;                                   // (tokens)
@group(0) @binding(5) var<storage, read> factors: array<f32>;                                     // (tokens)
@group(0) @binding(6) var<storage, read_write> losses: array<f32>;                                // (tokens)
@group(0) @binding(7) var<storage, read_write> correct: array<f32>;                               // (tokens)

const LOWEST = -1e30; // below every logit; finite, since WGSL promises nothing about infinities
const NO_CLASS = 0xffffffffu;

var<workgroup> best_logit: array<f32, #{THREADS}>;
var<workgroup> best_class: array<u32, #{THREADS}>;
var<workgroup> target_logit: f32;

// Largest logit of the row, of all invocations' own; its lowest class is left in best_class[0].
fn reduce_best(lane: u32, logit: f32, predicted: u32) -> f32 {
    best_logit[lane] = logit;
    best_class[lane] = predicted;
    workgroupBarrier();
    for (var half = #{THREADS / 2}u; half > 0u; half /= 2u) {
        if (lane < half) {
            let other = best_logit[lane + half];
            let other_class = best_class[lane + half];
            if (other > best_logit[lane] || (other == best_logit[lane] && other_class < best_class[lane])) {
                best_logit[lane] = other;
                best_class[lane] = other_class;
            }
        }
        workgroupBarrier();
    }
    return best_logit[0];
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
        if (p.gradient != 0u) {
            for (var i = lane; i < width; i += #{THREADS}u) {
                logits[first + i] = #{HALF_LOGITS ? Halves : Elements}(Elements(0.0));
            }
        }
        if (lane == 0u) {
            losses[token] = 0.0;
            correct[token] = 0.0;
        }
        return;
    }

    // First sweep: this invocation's largest logit, its class, and the sum of exp(z - largest).
    var largest = LOWEST;
    var predicted = NO_CLASS;
    var sum = 0.0;
    for (var i = lane; i < width; i += #{THREADS}u) {
        let z = Elements(logits[first + i]);
#if LANES == 4
        let upper = max(max(z.x, z.y), max(z.z, z.w));
#else
        let upper = z;
#end
        if (upper > largest) {
            sum *= exp(largest - upper);
            largest = upper;
#if LANES == 4
            predicted = 4u * i + select(select(select(3u, 2u, z.z == upper), 1u, z.y == upper), 0u, z.x == upper);
#else
            predicted = i;
#end
        }
        let e = exp(z - Elements(largest));
#if LANES == 4
        sum += (e.x + e.y) + (e.z + e.w);
        if (i == wanted / 4u) {
            target_logit = z[wanted % 4u];
        }
#else
        sum += e;
        if (i == wanted) {
            target_logit = z;
        }
#end
    }
    let top = reduce_best(lane, largest, predicted);
    let total = reduce_sum(lane, sum * exp(largest - top));

    if (lane == 0u) {
        losses[token] = log(total) + (top - target_logit);
        correct[token] = select(0.0, 1.0, best_class[0] == wanted);
    }
    if (p.gradient == 0u) {
        return;
    }
    // Second sweep: the gradient, over the logits.
    let weight = loss_weights[token] * result[RESULT_LOSS_SCALE];
#if BONUS
    let bonus = p.entropy_bonus * factors[token] * result[RESULT_LOSS_SCALE];
    let offset = entropies[token] - log(total); // ln(s) + entropy is z - top + offset
#end
    for (var i = lane; i < width; i += #{THREADS}u) {
        let u = Elements(logits[first + i]) - Elements(top);
        let s = exp(u) / Elements(total);
#if LANES == 4
        var d = s - select(vec4(0.0), vec4(1.0), vec4(4u * i) + vec4(0u, 1u, 2u, 3u) == vec4(wanted));
#else
        var d = s - select(0.0, 1.0, i == wanted);
#end
        d *= weight;
#if BONUS
        d += bonus * s * (u + offset);
#end
        logits[first + i] = #{HALF_LOGITS ? Halves : Elements}(d);
    }
}
