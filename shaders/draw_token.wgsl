// The next token of each row with a slot, whose tokens so far are history[slot, ..= position]. The logits of these are
// penalised in place, once each; then temperature, top-k, top-p of what that leaves, min-p, and the first token in
// order of id at which the cumulative weight passes a random share of the whole; at temperature 0 the largest logit. Of
// equals the lower id is kept. Of logits that are not all finite nothing is drawn: the token is 0xffffffff, which the
// embedding leaves out. Overwrites tokens, moves positions on, appends to history where there is room.
// One workgroup a row. Reference: src/reference/draw_token.rs.
//
// Nothing is sorted: what is kept are the tokens whose key is above an edge, and of those on the edge the first few. An
// edge is found two bits at a time, from sums over all tokens whose order is fixed. An invocation has tokens in a row,
// so that sums over invocations in order are sums in order of id; it loads eight at a time, or it would wait for each.
#define THREADS 256
#import shared/index
#import shared/random

struct Params {
    rows: u32,
    classes: u32,
    known: u32,
    capacity: u32,
}
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read_write> logits: array<f32>;    // (rows, classes)
@group(0) @binding(1) var<storage, read> settings: array<u32>;        // (rows, 8)
@group(0) @binding(2) var<storage, read> slots: array<u32>;           // (rows)
@group(0) @binding(3) var<storage, read_write> history: array<u32>;   // (slots, capacity)
@group(0) @binding(4) var<storage, read_write> positions: array<u32>; // (rows)
@group(0) @binding(5) var<storage, read_write> tokens: array<u32>;    // (rows)

const BITMAP = 65536u; // tokens

var<workgroup> seen: array<atomic<u32>, #{65536 / 32}>;
var<workgroup> scratch: array<vec3<f32>, #{THREADS}>;
var<workgroup> best: array<vec2<u32>, #{THREADS}>; // key and token
var<workgroup> result: u32;
var<workgroup> place: u32;

// A number that orders like the float; the two zeros are one.
fn key(x: f32) -> u32 {
    let bits = select(bitcast<u32>(x), 0u, x == 0.0);
    return select(bits | 0x80000000u, ~bits, bits >= 0x80000000u);
}

// Whether an exponent is that of an infinity or of no number.
fn endless(x: f32) -> bool {
    return (bitcast<u32>(x) & 0x7f800000u) == 0x7f800000u;
}

// Sums over the workgroup, the same tree on every adapter.
fn sum(lane: u32, value: vec3<f32>) -> vec3<f32> {
    workgroupBarrier();
    scratch[lane] = value;
    workgroupBarrier();
    for (var half = #{THREADS / 2}u; half > 0u; half /= 2u) {
        if (lane < half) {
            scratch[lane] += scratch[lane + half];
        }
        workgroupBarrier();
    }
    return scratch[0];
}

// The sum of `value` over invocations before this one.
fn sum_before(lane: u32, value: f32) -> f32 {
    workgroupBarrier();
    scratch[lane].x = value;
    workgroupBarrier();
    if (lane == 0u) {
        var before = 0.0;
        for (var i = 0u; i < #{THREADS}u; i++) {
            let own = scratch[i].x;
            scratch[i].y = before;
            before += own;
        }
    }
    workgroupBarrier();
    return scratch[lane].y;
}

// What is kept: keys above `edge`, and of those on it the tokens below `end`.
struct Kept {
    edge: u32,
    end: u32,
}

struct Row {
    first: u32,  // of its logits
    begin: u32,  // tokens of this invocation
    end: u32,
    largest: f32,
    inverse: f32, // of the temperature
}

fn keeps(kept: Kept, own: u32, token: u32) -> bool {
    return own > kept.edge || (own == kept.edge && token < kept.end);
}

fn weigh(row: Row, x: f32) -> f32 {
    return exp((x - row.largest) * row.inverse);
}

// A token's part in the sums that find an edge: its weight, or 1 where tokens are counted.
fn measure(row: Row, x: f32, counted: bool) -> f32 {
    return select(weigh(row, x), 1.0, counted);
}

