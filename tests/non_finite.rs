//! Gradients that are not finite must leave the parameters alone. Comparing with a reference cannot show this, since no
//! tolerance holds for infinities.

mod common;

use hadal::gpu::once::run_once;
use hadal::gpu::pipeline::{Allowed, Pipelines};
use hadal::kernels::case::{Case, Data, run_reference, uniform};
use hadal::kernels::state::{
    METRIC_LOSS, METRIC_WORDS, RESULT_CLEAN, RESULT_CLIP, RESULT_CORRECTION1, RESULT_CORRECTION2, RESULT_FINITE,
    RESULT_LOSS_SCALE, RESULT_SKIPPED, RESULT_WORDS, STATE_WORDS, first_result,
};
use hadal::kernels::{Kernel, adamw, adamw8bit, grad_norm, grad_norm_finish};
use hadal::reference::adamw8bit::maps;

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
            Some(Data::Index(values)) => values.into_iter().map(f64::from).collect(),
            None => panic!("there is no binding {binding}"),
        })
        .collect()
}

/// The results for a gradient of two workgroups whose element 4999 is `odd`, after one clean update, at a loss scale
/// of 4.
fn results(odd: f64) -> Vec<Vec<f64>> {
    results_at_loss(odd, 5.0)
}

fn results_at_loss(odd: f64, loss: f64) -> Vec<Vec<f64>> {
    let (count, mut metrics) = (8000, vec![0.0; METRIC_WORDS]);
    metrics[METRIC_LOSS] = loss;
    let mut gradient = uniform(1, count);
    gradient[4999] = odd;
    let sums = grad_norm::partials(count as u32);
    let norm = grad_norm::Params { count: count as u32, first_partial: 0, partials: sums };
    let finish =
        grad_norm_finish::Params { partials: sums, clip_norm: 1.0, beta1: 0.9, beta2: 0.95, growth_interval: 3 };
    let squares = Case::new("squares", &norm).real(gradient).output(sums as usize);
    outcomes(&grad_norm::KERNEL, &squares, 1)
        .into_iter()
        .flat_map(|partials| {
            let mut result = first_result(4.0).map(f64::from);
            (result[RESULT_CLEAN], result[RESULT_CORRECTION1], result[RESULT_CORRECTION2]) = (1.0, 0.25, 0.5);
            let case = Case::new("finish", &finish).real(partials).real(metrics.clone()).real(result.to_vec());
            outcomes(&grad_norm_finish::KERNEL, &case, 2)
        })
        .collect()
}

#[test]
fn one_bad_element_clears_the_finite_flag() {
    assert!(results(1e15).iter().all(|result| result[RESULT_FINITE] == 1.0));
    // The last one is finite, but its square is not.
    for odd in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e30] {
        assert!(results(odd).iter().all(|result| result[RESULT_FINITE] == 0.0), "{odd}");
    }
}

#[test]
fn a_bad_loss_clears_the_finite_flag_too() {
    for loss in [f64::NAN, f64::INFINITY] {
        assert!(results_at_loss(1.0, loss).iter().all(|result| result[RESULT_FINITE] == 0.0), "{loss}");
    }
}

#[test]
fn a_bad_gradient_halves_the_loss_scale_counts_as_skipped_and_leaves_the_bias_corrections() {
    for result in results(f64::INFINITY) {
        assert_eq!(result[RESULT_LOSS_SCALE..], [2.0, 0.0, 1.0, 0.25, 0.5]);
    }
    for result in results(1.0) {
        assert_eq!(result[RESULT_LOSS_SCALE..=RESULT_SKIPPED], [4.0, 2.0, 0.0]);
        assert!((result[RESULT_CORRECTION1] - 0.325).abs() < 1e-6);
    }
}

#[test]
fn a_bad_gradient_changes_no_parameter_and_is_zeroed() {
    let p = adamw::Params { count: 8, beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weight_decay: 0.1, copied: 1, zeroed: 1 };
    let mut result = vec![f64::NAN; RESULT_WORDS];
    (result[RESULT_CLIP], result[RESULT_FINITE]) = (f64::NAN, 0.0);
    let before: Vec<Vec<f64>> = (1..5).map(|seed| uniform(seed, 8)).collect();
    let case = Case::new("skipped", &p)
        .index(vec![1.0f32.to_bits(); STATE_WORDS])
        .real(result)
        .real(before[0].clone())
        .real(vec![f64::NAN, 1.0, f64::INFINITY, -1.0, 0.0, 2.0, f64::NEG_INFINITY, 1e30])
        .real(before[1].clone())
        .real(before[2].clone())
        .real(before[3].clone());
    for (binding, expected) in [(2, &before[0]), (3, &vec![0.0; 8]), (4, &before[1]), (5, &before[2]), (6, &before[3])]
    {
        for found in outcomes(&adamw::KERNEL, &case, binding) {
            assert_eq!(&found, expected, "binding {binding}");
        }
    }
}

#[test]
fn a_bad_gradient_changes_no_8_bit_moment_and_is_zeroed() {
    let p = adamw8bit::Params {
        count: 8,
        block: 4,
        beta1: 0.9,
        beta2: 0.95,
        epsilon: 1e-8,
        weight_decay: 0.1,
        copied: 1,
        zeroed: 1,
        zero: 0,
    };
    let mut result = vec![f64::NAN; RESULT_WORDS];
    (result[RESULT_CLIP], result[RESULT_FINITE]) = (f64::NAN, 0.0);
    let (before, factors, codes) = (uniform(1, 8), uniform(2, 4), vec![1, 2, 3, 4]);
    let case = Case::new("skipped", &p)
        .index(vec![1.0f32.to_bits(); STATE_WORDS])
        .real(result)
        .real(maps().into_iter().map(f64::from).collect())
        .real(before.clone())
        .real(vec![f64::NAN, 1.0, f64::INFINITY, -1.0, 0.0, 2.0, f64::NEG_INFINITY, 1e30])
        .index(codes.clone())
        .real(factors.clone())
        .real(vec![0.25; 8]);
    for (binding, expected) in [
        (3, &before),
        (4, &vec![0.0; 8]),
        (5, &codes.into_iter().map(f64::from).collect()),
        (6, &factors),
        (7, &vec![0.25; 8]),
    ] {
        for found in outcomes(&adamw8bit::KERNEL, &case, binding) {
            assert_eq!(&found, expected, "binding {binding}");
        }
    }
}
