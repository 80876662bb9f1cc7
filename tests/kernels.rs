//! Every kernel on every case: the GPU's result beside the f64 reference. `HADAL_KERNEL=stem` runs one kernel, and
//! `HADAL_KERNEL=one,other` several.

mod common;
#[path = "common/jobs.rs"]
mod jobs;

use hadal::check::ops::check_ops;
use hadal::gpu::pipeline::Allowed;
use hadal::kernels::KERNELS;
use std::cmp::Reverse;

/// What names kernels.
const ONLY: &str = "HADAL_KERNEL";
/// Processes that share the kernels: more than cores, since some kernels take long.
const JOBS: usize = 32;

#[test]
fn every_kernel_agrees_with_its_f64_reference_on_every_case() {
    let Some(gpu) = common::gpu() else { return };
    let Ok(only) = std::env::var(ONLY) else {
        for kernel in KERNELS {
            assert!((kernel.cases)().len() >= 3, "{}: a kernel needs several cases", kernel.stem);
        }
        // Those that take long come first, and each in another process.
        let mut kernels = KERNELS.to_vec();
        kernels.sort_by_key(|kernel| Reverse(kernel.every_case().len()));
        let stems: Vec<&str> = kernels.iter().map(|kernel| kernel.stem).collect();
        let job = |i: usize| stems.iter().skip(i).step_by(JOBS).copied().collect::<Vec<_>>().join(",");
        let jobs: Vec<String> = (0..JOBS).map(job).collect();
        return jobs::share("every_kernel_agrees_with_its_f64_reference_on_every_case", ONLY, &jobs);
    };
    let mut failures = Vec::new();
    for stem in only.split(',') {
        let findings = check_ops(&gpu, &Allowed::portable(), Some(stem)).expect("every dispatch runs");
        assert!(!findings.is_empty(), "no kernel is called {stem}");
        for finding in findings {
            match finding.outcome {
                Ok(share) => println!("{:60} {share:.3} of the allowed error", finding.what),
                Err(failure) => failures.push(failure),
            }
        }
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}
