//! The judge of recorded gradients: central differences of a program's objective, in f64 on the CPU.

use crate::ops::Program;
use hadal::graph::run_cpu::CpuExecutor;
use hadal::graph::{Executor, Tensor};

/// Truncation and cancellation of central differences in f64 stay below this share of the largest gradient.
const TOLERANCE: f64 = 1e-6;

/// An executor of `program` with its inputs.
pub fn executor(program: &Program) -> CpuExecutor<f64> {
    let mut cpu = CpuExecutor::<f64>::new(&program.tensors, std::slice::from_ref(&program.recording));
    program.reals.iter().for_each(|(tensor, values)| cpu.set(*tensor, values));
    for (tensor, values) in &program.integers {
        cpu.upload_indices(*tensor, values).expect("main memory takes integers");
    }
    cpu
}

/// The objective with one element moved.
fn objective(program: &Program, moved: Option<(Tensor, usize, f64)>) -> f64 {
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

/// Compares recorded and numeric gradients of `program`, or describes the first that is too far off.
pub fn judge(program: &Program, recorded: &mut CpuExecutor<f64>) -> Result<(), String> {
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
            let passes = (g - n).abs() <= TOLERANCE * largest; // which a NaN does not
            if !passes {
                let name = &program.tensors.info(x).name;
                return Err(format!("{}: d {name}[{i}] is {g}, differences say {n}", program.name));
            }
        }
    }
    Ok(())
}
