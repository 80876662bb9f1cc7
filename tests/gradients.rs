//! Each operation's recorded backward pass, in f64 on the CPU, beside central differences: no GPU needed.

#[path = "common/differences.rs"]
mod differences;
#[path = "common/ops.rs"]
mod ops;

use differences::{executor, judge};
use hadal::graph::Executor;
use ops::programs;

#[test]
fn every_operation_s_gradient_is_that_of_its_values() {
    for program in programs() {
        let mut cpu = executor(&program);
        cpu.run(0).expect("the CPU runs");
        judge(&program, &mut cpu).unwrap_or_else(|e| panic!("{e}"));
    }
}

#[test]
fn a_planted_error_in_a_gradient_is_reported() {
    let program = programs().remove(0);
    let mut cpu = executor(&program);
    cpu.run(0).expect("the CPU runs");
    let gradient = program.gradient(program.wanted[0]);
    let mut planted = cpu.get(gradient).to_vec();
    planted[3] *= 1.0 + 1e-4;
    cpu.set(gradient, &planted);
    assert!(judge(&program, &mut cpu).is_err());
}

#[test]
fn parameter_gradients_accumulate_over_replays() {
    for program in programs() {
        let mut cpu = executor(&program);
        cpu.run(0).expect("the CPU runs");
        let parameters: Vec<_> = program.wanted.iter().filter_map(|&x| program.tensors.gradient_of(x)).collect();
        let once: Vec<Vec<f64>> = parameters.iter().map(|&g| cpu.get(g).to_vec()).collect();
        cpu.run(0).expect("the CPU runs");
        for (&gradient, once) in parameters.iter().zip(&once) {
            for (twice, once) in cpu.get(gradient).iter().zip(once) {
                approx::assert_relative_eq!(*twice, 2.0 * once, max_relative = 1e-12, epsilon = 1e-300);
            }
        }
    }
}
