//! Numeric self-tests of kernel variants on the very device: nothing in wgpu or naga promises that a cooperative-matrix
//! shader computes what it says.

use super::device::Gpu;
use super::once::run_once;
use super::pipeline::{Allowed, Pipelines};
use crate::kernels::case::{Case, Data, run_reference};
use crate::kernels::{Kernel, matmul};

/// Products of whole numbers up to 8 over k = 512 stay exact in f16 and f32, so the sums must be equal to the bit.
fn integer_case() -> Case {
    let (m, n, k) = (128, 256, 512);
    let params = matmul::Params::dense(matmul::NT, matmul::ADD, m, n, k);
    let whole = |seed, count: u32| {
        let values = crate::kernels::case::uniform(seed, count as usize);
        values.into_iter().map(|x| (x * 8.0).round()).collect::<Vec<_>>()
    };
    let a = whole(1, m * k);
    Case::new("whole numbers", &params).real(a.clone()).real(whole(2, n * k)).real(a).real(whole(3, m * n))
}

/// Whether the 16x16x16 product works on this device; the reason if not.
pub fn cooperative_16(gpu: &Gpu) -> Result<(), String> {
    if !gpu.summary.cooperative_16 {
        return Err(format!("{} offers no 16x16x16 f16 products in subgroups of 32", gpu.summary.name));
    }
    let kernel: &Kernel = &matmul::KERNEL;
    let case = integer_case();
    let allowed = Allowed::with(&["coop16"]);
    if allowed.choose(kernel, &case.params, case.halves).suffix != "coop16" {
        return Err("the self-test's sizes do not fit the matrix units' kernel".to_owned());
    }
    let expected = run_reference(kernel, &case, kernel.cpu_f64);
    let found = run_once(gpu, &mut Pipelines::default(), &allowed, kernel, &case).map_err(|e| e.to_string())?;
    match (&found[3], &expected[3]) {
        (Data::Real(f), Data::Real(e)) if f == e => Ok(()),
        _ => Err(format!("{} failed the self-test of its matrix units", gpu.summary.name)),
    }
}
