// Elementwise kernels: an invocation owns one `Elements`, four floats where the count allows it (the constant LANES
// is 4; kernels::elements decides), else one.
#import shared/index
#define THREADS 256
#define LANES 1
alias Elements = #{LANES == 4 ? vec4<f32> : f32};
#if HALVES
alias Halves = #{LANES == 4 ? vec4<f16> : f16}; // the same, as some bindings store it
#end

// Number of this invocation's `Elements`; skip those from count / LANES on.
fn elements_index(group: vec3<u32>, groups: vec3<u32>, lane: u32) -> u32 {
    return group_index(group, groups) * #{THREADS}u + lane;
}
