//! Every kernel on every case: the GPU's result beside the f64 reference. `HADAL_KERNEL=stem` runs one kernel.

mod common;

use hadal::check::ops::check_ops;
use hadal::gpu::pipeline::Allowed;
use hadal::kernels::KERNELS;

#[test]
fn every_kernel_agrees_with_its_f64_reference_on_every_case() {
    let Some(gpu) = common::gpu() else { return };
    let only = std::env::var("HADAL_KERNEL").ok();
    for kernel in KERNELS {
        assert!((kernel.cases)().len() >= 3, "{}: a kernel needs several cases", kernel.stem);
    }
    let findings = check_ops(&gpu, &Allowed::portable(), only.as_deref()).expect("every dispatch runs");
    assert!(!findings.is_empty(), "no kernel is called {only:?}");
    for finding in &findings {
        if let Ok(share) = finding.outcome {
            println!("{:60} {share:.3} of the allowed error", finding.what);
        }
    }
    let failures: Vec<String> = findings.into_iter().filter_map(|f| f.outcome.err()).collect();
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}