// The edge above which, with the first tokens on it, the kept tokens reach `bound`.
fn narrow(lane: u32, row: Row, kept: Kept, bound: f32, counted: bool) -> Kept {
    var edge = 0u;
    for (var bit = 32u; bit > 0u; bit -= 2u) {
        let step = 1u << (bit - 2u);
        var above = vec3<f32>();
        for (var t = row.begin; t < row.end; t += 8u) {
#for k in 0..8
            let x#{k} = logits[row.first + min(t + #{k}u, row.end - 1u)];
#end
#for k in 0..8
            if (t + #{k}u < row.end) {
                let token = t + #{k}u;
                let x = x#{k};
                let own = key(x);
                if (keeps(kept, own, token)) {
                    let part = measure(row, x, counted);
                    above += select(vec3<f32>(), vec3(part), vec3(own) >= edge + step * vec3(1u, 2u, 3u));
                }
            }
#end
        }
        let sums = sum(lane, above);
        let reached = sums >= vec3(bound);
        edge += step * (u32(reached.x) + u32(reached.y) + u32(reached.z));
    }
    // How many on the edge: those above do not reach the bound, each on it has the same part.
    var above = 0.0;
    var on = 0.0;
    var part = 0.0;
    for (var t = row.begin; t < row.end; t += 8u) {
#for k in 0..8
        let x#{k} = logits[row.first + min(t + #{k}u, row.end - 1u)];
#end
#for k in 0..8
        if (t + #{k}u < row.end) {
            let token = t + #{k}u;
            let x = x#{k};
            let own = key(x);
            if (keeps(kept, own, token)) {
                above += select(0.0, measure(row, x, counted), own > edge);
                on += select(0.0, 1.0, own == edge);
                part = select(part, measure(row, x, counted), own == edge);
            }
        }
#end
    }
    let sums = sum(lane, vec3(above, on, 0.0));
    let before = sum_before(lane, on);
    if (lane == 0u) {
        place = p.known;
    }
    workgroupBarrier();
    // The invocation with the last token that is kept says where it ends.
    let wanted = max(1.0, ceil((bound - sums.x) / max(part, 1e-38)));
    if (on > 0.0 && before < wanted && wanted <= before + on) {
        var count = before;
        for (var token = row.begin; token < row.end; token++) {
            let own = key(logits[row.first + token]);
            if (own == edge && keeps(kept, own, token)) {
                count += 1.0;
                if (count == wanted) {
                    place = token + 1u;
                }
            }
        }
    }
    workgroupBarrier();
    return Kept(edge, place);
}

// Penalises the logits of the row's tokens so far.
fn penalise(lane: u32, first: u32, slot: u32, position: u32, penalty: f32) {
    for (var base = 0u; base < p.known; base += BITMAP) {
        for (var i = lane; i < #{65536 / 32}u; i += #{THREADS}u) {
            atomicStore(&seen[i], 0u);
        }
        workgroupBarrier();
        for (var i = lane; i <= min(position, p.capacity - 1u); i += #{THREADS}u) {
            let token = history[slot * p.capacity + i];
            if (token >= base && token < min(base + BITMAP, p.known)) {
                let bit = 1u << (token % 32u);
                if ((atomicOr(&seen[(token - base) / 32u], bit) & bit) == 0u) {
                    let x = logits[first + token];
                    let penalised = select(x * penalty, x / penalty, x > 0.0);
                    // A penalty makes no finite logit infinite, and hides none that is.
                    let bounded = clamp(penalised, -3.4028234e38, 3.4028234e38);
                    logits[first + token] = select(bounded, x, endless(x));
                }
            }
        }
        storageBarrier();
        workgroupBarrier();
    }
}

