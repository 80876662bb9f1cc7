//! Every kernel on every case: the GPU's result beside the f64 reference. `HADAL_KERNEL=stem` runs one kernel.

mod common;

use hadal::check::compare_dispatch;
use hadal::gpu::once::run_once;
use hadal::gpu::pipeline::{Allowed, Pipelines};
use hadal::kernels::KERNELS;
use hadal::kernels::case::run_reference;

#[test]
fn every_kernel_agrees_with_its_f64_reference_on_every_case() {
    let Some(gpu) = common::gpu() else { return };
    let only = std::env::var("HADAL_KERNEL").ok();
    let mut pipelines = Pipelines::default();
    let mut failures = Vec::new();
    for kernel in KERNELS.iter().filter(|k| only.as_ref().is_none_or(|stem| stem == k.stem)) {
        let cases = (kernel.cases)();
        assert!(cases.len() >= 3, "{}: a kernel needs several cases", kernel.stem);
        for case in cases {
            let expected = run_reference(kernel, &case, kernel.cpu_f64);
            let rounded = run_reference(kernel, &case, kernel.cpu_f32);
            let found = run_once(&gpu, &mut pipelines, &Allowed::portable(), kernel, &case).expect("the dispatch runs");
            match compare_dispatch(kernel, &case.name, &found, &expected, &rounded) {
                Ok(worst) => println!("{:28} {:40} {worst:.3} of the allowed error", kernel.stem, case.name),
                Err(mismatch) => failures.push(mismatch.to_string()),
            }
        }
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}
