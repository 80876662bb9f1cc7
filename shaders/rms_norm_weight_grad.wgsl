// d_weight[i] += sum_r d_y[r, i] * x[r, i] * inverse_rms[r]: the derivative of y = weight * x * inverse_rms.
// One workgroup a block of columns: its invocations stand side by side on the columns and above each other on the rows,
// each adds up every ROW_LANES-th row, and a tree joins them. Accumulates.
// Reference: src/reference/rms_norm_weight_grad.rs.
#define COLUMNS 8
#define THREADS 256
#define ROW_LANES THREADS / COLUMNS

struct Params {
    rows: u32,
    width: u32,
}
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> d_y: array<#{HALF_D_Y ? f16 : f32}>; // (rows, width)
@group(0) @binding(1) var<storage, read> x: array<#{HALF_X ? f16 : f32}>;     // (rows, width)
@group(0) @binding(2) var<storage, read> inverse_rms: array<f32>;             // (rows)
@group(0) @binding(3) var<storage, read_write> d_weight: array<f32>;          // (width)

var<workgroup> sums: array<f32, #{THREADS}>; // (ROW_LANES, COLUMNS)

fn term(row: u32, column: u32) -> f32 {
    let i = row * p.width + column;
    return f32(d_y[i]) * f32(x[i]) * inverse_rms[row];
}

@compute @workgroup_size(#{THREADS})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let column = group.x * #{COLUMNS}u + lane % #{COLUMNS}u;
    var row = lane / #{COLUMNS}u;
    var sum = vec4(0.0); // four chains of additions: their loads overlap, and each is short
    if (column < p.width) {
        for (; row + #{3 * ROW_LANES}u < p.rows; row += #{4 * ROW_LANES}u) {
#for i in 0..4
            sum[#{i}] += term(row + #{i * ROW_LANES}u, column);
#end
        }
        for (; row < p.rows; row += #{ROW_LANES}u) {
            sum[0] += term(row, column);
        }
    }
    sums[lane] = (sum[0] + sum[1]) + (sum[2] + sum[3]);
    workgroupBarrier();
    for (var half = #{THREADS / 2}u; half >= #{COLUMNS}u; half /= 2u) {
        if (lane < half) {
            sums[lane] += sums[lane + half];
        }
        workgroupBarrier();
    }
    if (lane < #{COLUMNS}u && column < p.width) {
        d_weight[column] += sums[lane];
    }
}
