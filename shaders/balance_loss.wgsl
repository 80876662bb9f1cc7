// Sequence-level balance loss. For sequence b with T_b tokens that are no padding:
//   f[b, e] = experts / (selected * T_b) * (choices of e in b),   P[b, e] = 1 / T_b * sum_t probs[t, e],
//   slope[b, e] = loss scale * alpha * f[b, e] / (S * T_b),       metrics[balance] += alpha / S * sum f P,
// S the number of sequences of the accumulation window. A sequence of padding has slope 0 and adds nothing.
// One workgroup for everything: the metric is one sum in a fixed order. Overwrites slope, adds to one word of metrics.
// Reference: src/reference/balance_loss.rs.
#define EXPERTS 64
#define SELECTED 6
// Invocations side by side on a row of experts: a power of two.
#define COLUMNS 16
// Loads in flight: with one workgroup, waiting for memory is all the time there is.
#define UNROLL 8
#import shared/elements
#import shared/reduce
#import shared/state
#define ROWS THREADS / COLUMNS

struct Params {
    sequences: u32,
    length: u32,
    experts: u32,
    selected: u32,
    alpha: f32,
}
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> probs: array<Elements>;    // (sequences, length, experts)
@group(0) @binding(1) var<storage, read> chosen: array<u32>;        // (sequences, length, selected)
@group(0) @binding(2) var<storage, read> real: array<u32>;          // (sequences, length), 0 for padding
@group(0) @binding(3) var<storage, read> state: array<u32>;         // (8)
@group(0) @binding(4) var<storage, read> result: array<f32>;        // (8)
@group(0) @binding(5) var<storage, read_write> slope: array<f32>;   // (sequences, experts)
@group(0) @binding(6) var<storage, read_write> metrics: array<f32>; // (8)

var<workgroup> tokens: atomic<u32>;
var<workgroup> counts: array<atomic<u32>, #{EXPERTS}>;
var<workgroup> sums: array<f32, #{ROWS * EXPERTS}>;

// Counts tokens and choices; integers, so the order of the additions is free.
fn count(lane: u32, first: u32) {
    var own = 0u;
    for (var t = first + lane; t < first + p.length; t += #{THREADS}u) {
        if (real[t] != 0u) {
            own += 1u;
#for j in 0..SELECTED
            let e#{j} = chosen[t * #{SELECTED}u + #{j}u];
#end
#for j in 0..SELECTED
            atomicAdd(&counts[e#{j}], 1u);
#end
        }
    }
    atomicAdd(&tokens, own);
}

// A token's probabilities, or 0 for padding, whatever it holds.
fn share(t: u32, column: u32) -> Elements {
    return select(Elements(), probs[t * #{EXPERTS / LANES}u + column], real[t] != 0u);
}

// Sums the probabilities of the tokens lane / COLUMNS, + ROWS, + 2 * ROWS and so on.
fn sum_rows(lane: u32, first: u32) {
    let row = lane / #{COLUMNS}u;
    let end = first + p.length;
    for (var column = lane % #{COLUMNS}u; column < #{EXPERTS / LANES}u; column += #{COLUMNS}u) {
        var sum = Elements();
        var t = first + row;
        for (; t + #{(UNROLL - 1) * ROWS}u < end; t += #{UNROLL * ROWS}u) {
#for i in 0..UNROLL
            let share#{i} = share(t + #{i * ROWS}u, column);
#end
#for i in 0..UNROLL
            sum += share#{i};
#end
        }
        for (; t < end; t += #{ROWS}u) {
            sum += share(t, column);
        }
        let place = row * #{EXPERTS}u + column * #{LANES}u;
#if LANES == 4
#for i in 0..4
        sums[place + #{i}u] = sum[#{i}];
#end
#else
        sums[place] = sum;
#end
    }
}

@compute @workgroup_size(#{THREADS})
fn main(@builtin(local_invocation_index) lane: u32) {
    let one_sequence = p.alpha * bitcast<f32>(state[STATE_INVERSE_SEQUENCES]); // alpha / S
    let loss_scale = result[RESULT_LOSS_SCALE];
    var loss = 0.0;
    for (var b = 0u; b < p.sequences; b++) {
        if (lane == 0u) {
            atomicStore(&tokens, 0u);
        }
        for (var e = lane; e < #{EXPERTS}u; e += #{THREADS}u) {
            atomicStore(&counts[e], 0u);
        }
        workgroupBarrier();
        count(lane, b * p.length);
        sum_rows(lane, b * p.length);
        workgroupBarrier();
        let present = f32(max(atomicLoad(&tokens), 1u)); // without tokens every count is 0, and so is every result
        for (var e = lane; e < #{EXPERTS}u; e += #{THREADS}u) {
            let load = f32(atomicLoad(&counts[e])) * #{EXPERTS}.0 / (#{SELECTED}.0 * present);
            var sum = 0.0;
            for (var row = 0u; row < #{ROWS}u; row++) {
                sum += sums[row * #{EXPERTS}u + e];
            }
            slope[b * #{EXPERTS}u + e] = loss_scale * one_sequence * load / present;
            loss += load * (sum / present);
        }
        workgroupBarrier(); // counts and sums are read until here
    }
    let total = reduce_sum(lane, loss);
    if (lane == 0u) {
        metrics[METRIC_BALANCE] += one_sequence * total;
    }
}
