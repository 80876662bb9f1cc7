//! The router's shader on logits that went wrong: later kernels index with its choices.

mod common;

use hadal::gpu::once::run_once;
use hadal::gpu::pipeline::{Allowed, Pipelines};
use hadal::kernels::case::{Case, Data};
use hadal::kernels::router::{KERNEL, Params, SIGMOID, SOFTMAX};

#[test]
fn choices_are_distinct_experts_even_where_logits_are_nan_or_infinite() {
    let Some(gpu) = common::gpu() else { return };
    let (rows, experts, selected) = (6, 12, 4);
    let logits: Vec<f64> = (0..rows * experts)
        .map(|i| match (i / experts, i % experts) {
            (0, _) | (1, 5) => f64::NAN,
            (2, e) if e % 2 == 0 => -f64::NAN,
            (3, _) => f64::NEG_INFINITY,
            (4, 2 | 9) => f64::INFINITY,
            (_, e) => f64::from(e * 5 % 12),
        })
        .collect();
    let kinds = [(SOFTMAX, 0), (SIGMOID, 0), (SIGMOID, 1)];
    for ((groups, groups_kept), (scoring, biased)) in [(1, 1), (4, 2)].into_iter().flat_map(|g| kinds.map(|k| (g, k))) {
        let p = Params {
            rows,
            experts,
            selected,
            groups,
            groups_kept,
            normalise: 1,
            epsilon: 0.0,
            scale: 1.0,
            scoring,
            biased,
        };
        let case = Case::new("wrong logits", &p).real(logits.clone()).uniform(1, experts as usize);
        let case = case.output((rows * experts) as usize).output(rows as usize);
        let case = case.output_index((rows * selected) as usize).output((rows * selected) as usize);
        let after = run_once(&gpu, &mut Pipelines::default(), &Allowed::portable(), &KERNEL, &case).unwrap();
        let Data::Index(chosen) = &after[4] else { panic!("chosen are integers") };
        for chosen in chosen.chunks(selected as usize) {
            let mut sorted = chosen.to_vec();
            sorted.sort_unstable();
            assert!(sorted.windows(2).all(|pair| pair[0] < pair[1]) && sorted[3] < experts, "{chosen:?}");
        }
    }
}
