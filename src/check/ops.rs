//! Every kernel on its own cases.

use super::{Finding, compare_dispatch};
use crate::error::Result;
use crate::gpu::device::Gpu;
use crate::gpu::once::run_once;
use crate::gpu::pipeline::{Allowed, Pipelines};
use crate::kernels::case::{Case, run_reference};
use crate::kernels::{KERNELS, Kernel};

/// Runs `case` on the device and in both precisions of the reference, and compares.
pub fn judge(gpu: &Gpu, pipelines: &mut Pipelines, allowed: &Allowed, kernel: &Kernel, case: &Case) -> Result<Finding> {
    let expected = run_reference(kernel, case, kernel.cpu_f64);
    let rounded = run_reference(kernel, case, kernel.cpu_f32);
    let found = run_once(gpu, pipelines, allowed, kernel, case)?;
    let choice = allowed.choose(kernel, &case.params, case.halves);
    let outcome = compare_dispatch(kernel, &choice.tolerance, case, &found, &expected, &rounded);
    let what = format!("{}, {}", choice.form(kernel), case.name);
    Ok(Finding { what, outcome: outcome.map_err(|m| m.to_string()) })
}

/// Runs the cases of all kernels, or of the one called `only`: in the portable form, and where `allowed` has a faster
/// one, in that too. Cases in f16 are left out where the device cannot store it.
pub fn check_ops(gpu: &Gpu, allowed: &Allowed, only: Option<&str>) -> Result<Vec<Finding>> {
    let mut pipelines = Pipelines::default();
    let mut findings = Vec::new();
    for kernel in KERNELS.iter().filter(|k| only.is_none_or(|stem| stem == k.stem)) {
        for case in kernel.every_case() {
            if case.halves.any() && !gpu.summary.has_f16() {
                continue;
            }
            findings.push(judge(gpu, &mut pipelines, &Allowed::portable(), kernel, &case)?);
            if !allowed.choose(kernel, &case.params, case.halves).suffix.is_empty() {
                findings.push(judge(gpu, &mut pipelines, allowed, kernel, &case)?);
            }
        }
    }
    Ok(findings)
}
