// Teams of 32 invocations that share an output, and the elements that they read: four floats at a time where the
// constant LANES is 4. The importer defines THREADS, a multiple of 32.
#define LANES 1
alias Elements = #{LANES == 4 ? vec4<f32> : f32};
#if HALVES
alias Halves = #{LANES == 4 ? vec4<f16> : f16}; // the same, as some bindings store it
#end

var<workgroup> team_scratch: array<vec2<f32>, #{THREADS}>;

// Products of elements, added up.
fn inner(a: Elements, b: Elements) -> f32 {
    return #{LANES == 4 ? dot(a, b) : a * b};
}

// The sum over a team, the same tree on every adapter. All invocations must call, in uniform control flow.
fn team_sum(lane: u32, value: vec2<f32>) -> vec2<f32> {
    workgroupBarrier(); // an earlier sum may still be read
    team_scratch[lane] = value;
    workgroupBarrier();
    for (var half = 16u; half > 0u; half /= 2u) {
        if (lane % 32u < half) {
            team_scratch[lane] += team_scratch[lane + half];
        }
        workgroupBarrier();
    }
    return team_scratch[lane / 32u * 32u];
}
