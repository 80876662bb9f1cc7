//! Each operation's recorded backward pass, in f64 on the CPU, beside central differences: no GPU needed.

#[path = "common/ops.rs"]
mod ops;

use hadal::graph::Executor;
use hadal::graph::run_cpu::CpuExecutor;
use ops::{Program, programs};

/// Truncation and cancellation of central differences in f64 stay below this share of the largest gradient.
const TOLERANCE: f64 = 1e-6;

fn executor(program: &Program) -> CpuExecutor<f64> {
    let mut cpu = CpuExecutor::<f64>::new(&program.tensors, std::slice::from_ref(&program.recording));
    program.reals.iter().for_each(|(tensor, values)| cpu.set(*tensor, values));
    for (tensor, values) in &program.integers {
        cpu.upload_indices(*tensor, values).expect("main memory takes integers");
    }
    cpu
}

/// The objective with one element moved.
fn objective(program: &Program, moved: Option<(hadal::graph::Tensor, usize, f64)>) -> f64 {
    let mut cpu = executor(program);
    if let Some((tensor, i, value)) = moved {
        let mut values = cpu.get(tensor).to_vec();
        values[i] = value;
        cpu.set(tensor, &values);
    }
    cpu.run(0).expect("the CPU runs");
    let sum = |(tensor, factors): &(_, Vec<f64>)| cpu.get(*tensor).iter().zip(factors).map(|(y, f)| y * f).sum::<f64>();
    program.objective.iter().map(sum).sum()
}

/// The worst difference between recorded and numeric gradients of `program`, or a description of the first too large.
fn judge(program: &Program, recorded: &mut CpuExecutor<f64>) -> Result<(), String> {
    for &x in &program.wanted {
        let values = recorded.get(x).to_vec();
        let gradient = recorded.get(program.gradient(x)).to_vec();
        let numeric: Vec<f64> = values
            .iter()
            .enumerate()
            .map(|(i, &v)| {
                let h = 1e-5 * v.abs().max(1.0);
                let up = objective(program, Some((x, i, v + h)));
                let down = objective(program, Some((x, i, v - h)));
                (up - down) / (2.0 * h)
            })
            .collect();
        let largest = numeric.iter().fold(0.0f64, |m, g| m.max(g.abs()));
        assert!(largest > 0.0, "{}: {} does not matter", program.name, program.tensors.info(x).name);
        for (i, (g, n)) in gradient.iter().zip(&numeric).enumerate() {
            let within = (g - n).abs() <= TOLERANCE * largest; // false for a NaN
            if !within {
                let name = &program.tensors.info(x).name;
                return Err(format!("{}: d {name}[{i}] is {g}, differences say {n}", program.name));
            }
        }
    }
    Ok(())
}

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
