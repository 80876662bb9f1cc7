//! Numeric self-tests of kernel variants on the very device: nothing in wgpu or naga promises that a cooperative-matrix
//! shader computes what it says.

use super::device::Gpu;
use super::once::run_once;
use super::pipeline::{Allowed, Pipelines};
use crate::check::ops::judge;
use crate::kernels::case::{Case, Data, run_reference};
use crate::kernels::{Halves, Kernel, attention, attention_backward_kv, attention_backward_q, latent_attention};
use crate::kernels::{matmul, matmul_experts, matmul_experts_weight_grad};

/// Every case of the products that runs their variant with this suffix, on whole numbers: -1, 0 and 1 in place of
/// numbers from -1 to 1, so that sums stay exact in f16 and f32 and results must be equal to the bit.
fn whole_cases(suffix: &'static str) -> Vec<(&'static Kernel, Case)> {
    let kernels: [&'static Kernel; 3] = [&matmul::KERNEL, &matmul_experts::KERNEL, &matmul_experts_weight_grad::KERNEL];
    let allowed = Allowed::with(&[suffix]);
    let mut found = Vec::new();
    for kernel in kernels {
        for case in (kernel.cases)() {
            // Results as f16, and as f32.
            for halves in [Halves::all(kernel.binds), Halves::first(2)] {
                let mut case = case.stored(kernel.binds, halves);
                if allowed.choose(kernel, &case.params, halves).suffix == suffix {
                    case.data.iter_mut().for_each(round);
                    found.push((kernel, case));
                }
            }
        }
    }
    found
}

fn round(data: &mut Data) {
    if let Data::Real(x) = data {
        x.iter_mut().for_each(|x| *x = x.round());
    }
}

/// The last case of each attention kernel that runs its variant with this suffix, where it has one: the widest heads or
/// lines.
/// Their exponentials are never exact, so results are judged by the variant's tolerance.
fn attention_cases(suffix: &'static str) -> Vec<(&'static Kernel, Case)> {
    let kernels: [&'static Kernel; 4] =
        [&attention::KERNEL, &attention_backward_q::KERNEL, &attention_backward_kv::KERNEL, &latent_attention::KERNEL];
    let allowed = Allowed::with(&[suffix]);
    let widest = |kernel: &'static Kernel| {
        let stored =
            (kernel.cases)().into_iter().rev().map(|case| case.stored(kernel.binds, Halves::all(kernel.binds)));
        let mut cases = stored.filter(|case| allowed.choose(kernel, &case.params, case.halves).suffix == suffix);
        cases.next().map(|case| (kernel, case))
    };
    kernels.into_iter().filter_map(widest).collect()
}

/// Suffix of the variants for matrix units that work on this device, in every form; the reason if none do.
pub fn matrix_units(gpu: &Gpu) -> Result<&'static str, String> {
    let Some(suffix) = gpu.summary.matrix_units else {
        let wanted =
            "f16 products with f32 sums of 16x16x16 in subgroups of 32 with 48 KiB, nor of 8x8x8 through Metal";
        return Err(format!("{} offers no {wanted}", gpu.summary.name));
    };
    let (allowed, mut pipelines) = (Allowed::with(&[suffix]), Pipelines::default());
    for (kernel, case) in whole_cases(suffix) {
        let expected = run_reference(kernel, &case, kernel.cpu_f32);
        let found = run_once(gpu, &mut pipelines, &allowed, kernel, &case).map_err(|e| e.to_string())?;
        match (found.last(), expected.last()) {
            (Some(Data::Real(f)), Some(Data::Real(e))) if f == e => {}
            _ => {
                return Err(format!(
                    "{} failed the self-test of its matrix units: {}, {}",
                    gpu.summary.name, kernel.stem, case.name
                ));
            }
        }
    }
    for (kernel, case) in attention_cases(suffix) {
        let finding = judge(gpu, &mut pipelines, &allowed, kernel, &case).map_err(|e| e.to_string())?;
        let failed = |reason| format!("{} failed the self-test of its matrix units: {reason}", gpu.summary.name);
        finding.outcome.map_err(failed)?;
    }
    Ok(suffix)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::device::{COOP8, COOP16};

    /// A self-test that ran nothing would pass: every kernel, both types of result, sums that f16 can hold.
    #[test]
    fn every_form_is_tested_on_numbers_that_stay_exact() {
        for suffix in [COOP16, COOP8] {
            let cases = whole_cases(suffix);
            assert!(cases.len() >= 8, "{suffix}: {}", cases.len());
            for (kernel, case) in &cases {
                let expected = run_reference(kernel, case, kernel.cpu_f32);
                let Some(Data::Real(sums)) = expected.last() else { panic!("{}: no floats", kernel.stem) };
                let exact = |x: &f64| half::f16::from_f64(*x).to_f64() == *x;
                assert!(sums.iter().all(exact), "{}, {}", kernel.stem, case.name);
                assert!(sums.iter().any(|x| *x != 0.0));
            }
            for stem in ["matmul", "matmul_experts", "matmul_experts_weight_grad"] {
                assert!(cases.iter().any(|(kernel, _)| kernel.stem == stem), "{stem}.{suffix}");
            }
        }
    }

    #[test]
    fn every_attention_kernel_on_matrix_units_is_tested_at_the_widest_heads() {
        assert!(attention_cases(COOP8).is_empty(), "Metal runs the portable forms");
        let cases = attention_cases(COOP16);
        let stems: Vec<&str> = cases.iter().map(|(kernel, _)| kernel.stem).collect();
        assert_eq!(stems, ["attention", "attention_backward_q", "attention_backward_kv", "latent_attention"]);
        assert!(cases.iter().all(|(_, case)| case.name.starts_with("wide ") && case.name.contains(" in sixteens")));
    }
}
