// Rotary position embedding on adjacent pairs: y[c] = x[c] cos - x[c+1] sin, y[c+1] = x[c+1] cos + x[c] sin for the
// columns offset..offset+rotated of every head; other columns are copied. direction -1 is the transpose.
// One invocation a scalar or a vector, which is two pairs; overwrites y. Reference: src/reference/rope.rs.
#import shared/elements
alias Turns = #{LANES == 4 ? vec4<f32> : vec2<f32>}; // of one or two pairs: cos, sin

struct Params {
    rows: u32,
    heads: u32,
    width: u32,
    offset: u32,
    rotated: u32,
    direction: f32,
}
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> x: array<#{HALF_X ? Halves : Elements}>;       // (rows, heads, width)
@group(0) @binding(1) var<storage, read> positions: array<u32>;                         // (rows)
@group(0) @binding(2) var<storage, read> table: array<Turns>;                           // (positions, rotated / 2, 2)
@group(0) @binding(3) var<storage, read_write> y: array<#{HALF_Y ? Halves : Elements}>; // (rows, heads, width)

@compute @workgroup_size(#{THREADS})
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = elements_index(group, groups, lane);
    let head_row = i / (p.width / #{LANES}u);
    if (head_row >= p.rows * p.heads) {
        return;
    }
    let column = i * #{LANES}u - head_row * p.width - p.offset; // wraps to a huge number before the rotated columns
    if (column >= p.rotated) {
        y[i] = #{HALF_Y ? Halves : Elements}(Elements(x[i]));
        return;
    }
    let turn = table[(positions[head_row / p.heads] * p.rotated + column / 2u * 2u) / #{LANES == 4 ? 4 : 2}u];
#if LANES == 4
    let own = Elements(x[i]);
    let sine = turn.yyww * vec4(-1.0, 1.0, -1.0, 1.0) * p.direction;
    y[i] = #{HALF_Y ? Halves : Elements}(fma(own, turn.xxzz, own.yxwz * sine));
#else
    let odd = (column & 1u) == 1u;
    let other = f32(x[select(i + 1u, i - 1u, odd)]);
    let sine = select(-turn.y, turn.y, odd) * p.direction;
    y[i] = #{HALF_Y ? Halves : Elements}(fma(f32(x[i]), turn.x, other * sine));
#end
}
