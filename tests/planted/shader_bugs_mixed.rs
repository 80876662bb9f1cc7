//! The bugs that are planted in what mixed precision adds: the loss scale on its way through the update, and the copies
//! of weights that products read.

use super::shader::ShaderBug;
use hadal::gpu::device::Gpu;
use hadal::gpu::once::run_once;
use hadal::gpu::pipeline::{Allowed, Pipelines};
use hadal::kernels::case::{Case, Data};
use hadal::kernels::state::{
    METRIC_WORDS, RESULT_CLEAN, RESULT_CORRECTION1, RESULT_CORRECTION2, RESULT_FINITE, RESULT_SKIPPED, first_result,
};
use hadal::kernels::{Kernel, grad_norm_finish};

const fn bug(what: &'static str, stem: &'static str, old: &'static str, new: &'static str) -> ShaderBug {
    ShaderBug::new(what, stem, old, new)
}

/// No patch reads or writes past a buffer's end: the shaders run without bounds checks.
pub static BUGS: &[ShaderBug] = &[
    bug("loss scale forgotten", "cross_entropy", " * result[RESULT_LOSS_SCALE]", "").times(2),
    bug("loss scale forgotten", "balance_loss", "= loss_scale * one_sequence", "= one_sequence"),
    bug("loss scale in the metric", "balance_loss", "+= one_sequence * total", "+= loss_scale * one_sequence * total"),
    bug("the norm keeps the loss scale", "grad_norm_finish", "sqrt(sum) / scale", "sqrt(sum)"),
    bug("the clip keeps the loss scale", "grad_norm_finish", "p.clip_norm > 0.0) / scale", "p.clip_norm > 0.0)"),
    bug("the loss scale never grows", "grad_norm_finish", "min(2.0 * scale,", "min(scale,"),
    bug("the loss scale has no end", "grad_norm_finish", "min(2.0 * scale, LARGEST_LOSS_SCALE)", "2.0 * scale"),
    bug("the loss scale always grows", "grad_norm_finish", "clean >= f32(p.growth_interval)", "true"),
    bug("clean updates counted on after growth", "grad_norm_finish", "select(clean, 0.0, grows)", "clean"),
    bug("corrections of the other rate", "grad_norm_finish", "p.beta1 * result", "p.beta2 * result"),
    bug("a spike is no reason to skip", "grad_norm_finish", "metrics[METRIC_SPIKE] != 1.0", "true"),
    bug("a spike halves the loss scale", "grad_norm_finish", "if (!finite) {", "if (true) {"),
    bug("a spike is not kept in its place", "spike_guard", "history[HISTORY_LOSSES + next] = loss;", ""),
    bug("the place of the next loss stays", "spike_guard", "(next + 1u)", "next"),
    bug("a guard that is off marks spikes", "spike_guard", "threshold > 0.0 && ", ""),
    bug("spikes among too few losses", "spike_guard", "history[HISTORY_COUNT] >= n", "true"),
    bug(
        "variance in place of deviation",
        "spike_guard",
        "sqrt(reduce_sum(lane, square) / n)",
        "reduce_sum(lane, square) / n",
    ),
    bug("low losses are spikes, too", "spike_guard", "deviations > threshold", "abs(deviations) > threshold"),
    bug("copy not written", "adamw", "p.copied == 1u", "p.copied == 2u"),
    bug("copy written unasked", "adamw", "p.copied == 1u", "true"),
    bug("copy of the old value", "adamw", "Halves : Elements}(y)", "Halves : Elements}(x)"),
];

/// What an update does wrong whose gradient is not finite. A comparison with a reference cannot judge infinities.
static SKIPPED: &[ShaderBug] = &[
    bug("counts as finite", "grad_norm_finish", "result[RESULT_FINITE] = 0.0;", ""),
    bug(
        "is finite at any loss",
        "grad_norm_finish",
        "is_finite(sum) && is_finite(metrics[METRIC_LOSS]) && is_finite(metrics[METRIC_GOAL])",
        "true",
    ),
    bug("counts as clean", "grad_norm_finish", "result[RESULT_CLEAN] = 0.0;", ""),
    bug("is not counted", "grad_norm_finish", "result[RESULT_SKIPPED] += 1.0;", ""),
    bug("leaves the loss scale", "grad_norm_finish", "max(0.5 * scale, 1.0)", "scale"),
    bug("halves a loss scale of one", "grad_norm_finish", "max(0.5 * scale, 1.0)", "0.5 * scale"),
    bug(
        "halves a fixed loss scale",
        "grad_norm_finish",
        "max(0.5 * scale, 1.0), p.growth_interval > 0u",
        "0.5 * scale, true",
    ),
    bug("moves the first correction", "grad_norm_finish", "+= 1.0;", "+= 1.0; result[RESULT_CORRECTION1] *= p.beta1;"),
    bug("moves the second correction", "grad_norm_finish", "+= 1.0;", "+= 1.0; result[RESULT_CORRECTION2] *= p.beta2;"),
];

/// Loss scale before, growth interval, loss scale after.
const SCALES: [(f32, u32, f64); 3] = [(4.0, 3, 2.0), (1.0, 3, 1.0), (4.0, 0, 4.0)];

/// Whether the words that stay are right after an update with an infinite gradient.
fn skips(gpu: &Gpu, kernel: &Kernel) -> Result<(), String> {
    let mut pipelines = Pipelines::default();
    for (scale, growth_interval, expected) in SCALES {
        let p = grad_norm_finish::Params { partials: 2, clip_norm: 1.0, beta1: 0.9, beta2: 0.95, growth_interval };
        let mut before = first_result(scale).map(f64::from);
        (before[RESULT_CLEAN], before[RESULT_SKIPPED]) = (2.0, 5.0);
        (before[RESULT_CORRECTION1], before[RESULT_CORRECTION2]) = (0.25, 0.5);
        let case = Case::new("infinite", &p)
            .real(vec![1.0, f64::INFINITY])
            .real(vec![0.0; METRIC_WORDS])
            .real(before.to_vec());
        let after = run_once(gpu, &mut pipelines, &Allowed::portable(), kernel, &case).map_err(|e| e.to_string())?;
        let Some(Data::Real(words)) = after.into_iter().nth(2) else { panic!("the result holds floats") };
        let right = [0.0, expected, 0.0, 6.0, 0.25, 0.5];
        if words[RESULT_FINITE..] != right {
            return Err(format!("{:?} after a skipped update, not {right:?}", &words[RESULT_FINITE..]));
        }
    }
    Ok(())
}

/// Plants the bugs of skipped updates in turn.
pub fn skipped(gpu: &Gpu) -> Vec<(String, Result<String, String>)> {
    skips(gpu, &grad_norm_finish::KERNEL).unwrap_or_else(|e| panic!("reported without a bug: {e}"));
    let plant = |bug: &ShaderBug| {
        let what = format!("a skipped update {}", bug.what);
        (what, skips(gpu, &bug.planted()).err().ok_or_else(|| "nothing is off".to_owned()))
    };
    SKIPPED.iter().map(plant).collect()
}
