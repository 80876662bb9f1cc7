//! Conversations in one row have the loss and the gradients that they have alone.

use super::models::{NO_LIMIT, gradients, program, relative, state_words, tiny};
use hadal::chat::Encoded;
use hadal::chat::pack::{best_fit, row};
use hadal::config::model::ModelConfig;
use hadal::config::train::LossReduction;
use hadal::data::Row;
use hadal::data::batch::Batch;
use hadal::graph::Executor;
use hadal::graph::run_cpu::CpuExecutor;
use hadal::kernels::case::indices;
use hadal::kernels::state::METRIC_LOSS;
use hadal::model::params::start_values;
use hadal::model::program::{FIRST_MICRO_STEP, RESET};
use hadal::train::session::feed;
use hadal::train::window::weigh;

const LENGTH: usize = 24;

/// Three conversations of 7, 10 and 6 tokens, of which about half count.
fn conversations() -> Vec<Encoded> {
    let one =
        |(seed, n): (u64, usize)| Encoded { ids: indices(seed, n, 17), counted: (0..n).map(|i| i % 4 > 1).collect() };
    [(1, 7), (2, 10), (3, 6)].map(one).into()
}

/// Loss sum and gradients of a batch of these rows, in f64. The balance loss is off: it counts each row as a sequence.
fn judged(rows: &[Row]) -> (f64, Vec<Vec<f64>>) {
    let mut window = [Batch::of_rows(rows, rows.len())];
    weigh(&mut window, LossReduction::Tokens);
    let config = ModelConfig { aux_loss_alpha: 0.0, ..tiny() };
    let program = program(&config, NO_LIMIT, rows.len(), LENGTH);
    let mut cpu = CpuExecutor::<f64>::new(&program.tensors, &program.recordings);
    hadal::check::model::fill(&program, &mut cpu, start_values(3)).unwrap();
    cpu.upload_indices(program.inputs.state, &state_words(rows.len())).unwrap();
    cpu.run(program.recording(RESET)).unwrap();
    feed(&mut cpu, &program.inputs, &window[0]).unwrap();
    cpu.run(program.recording(FIRST_MICRO_STEP)).unwrap();
    (cpu.get(program.inputs.loss.metrics)[METRIC_LOSS], gradients(&program, &cpu))
}

/// The largest relative difference of loss and gradients.
fn difference(a: &(f64, Vec<Vec<f64>>), b: &(f64, Vec<Vec<f64>>)) -> f64 {
    let gradients = a.1.iter().zip(&b.1).map(|(a, b)| relative(a, b));
    gradients.fold(relative(&[a.0], &[b.0]), f64::max)
}

#[test]
fn packed_loss_and_gradients_are_those_of_each_conversation_alone() {
    let all = conversations();
    let alone: Vec<Row> = all.iter().map(|one| row([one], LENGTH)).collect();
    let packed = row(&all, LENGTH);
    assert_eq!(packed.real.iter().sum::<u32>(), 6 + 9 + 5);
    let (alone, together) = (judged(&alone), judged(std::slice::from_ref(&packed)));
    assert!(alone.0 > 1.0 && difference(&together, &alone) < 1e-6, "{}", difference(&together, &alone));
    // Each of the three things that keep conversations apart is needed.
    let mut seen = packed.clone();
    seen.document_start.fill(0);
    let mut shifted = packed.clone();
    shifted.positions = (0..LENGTH as u32).collect();
    let mut joined = packed.clone();
    joined.targets[5] = all[1].ids[0];
    let differences = [&seen, &joined].map(|row| difference(&judged(std::slice::from_ref(row)), &alone));
    assert!(differences.iter().all(|&difference| difference > 1e-4), "{differences:?}");
    // Rotation is relative: positions that go on change nothing but rounding, until they pass the trained length.
    assert!(difference(&judged(&[shifted]), &alone) < 1e-6);
}

#[test]
fn rows_are_filled_best_fit_and_hold_every_conversation_once() {
    assert_eq!(best_fit(&[5, 9, 4, 1, 6, 10], 10), [vec![5], vec![1, 3], vec![4, 2], vec![0]]);
    let sizes: Vec<usize> = indices(4, 500, 40).iter().map(|&n| n as usize + 1).collect();
    let rows = best_fit(&sizes, 40);
    let mut all: Vec<u32> = rows.concat();
    all.sort_unstable();
    assert_eq!(all, (0..500).collect::<Vec<u32>>());
    let filled = |row: &Vec<u32>| row.iter().map(|&i| sizes[i as usize]).sum::<usize>();
    assert!(rows.iter().all(|row| filled(row) <= 40));
    let share = sizes.iter().sum::<usize>() as f64 / (rows.len() * 40) as f64;
    assert!(share > 0.97, "{share}");
}
