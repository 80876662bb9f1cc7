//! Every kernel on its own cases.

use super::{Finding, compare_dispatch};
use crate::error::Result;
use crate::gpu::device::Gpu;
use crate::gpu::once::run_once;
use crate::gpu::pipeline::{Allowed, Pipelines};
use crate::kernels::case::{Case, run_reference};
use crate::kernels::{KERNELS, Kernel};

/// Runs `case` on the device and in both precisions of the reference, and compares.
pub fn judge(gpu: &Gpu, pipelines: &mut Pipelines, kernel: &Kernel, case: &Case) -> Result<Finding> {
    let expected = run_reference(kernel, case, kernel.cpu_f64);
    let rounded = run_reference(kernel, case, kernel.cpu_f32);
    let found = run_once(gpu, pipelines, &Allowed::portable(), kernel, case)?;
    let outcome = compare_dispatch(kernel, &case.name, &found, &expected, &rounded).map_err(|m| m.to_string());
    Ok(Finding { what: format!("{}, {}", kernel.stem, case.name), outcome })
}

/// Runs the cases of all kernels, or of the one called `only`.
pub fn check_ops(gpu: &Gpu, only: Option<&str>) -> Result<Vec<Finding>> {
    let mut pipelines = Pipelines::default();
    let mut findings = Vec::new();
    for kernel in KERNELS.iter().filter(|k| only.is_none_or(|stem| stem == k.stem)) {
        for case in (kernel.cases)() {
            findings.push(judge(gpu, &mut pipelines, kernel, &case)?);
        }
    }
    Ok(findings)
}
