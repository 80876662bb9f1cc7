// matmul.wgsl on cooperative matrices, for factors stored as f16: products of 16 x 16 x 16 with f32 sums.
// One workgroup a tile of c, bands of BAND tile rows after each other.
// Needs m and n in sixteens, k in BKs, lines and offsets in fours; THIN what shared/thin says.
// Reference: src/reference/matmul.rs.
#define THIN 0
#define A_ALONG_K FORM != 2
#define B_ALONG_K FORM == 0
#define STAGED HALF_C || THIN
#define BAND 16
#if THIN
#import shared/thin
#else
#import shared/coop
#end

struct Params {
    m: u32,
    n: u32,
    k: u32,
    lda: u32,
    ldb: u32,
    ldc: u32,
    a_offset: u32,
    b_offset: u32,
    c_offset: u32,
    form: u32,
    accumulate: u32,
    slice: u32,
}
var<immediate> p: Params;
alias Residual = #{HALF_RESIDUAL ? f16 : f32};
alias Result = #{HALF_C ? f16 : f32};
@group(0) @binding(0) var<storage, read> a: array<Factor>;                                       // (m, k) or (k, m)
@group(0) @binding(1) var<storage, read> b: array<Factor>;                                       // (n, k) or (k, n)
@group(0) @binding(2) var<storage, read> residual: array<#{STAGED ? vec4<Residual> : Residual}>; // (m, n)
@group(0) @binding(3) var<storage, read_write> c: array<#{STAGED ? vec4<Result> : Result}>;       // (m, n)

@compute @workgroup_size(#{THREADS})
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let down = (p.m + #{TILE_M - 1}u) / #{TILE_M}u;
    let across = (p.n + #{TILE_N - 1}u) / #{TILE_N}u;
    // `group_index` of shared/index, in place: naga takes no call's result to be the same for a whole workgroup, and
    // cooperative operations may only follow returns that are.
    let number = group.y * groups.x + group.x;
    if (number >= down * across) {
        return;
    }
    let band = number / (#{BAND}u * across) * #{BAND}u;
    let height = min(#{BAND}u, down - band);
    let within = number - band * across;
    let row = (band + within % height) * #{TILE_M}u;
    let column = within / height * #{TILE_N}u;
    let a_first = p.a_offset + #{A_ALONG_K ? row * p.lda : row};
    let b_first = p.b_offset + #{B_ALONG_K ? column * p.ldb : column};
    let c_first = p.c_offset + row * p.ldc + column;
    let t = Tile(a_first, p.lda, b_first, p.ldb, c_first, p.ldc, p.m - row, p.n - column, p.k);
#if THIN
#import shared/thin_sums
#else
#import shared/coop_sums
#end
}
