//! Gradients that are not finite must leave the parameters alone. Comparing with a reference cannot show this, since no
//! tolerance holds for infinities.

mod common;

use hadal::gpu::once::run_once;
use hadal::gpu::pipeline::{Allowed, Pipelines};
use hadal::kernels::case::{Case, Data, run_reference, uniform};
use hadal::kernels::state::{RESULT_CLIP, RESULT_FINITE, RESULT_WORDS, STATE_WORDS};
use hadal::kernels::{Kernel, adamw, grad_norm, grad_norm_finish};

/// What one binding holds after `case`, on the CPU and, where there is one, on the GPU.
fn outcomes(kernel: &Kernel, case: &Case, binding: usize) -> Vec<Vec<f64>> {
    let mut found = vec![run_reference(kernel, case, kernel.cpu_f32)];
    if let Some(gpu) = common::gpu() {
        let run = run_once(&gpu, &mut Pipelines::default(), &Allowed::portable(), kernel, case);
        found.push(run.expect("the dispatch runs"));
    }
    found
        .into_iter()
        .map(|data| match data.into_iter().nth(binding) {
            Some(Data::Real(values)) => values,
            _ => panic!("binding {binding} holds no floats"),
        })
        .collect()
}

/// The finite flags for a gradient of two workgroups whose element 4999 is `odd`.
fn finite_flags(odd: f64) -> Vec<f64> {
    let count = 8000;
    let mut gradient = uniform(1, count);
    gradient[4999] = odd;
    let sums = grad_norm::partials(count as u32);
    let norm = grad_norm::Params { count: count as u32, first_partial: 0, partials: sums };
    let finish = grad_norm_finish::Params { partials: sums, clip_norm: 1.0 };
    let squares = Case::new("squares", &norm).real(gradient).output(sums as usize);
    outcomes(&grad_norm::KERNEL, &squares, 1)
        .into_iter()
        .flat_map(|partials| {
            let case = Case::new("finish", &finish).real(partials).output(RESULT_WORDS);
            outcomes(&grad_norm_finish::KERNEL, &case, 1)
        })
        .map(|result| result[RESULT_FINITE])
        .collect()
}

#[test]
fn one_bad_element_clears_the_finite_flag() {
    assert!(finite_flags(1e15).iter().all(|&flag| flag == 1.0));
    // The last one is finite, but its square is not.
    for odd in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e30] {
        assert!(finite_flags(odd).iter().all(|&flag| flag == 0.0), "{odd}");
    }
}

#[test]
fn a_bad_gradient_changes_no_parameter_and_is_zeroed() {
    let p = adamw::Params { count: 8, beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weight_decay: 0.1 };
    let mut result = vec![f64::NAN; RESULT_WORDS];
    (result[RESULT_CLIP], result[RESULT_FINITE]) = (f64::NAN, 0.0);
    let before: Vec<Vec<f64>> = (1..4).map(|seed| uniform(seed, 8)).collect();
    let case = Case::new("skipped", &p)
        .index(vec![1.0f32.to_bits(); STATE_WORDS])
        .real(result)
        .real(before[0].clone())
        .real(vec![f64::NAN, 1.0, f64::INFINITY, -1.0, 0.0, 2.0, f64::NEG_INFINITY, 1e30])
        .real(before[1].clone())
        .real(before[2].clone());
    for (binding, expected) in [(2, &before[0]), (3, &vec![0.0; 8]), (4, &before[1]), (5, &before[2])] {
        for found in outcomes(&adamw::KERNEL, &case, binding) {
            assert_eq!(&found, expected, "binding {binding}");
        }
    }
}