// The largest key of the row with its first token. A logit that is not finite has the largest of all keys.
fn largest(lane: u32, row: Row) -> vec2<u32> {
    var found = vec2(0u, 0xffffffffu);
    // Not in order of id, but as memory lies: ties are settled by the ids themselves.
    for (var t = lane; t < p.known; t += #{16 * THREADS}u) {
#for k in 0..16
        let x#{k} = logits[row.first + min(t + #{k * THREADS}u, p.known - 1u)];
#end
#for k in 0..16
        let own#{k} = select(key(x#{k}), 0xffffffffu, endless(x#{k}));
        if (t + #{k * THREADS}u < p.known && (own#{k} > found.x || found.y == 0xffffffffu)) {
            found = vec2(own#{k}, t + #{k * THREADS}u);
        }
#end
    }
    best[lane] = found;
    workgroupBarrier();
    for (var half = #{THREADS / 2}u; half > 0u; half /= 2u) {
        if (lane < half) {
            let other = best[lane + half];
            let first = other.x > best[lane].x || (other.x == best[lane].x && other.y < best[lane].y);
            if (other.y != 0xffffffffu && (first || best[lane].y == 0xffffffffu)) {
                best[lane] = other;
            }
        }
        workgroupBarrier();
    }
    return best[0];
}

// Draws by weight.
fn draw(lane: u32, row: Row, kept: Kept, min_p: f32, u: f32, otherwise: u32) {
    var own = 0.0;
    for (var t = row.begin; t < row.end; t += 8u) {
#for k in 0..8
        let x#{k} = logits[row.first + min(t + #{k}u, row.end - 1u)];
#end
#for k in 0..8
        if (t + #{k}u < row.end) {
            let token = t + #{k}u;
            let x = x#{k};
            let w = weigh(row, x);
            own += select(0.0, w, keeps(kept, key(x), token) && w >= min_p);
        }
#end
    }
    let bound = sum(lane, vec3(own, 0.0, 0.0)).x * u;
    let before = sum_before(lane, own);
    if (lane == 0u) {
        result = otherwise;
    }
    workgroupBarrier();
    if (before <= bound && bound < before + own) {
        var cumulative = before;
        for (var token = row.begin; token < row.end && cumulative <= bound; token++) {
            let x = logits[row.first + token];
            let w = weigh(row, x);
            if (keeps(kept, key(x), token) && w >= min_p) {
                cumulative += w;
                result = token; // the last one that is looked at passes the bound
            }
        }
    }
    workgroupBarrier();
}

@compute @workgroup_size(#{THREADS})
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = group_index(group, groups);
    if (index >= p.rows) {
        return;
    }
    let slot = slots[index];
    if (slot == 0xffffffffu) {
        return;
    }
    let position = positions[index];
    let word = index * 8u;
    let temperature = bitcast<f32>(settings[word]);
    let top_k = settings[word + 1u];
    let top_p = bitcast<f32>(settings[word + 2u]);
    let min_p = bitcast<f32>(settings[word + 3u]);
    let penalty = bitcast<f32>(settings[word + 4u]);
    let first = index * p.classes;
    if (penalty != 1.0) {
        penalise(lane, first, slot, position, penalty);
    }
    let each = (p.known + #{THREADS - 1}u) / #{THREADS}u;
    var row = Row(first, min(lane * each, p.known), min((lane + 1u) * each, p.known), 0.0, 0.0);
    let most = largest(lane, row);
    if (temperature != 0.0) {
        row.largest = logits[first + most.y];
        row.inverse = 1.0 / temperature;
        var kept = Kept(0u, p.known);
        if (top_k > 0u && top_k < p.known) {
            kept = narrow(lane, row, kept, f32(top_k), true);
        }
        if (top_p < 1.0) {
            var own = 0.0;
            for (var t = row.begin; t < row.end; t += 8u) {
#for k in 0..8
                let x#{k} = logits[row.first + min(t + #{k}u, row.end - 1u)];
#end
#for k in 0..8
                if (t + #{k}u < row.end) {
                    let token = t + #{k}u;
                    let x = x#{k};
                    own += select(0.0, weigh(row, x), keeps(kept, key(x), token));
                }
#end
            }
            kept = narrow(lane, row, kept, sum(lane, vec3(own, 0.0, 0.0)).x * top_p, false);
        }
        let random = random_u32(settings[word + 5u], settings[word + 6u], position, 0u);
        draw(lane, row, kept, min_p, f32(random >> 8u) / 16777216.0, most.y);
    }
    if (lane == 0u) {
        let token = select(select(result, most.y, temperature == 0.0), 0xffffffffu, most.x == 0xffffffffu);
        tokens[index] = token;
        if (position + 1u < p.capacity) {
            history[slot * p.capacity + position + 1u] = token;
        }
        positions[index] = position + 1u;
    }
}
