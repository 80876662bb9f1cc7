// With x' = norm x / sqrt(mean(x^2) + epsilon): h[n, j, i] = silu(g . x') (u . x'), where g and u are rows i of the
// gate and up matrices of expert chosen[n, j]; then the same with the rows of the shared matrices. A team of 32
// invocations has a number of a token and asks for loads of four steps at a time; overwrites h.
// Reference: src/reference/few_experts_up.rs.
#define THREADS 256
#import shared/index
#import shared/team

struct Params {
    rows: u32,
    width: u32,
    selected: u32,
    expert: u32,
    dense: u32,
    epsilon: f32,
}
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> x: array<Elements>;                                          // (rows, width)
@group(0) @binding(1) var<storage, read> norm: array<Elements>;                                       // (width)
@group(0) @binding(2) var<storage, read> chosen: array<u32>;                                          // (rows, ..)
@group(0) @binding(3) var<storage, read> gate: array<#{HALF_GATE ? Halves : Elements}>;               // (.., width)
@group(0) @binding(4) var<storage, read> up: array<#{HALF_UP ? Halves : Elements}>;                   // (.., width)
@group(0) @binding(5) var<storage, read> shared_gate: array<#{HALF_SHARED_GATE ? Halves : Elements}>; // (.., width)
@group(0) @binding(6) var<storage, read> shared_up: array<#{HALF_SHARED_UP ? Halves : Elements}>;     // (.., width)
@group(0) @binding(7) var<storage, read_write> h: array<f32>;                                         // (rows, hidden)

@compute @workgroup_size(#{THREADS})
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let routed = p.selected * p.expert;
    let hidden = routed + p.dense;
    let blocks = (hidden + 7u) / 8u;
    let index = group_index(group, groups);
    let token = index / blocks;
    if (token >= p.rows) {
        return;
    }
    let number = index % blocks * 8u + lane / 32u;
    let own = min(number, hidden - 1u);
    let width = p.width / #{LANES}u;
    var gates = 0.0;
    var ups = 0.0;
    var square = 0.0;
    if (own < routed) {
        let row = (chosen[token * p.selected + own / p.expert] * p.expert + own % p.expert) * width;
        for (var start = lane % 32u; start < width; start += 128u) {
#for u in 0..4
            let i#{u} = min(start + #{32 * u}u, width - 1u);
            let g#{u} = Elements(gate[row + i#{u}]);
            let u#{u} = Elements(up[row + i#{u}]);
            let x#{u} = x[token * width + i#{u}] * select(0.0, 1.0, start + #{32 * u}u < width);
#end
#for u in 0..4
            square += inner(x#{u}, x#{u});
            gates += inner(g#{u}, norm[i#{u}] * x#{u});
            ups += inner(u#{u}, norm[i#{u}] * x#{u});
#end
        }
    } else {
        let row = (own - routed) * width;
        for (var start = lane % 32u; start < width; start += 128u) {
#for u in 0..4
            let i#{u} = min(start + #{32 * u}u, width - 1u);
            let g#{u} = Elements(shared_gate[row + i#{u}]);
            let u#{u} = Elements(shared_up[row + i#{u}]);
            let x#{u} = x[token * width + i#{u}] * select(0.0, 1.0, start + #{32 * u}u < width);
#end
#for u in 0..4
            square += inner(x#{u}, x#{u});
            gates += inner(g#{u}, norm[i#{u}] * x#{u});
            ups += inner(u#{u}, norm[i#{u}] * x#{u});
#end
        }
    }
    let sums = team_sum(lane, vec2(gates, ups));
    let inverse = 1.0 / sqrt(team_sum(lane, vec2(square, 0.0)).x / f32(p.width) + p.epsilon);
    if (lane % 32u == 0u && number < hidden) {
        let g = sums.x * inverse;
        let small = exp(-abs(g)); // never overflows
        h[token * hidden + number] = g * select(small, 1.0, g >= 0.0) / (1.0 + small) * sums.y * inverse;
    }
}
