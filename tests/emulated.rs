//! The products' forms for matrix units on an adapter without them, the matrices emulated: what they do with tiles,
//! edges, workgroup memory and old values, beside the f64 reference. How a matrix unit adds is not judged here; the
//! self-test on the device does that.

mod common;
#[path = "common/emulated.rs"]
mod emulated;
#[path = "common/jobs.rs"]
mod jobs;

use emulated::emulate;
use hadal::check::compare_dispatch;
use hadal::gpu::device::{COOP8, COOP16, Gpu};
use hadal::gpu::once::run_choice;
use hadal::gpu::pipeline::{Allowed, Choice, Pipelines};
use hadal::gpu::preprocess::preprocess;
use hadal::kernels::case::{Case, run_reference};
use hadal::kernels::{Kernel, latent_attention, matmul, matmul_experts, matmul_experts_weight_grad};

const KERNELS: [&Kernel; 3] = [&matmul::KERNEL, &matmul_experts::KERNEL, &matmul_experts_weight_grad::KERNEL];

/// The adapter, where it stores f16.
fn gpu() -> Option<std::sync::Arc<Gpu>> {
    common::gpu().filter(|gpu| gpu.summary.has_f16())
}

/// The form of `case` with this suffix, emulated after `change` of its text; none where there is no such form, or its
/// text is not to be changed.
fn form(suffix: &'static str, kernel: &Kernel, case: &Case, change: impl Fn(&str) -> Option<String>) -> Option<Choice> {
    let choice = Allowed::with(&[suffix]).choose(kernel, &case.params, case.halves);
    if choice.suffix != suffix {
        return None;
    }
    let text = preprocess(choice.shader, &choice.constants).expect("the shader expands");
    Some(Choice { shader: emulate(&change(&text)?).leak(), ..choice })
}

fn same(text: &str) -> Option<String> {
    Some(text.to_owned())
}

/// Runs `case` so and compares.
fn judge(gpu: &Gpu, pipelines: &mut Pipelines, choice: &Choice, kernel: &Kernel, case: &Case) -> Result<f64, String> {
    let expected = run_reference(kernel, case, kernel.cpu_f64);
    let rounded = run_reference(kernel, case, kernel.cpu_f32);
    let found = run_choice(gpu, pipelines, choice, kernel, case).unwrap_or_else(|e| panic!("{}: {e}", case.name));
    compare_dispatch(kernel, &choice.tolerance, case, &found, &expected, &rounded).map_err(|m| m.to_string())
}

fn agree(gpu: &Gpu, suffix: &'static str, kernel: &Kernel) {
    let (mut pipelines, mut failures, mut count) = (Pipelines::default(), Vec::new(), 0);
    for case in kernel.every_case() {
        if let Some(choice) = form(suffix, kernel, &case, same) {
            failures.extend(judge(gpu, &mut pipelines, &choice, kernel, &case).err());
            count += 1;
        }
    }
    assert!(count >= 2, "{}.{suffix}: {count} cases", kernel.stem);
    assert!(failures.is_empty(), "{suffix}\n{}", failures.join("\n"));
}

/// The forms that are compared, those that take longest to compile first.
const FORMS: [(&str, &Kernel); 7] = [
    (COOP16, KERNELS[0]),
    (COOP16, KERNELS[1]),
    (COOP16, KERNELS[2]),
    (COOP16, &latent_attention::KERNEL),
    (COOP8, KERNELS[0]),
    (COOP8, KERNELS[1]),
    (COOP8, KERNELS[2]),
];
/// What names the number of one.
const FORM: &str = "HADAL_EMULATED";

#[test]
fn forms_for_matrix_units_agree_with_their_references_on_emulated_matrices() {
    let Some(gpu) = gpu() else { return };
    if let Ok(number) = std::env::var(FORM) {
        let (suffix, kernel) = FORMS[number.parse::<usize>().expect("the number of a form")];
        return agree(&gpu, suffix, kernel);
    }
    let jobs: Vec<String> = (0..FORMS.len()).map(|number| number.to_string()).collect();
    jobs::share("forms_for_matrix_units_agree_with_their_references_on_emulated_matrices", FORM, &jobs);
}

/// Mistakes in the text of a form, and the kernel whose cases show each.
const PLANTED: &[(&str, usize, &str, &str)] = &[
    ("a factor not transposed", 0, "coopLoad<coop_mat8x8<f16, B>>", "coopLoadT<coop_mat8x8<f16, B>>"),
    ("the second row of matrices in place of the first", 0, "(y + 0u) *", "(y + 8u) *"),
    ("parts not awaited", 0, "workgroupBarrier();\n        // The next", "// The next"),
    ("sums that begin with what lies there", 0, "stage[strip + lane % 32u + 32u] = 0.0;", ""),
    ("staged rows that are not kept apart", 0, "let strip = lane / 32u * 256u;", "let strip = 0u;"),
    ("the last part again and again", 0, "let next = min(k0 + 32u, last);", "let next = last;"),
    ("rows past an expert's end stored", 1, "if (below < t.rows && right", "if (right"),
    ("the lower half of a tile of the table left out", 1, "number / across % down * 64u", "0u"),
    ("terms past an expert's end", 2, "k0 + line < t.k)", "true)"),
    ("rows of sums past the end stored", 2, "if (y + 24u < t.rows &&", "if (y < t.rows &&"),
];

#[test]
fn the_comparison_reports_bugs_in_a_form_for_matrix_units() {
    let Some(gpu) = gpu() else { return };
    for (what, kernel, old, new) in PLANTED {
        let kernel = KERNELS[*kernel];
        let plant = |text: &str| text.contains(old).then(|| text.replace(old, new));
        let cases = kernel.every_case();
        let planted = cases.iter().filter_map(|case| Some((case, form(COOP8, kernel, case, plant)?)));
        let planted: Vec<_> = planted.collect();
        assert!(!planted.is_empty(), "{what}: no form has the text {old:?}");
        let shows =
            |(case, choice): &(&Case, Choice)| judge(&gpu, &mut Pipelines::default(), choice, kernel, case).is_err();
        let seen = planted.iter().any(shows);
        assert!(seen, "{what}: no case shows it");
    }
}

#[test]
#[should_panic(expected = "multiplied beyond a barrier")]
fn a_factor_that_is_used_after_a_barrier_is_refused() {
    let case = matmul::KERNEL.every_case().into_iter().find(|case| form(COOP8, &matmul::KERNEL, case, same).is_some());
    let late = |text: &str| {
        let (before, after) = text.split_once("        sum0_0 = coopMultiplyAdd")?;
        Some(format!("{before}        workgroupBarrier();\n        sum0_0 = coopMultiplyAdd{after}"))
    };
    form(COOP8, &matmul::KERNEL, &case.expect("a case"), late);
}
