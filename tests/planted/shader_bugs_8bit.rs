//! The bugs that are planted in the update with 8-bit moments.

use super::shader::ShaderBug;

const fn bug(what: &'static str, old: &'static str, new: &'static str) -> ShaderBug {
    ShaderBug::new(what, "adamw8bit", old, new)
}

/// No patch reads or writes past a buffer's end: the shaders run without bounds checks.
pub static BUGS: &[ShaderBug] = &[
    bug("clip not applied", " * result[RESULT_CLIP]", ""),
    bug("a gradient that is not finite is used", "result[RESULT_FINITE] != 1.0", "false"),
    bug("a gradient that is not finite is kept", "            clear_gradient(i#{j});\n", ""),
    bug("no copy", "p.copied == 1u", "p.copied == 2u").times(2),
    bug("gradient zeroed unasked", "p.zeroed == 1u", "true").times(2),
    bug("gradient not zeroed", "    clear_gradient(i);\n", ""),
    bug("weight decay without the rate", "rate * p.weight_decay", "p.weight_decay"),
    bug("first bias correction missing", " / result[RESULT_CORRECTION1]", ""),
    bug("second bias correction missing", "1.0 / sqrt(result[RESULT_CORRECTION2])", "1.0"),
    bug(
        "epsilon inside the root",
        "sqrt(square) * scale + vec4(p.epsilon)",
        "sqrt(square * scale * scale + p.epsilon)",
    ),
    bug("the step takes the old mean", "step * mean /", "step * decode(word.x, 0u, old.x) /"),
    bug("v read through the map of m", "decode(word.y, FIRST_V, old.y)", "decode(word.y, 0u, old.y)"),
    bug("v read with the factor of m", "decode(word.y, FIRST_V, old.y)", "decode(word.y, FIRST_V, old.x)"),
    bug("bytes in the reverse order", "vec4(0u, 8u, 16u, 24u)", "vec4(24u, 16u, 8u, 0u)"),
    bug(
        "the largest of the numbers, not of their sizes",
        "max(abs(m#{j}.xy), abs(m#{j}.zw))",
        "max(m#{j}.xy, m#{j}.zw)",
    ),
    bug("the largest of a part of the block", "var half = #{LANES / 2}u;", "var half = #{LANES / 4}u;"),
    bug("what fills the last word counts", "select(vec4<f32>(), mean, real)", "mean"),
    bug("the entry below instead of the nearest", "0.5 * (maps[lane + #{j * 256}u] + maps[", "1.0 * (maps["),
    bug("the nearest entry but one", "step > 0u", "step > 1u"),
    bug("codes by the value without its factor", "bound * scale < x", "bound < x"),
    bug(
        "small m loses its sign",
        "select(select(vec4(ZERO_M), above, x > vec4<f32>()), below, x < vec4<f32>())",
        "code",
    ),
    bug("small v becomes zero", "max(nearest(x, FIRST_V, scale), vec4(1u))", "nearest(x, FIRST_V, scale)"),
    bug("factors of m and v swapped", "absmax[block] = scale;", "absmax[block] = scale.yx;"),
];
