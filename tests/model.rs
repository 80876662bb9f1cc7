//! The recorded network beside the independent judge: logits, losses, and the gradient of every parameter.

mod common;
#[path = "common/models.rs"]
mod models;

use hadal::check::model::{
    check_model, initial_values, small_biased_config, small_config, small_program, wide_program,
};
use hadal::config::model::ModelConfig;
use hadal::config::train::Recompute;
use hadal::gpu::pipeline::Allowed;
use hadal::graph::{Dtype, Tensor};
use hadal::kernels::state::{METRIC_BALANCE, METRIC_CORRECT, METRIC_COUNTED, METRIC_LOSS};
use hadal::kernels::{Access, adamw, case::uniform};
use hadal::model::program::{EVALUATE, FIRST_MICRO_STEP, LOGITS, MICRO_STEP, Program, RESET, UPDATE};
use hadal::model::weights::Parameter;
use hadal::reference::model as judge;
use models::{Fixture, NO_LIMIT, SMALL_LIMIT, fixtures, gradients, relative, relative_l2, run, tiny};

/// Both sides compute in f64; what is left is the order of sums of at most some hundred terms, and the latent norms'
/// epsilon, which the recording rounds to f32: 1e-14 beside mean squares of about 0.1.
const SAME: f64 = 1e-10;

#[test]
fn recorded_logits_and_losses_are_those_of_the_judge() {
    for fixture in fixtures() {
        let (program, name) = (fixture.program(), fixture.name);
        let mut cpu = fixture.executor::<f64>(&program);
        run(&program, &mut cpu, &[LOGITS]);
        let expected = judge::logits(&fixture.config, &fixture.params, &fixture.judge_batch());
        let logits = cpu.get(program.logits.unwrap().logits);
        assert!(relative(logits, &expected) < SAME, "{name}: logits, {:e}", relative(logits, &expected));

        let expected = fixture.judge_loss(&fixture.params);
        for recording in [EVALUATE, MICRO_STEP] {
            run(&program, &mut cpu, &[RESET, recording]);
            let losses = cpu.get(program.inputs.loss.losses);
            let weighted = losses.iter().zip(&fixture.loss_weights).map(|(l, w)| l * w).sum();
            assert!(relative(&[weighted], &[expected.main]) < SAME, "{name}: {weighted} {}", expected.main);
            let metrics = cpu.get(program.inputs.loss.metrics);
            assert!(relative(&[metrics[METRIC_LOSS]], &[losses.iter().sum()]) < 1e-14, "{name}");
            assert_eq!(metrics[METRIC_COUNTED], fixture.batch.counted() as f64, "{name}");
            assert!(metrics[METRIC_CORRECT] <= metrics[METRIC_COUNTED], "{name}");
            let balance = if recording == EVALUATE { 0.0 } else { expected.balance };
            assert!(relative(&[metrics[METRIC_BALANCE]], &[balance]) < SAME, "{name}: {metrics:?} {balance}");
        }
    }
}

#[test]
fn loads_are_the_choices_of_every_micro_step_of_a_window() {
    for fixture in fixtures() {
        for recompute in [Recompute::None, Recompute::Block] {
            let program = models::recomputing(&fixture.config, fixture.binding_limit, 2, 7, recompute);
            let Some(loads) = program.inputs.expert_loads else {
                assert_eq!(fixture.config.moe_layers(), 0, "{}", fixture.name);
                continue;
            };
            let mut cpu = fixture.executor::<f64>(&program);
            run(&program, &mut cpu, &[MICRO_STEP, RESET, FIRST_MICRO_STEP, MICRO_STEP, EVALUATE]);
            let mut expected = vec![0.0; program.tensors.elements(loads)];
            let experts = fixture.config.n_routed_experts;
            for (layer, tokens) in fixture.choices(&fixture.params).iter().enumerate() {
                let text = tokens.iter().zip(&fixture.batch.real).filter(|(_, real)| **real != 0);
                text.flat_map(|(chosen, _)| chosen).for_each(|e| expected[layer * experts + e] += 2.0);
            }
            assert_eq!(cpu.get(loads), expected, "{}", fixture.name);
        }
    }
}

/// Central differences of fourth order over steps of this length along a direction of length 1. The error of the order
/// is about STEP^4 = 1e-12, that of rounding 1e-15 / STEP = 1e-12, both relative to losses near 3.
const STEP: f64 = 1e-3;
/// Allowed error, as a share of the typical derivative along a random direction: the gradient's length over the root of
/// its dimension. Measured at most 3e-10; a wrong factor anywhere shows as 1e-3 and more.
const TOLERANCE: f64 = 1e-8;
/// Directions tried before a parameter is given up because each crosses a tie of a router.
const TRIES: u64 = 8;

/// The worst error of `gradients`, one list a parameter, with the parameter it is found in.
fn worst_derivative(fixture: &Fixture, names: &[String], gradients: &[Vec<f64>]) -> (f64, String) {
    let mut worst = (0.0, String::new());
    for (name, gradient) in names.iter().zip(gradients) {
        let numeric = (0..TRIES).find_map(|seed| {
            let direction = unit(100 + seed, gradient.len());
            derivative(fixture, name, &direction).map(|numeric| (numeric, direction))
        });
        let (numeric, direction) = numeric.unwrap_or_else(|| panic!("{name}: every direction crosses a tie"));
        let exact: f64 = gradient.iter().zip(&direction).map(|(g, v)| g * v).sum();
        let typical = (gradient.iter().map(|g| g * g).sum::<f64>() / gradient.len() as f64).sqrt();
        let shows = typical.is_nan() || typical > 1e-5; // a NaN is an error of its own
        assert!(shows, "{}, {name}: a gradient of {typical:e} shows nothing", fixture.name);
        let error = (numeric - exact).abs() / typical;
        if error.is_nan() || error > worst.0 {
            worst = (error, name.clone());
        }
        if error.is_nan() {
            break;
        }
    }
    worst
}

/// `n` numbers of length 1 together.
fn unit(seed: u64, n: usize) -> Vec<f64> {
    let values = uniform(seed, n);
    let length = values.iter().map(|x| x * x).sum::<f64>().sqrt();
    values.iter().map(|x| x / length).collect()
}

/// Derivative of the judge's loss along `direction` in one parameter; `None` where a router's choice changes.
fn derivative(fixture: &Fixture, name: &str, direction: &[f64]) -> Option<f64> {
    let chosen = fixture.choices(&fixture.params);
    let mut sum = 0.0;
    for (steps, factor) in [(-2.0, 1.0), (-1.0, -8.0), (1.0, 8.0), (2.0, -1.0)] {
        let mut params = fixture.params.clone();
        let values = params.get_mut(name)?;
        values.iter_mut().zip(direction).for_each(|(x, v)| *x += steps * STEP * v);
        if fixture.choices(&params) != chosen {
            return None;
        }
        sum += factor * fixture.judge_loss(&params).total();
    }
    Some(sum / (12.0 * STEP))
}

/// Names of the parameters and their recorded gradients.
fn recorded(fixture: &Fixture) -> (Vec<String>, Vec<Vec<f64>>) {
    let program = fixture.program();
    let mut cpu = fixture.executor::<f64>(&program);
    run(&program, &mut cpu, &[RESET, MICRO_STEP]);
    let trained = program.weights.all.iter().filter(|parameter| parameter.spec.trained);
    let names = trained.map(|parameter| parameter.spec.name.clone()).collect();
    (names, gradients(&program, &cpu))
}

#[test]
fn the_gradient_of_every_parameter_is_the_slope_of_the_judge_s_loss() {
    for fixture in fixtures() {
        let (names, gradients) = recorded(&fixture);
        let (error, at) = worst_derivative(&fixture, &names, &gradients);
        println!("{}: {error:.2e} ({at})", fixture.name);
        assert!(error <= TOLERANCE, "{}, {at}: {error:e}", fixture.name);
    }
}

/// The gradients that the update does not zero.
fn kept_by_the_update(program: &Program) -> Vec<Tensor> {
    let updates = program.recordings[program.recording(UPDATE)].steps.iter().filter(|s| s.kernel.stem == "adamw");
    let kept = updates.filter(|s| bytemuck::pod_read_unaligned::<adamw::Params>(&s.params).zeroed == 0);
    let kept: Vec<Tensor> = kept.map(|step| step.tensors[3]).collect();
    // All but the norms, and where it is not the head too, the embedding.
    let added =
        |p: &Parameter| p.spec.shape.len() == 1 || p.spec.name.contains("embed") && !program.config.tie_word_embeddings;
    let products = program.weights.all.iter().filter(|p| p.spec.trained && !added(p));
    let others: usize = products.map(|p| p.weight.parts.len()).sum();
    assert_eq!(kept.len(), others);
    kept
}

#[test]
fn the_first_micro_step_of_a_window_overwrites_products_and_makes_the_same_gradients() {
    for fixture in fixtures() {
        let program = fixture.program();
        let gradients_of = |names: &[&str], rest: f32| {
            let mut cpu = fixture.executor::<f32>(&program);
            for gradient in kept_by_the_update(&program) {
                let rests = vec![rest; program.tensors.elements(gradient)];
                cpu.set(gradient, &rests);
            }
            run(&program, &mut cpu, names);
            gradients(&program, &cpu)
        };
        let (first, usual) = (gradients_of(&[FIRST_MICRO_STEP], 0.0), gradients_of(&[MICRO_STEP], 0.0));
        assert_eq!(first, usual, "{}", fixture.name);
        // The update leaves as they are only gradients whose rest does not matter: even one that is not a number.
        let over_a_rest = gradients_of(&[FIRST_MICRO_STEP], f32::NAN);
        assert_eq!(over_a_rest, usual, "{}", fixture.name);
        assert_eq!(
            gradients_of(&[FIRST_MICRO_STEP, MICRO_STEP], 0.0),
            gradients_of(&[MICRO_STEP, MICRO_STEP], 0.0),
            "{}",
            fixture.name
        );
    }
}

#[test]
fn an_error_planted_in_one_gradient_is_found_there() {
    let fixture = Fixture::new("planted", tiny(), NO_LIMIT);
    let (names, mut gradients) = recorded(&fixture);
    gradients[7].iter_mut().for_each(|g| *g *= 1.0 + 1e-4);
    let (error, at) = worst_derivative(&fixture, &names, &gradients);
    assert!(error > TOLERANCE && at == names[7], "{at}: {error:e}");
    gradients[2][0] = f64::NAN;
    assert!(worst_derivative(&fixture, &names, &gradients).0.is_nan());
}

#[test]
fn differences_of_values_are_measured_and_nan_is_one() {
    for measure in [relative, relative_l2] {
        assert_eq!(measure(&[1.0, -2.0], &[1.0, -2.0]), 0.0);
        assert!(measure(&[1.0, -2.0], &[1.0, -2.0 - 1e-9]) > 1e-10);
        assert!(measure(&[f64::NAN, -2.0], &[1.0, -2.0]).is_nan());
        assert!(measure(&[1e-100], &[0.0]).is_infinite());
    }
}

#[test]
fn weights_in_parts_give_the_gradients_and_updates_of_whole_ones() {
    let configs = [tiny(), ModelConfig { q_lora_rank: Some(6), tie_word_embeddings: true, ..tiny() }];
    for config in configs {
        let outcome = |limit: u64| {
            let fixture = Fixture::new("parts", config.clone(), limit);
            let program = fixture.program();
            let parts: usize = program.weights.all.iter().map(|p| p.weight.parts.len()).sum();
            let mut cpu = fixture.executor::<f64>(&program);
            run(&program, &mut cpu, &[RESET, MICRO_STEP]);
            let gradients = gradients(&program, &cpu).concat();
            run(&program, &mut cpu, &[UPDATE]);
            let all = &program.weights.all;
            let updated: Vec<f64> = all.iter().flat_map(|p| models::gather(&cpu, &p.weight, |part| part)).collect();
            (parts, gradients, updated)
        };
        let (whole, parts) = (outcome(NO_LIMIT), outcome(SMALL_LIMIT));
        assert!(parts.0 > 2 * whole.0, "{} tensors are {} parts", whole.0, parts.0);
        // The same sums of f64 in another order.
        assert!(relative(&parts.1, &whole.1) < 1e-12);
        assert!(relative(&parts.2, &whole.2) < 1e-7, "AdamW divides by roots that may be near epsilon");
    }
}

#[test]
fn every_part_of_every_parameter_gets_a_gradient_and_an_update() {
    for fixture in fixtures() {
        let program = fixture.program();
        let written = |recording: &str, tensor| {
            let steps = &program.recordings[program.recording(recording)].steps;
            steps.iter().any(|step| step.uses().any(|(t, access)| t == tensor && access != Access::Read))
        };
        for parameter in &program.weights.all {
            for (first, _, part) in parameter.weight.spans() {
                let what = format!("{}: {} from row {first}", fixture.name, parameter.spec.name);
                if !parameter.spec.trained {
                    assert!(program.tensors.gradient_of(part).is_none(), "{what} has a gradient");
                    assert!(!written(MICRO_STEP, part) && written(UPDATE, part), "{what} does not move");
                    continue;
                }
                let gradient = program.tensors.gradient_of(part).unwrap_or_else(|| panic!("{what}"));
                assert!(written(MICRO_STEP, gradient), "{what} gets no gradient");
                assert!(!written(MICRO_STEP, part) && written(UPDATE, part), "{what} is not updated");
                assert!(program.moments.iter().any(|moments| moments.parameter == part), "{what} has no moments");
            }
        }
    }
}

#[test]
fn every_recorded_step_and_the_whole_run_on_the_adapter_as_in_the_judge() {
    let Some(gpu) = common::gpu() else { return };
    let plain = ModelConfig { attention_dropout: 0.0, embed_dropout: 0.0, resid_dropout: 0.0, ..small_config() };
    let biased = ModelConfig { num_hidden_layers: 2, ..small_biased_config() };
    for (config, limit) in
        [(small_config(), NO_LIMIT), (ModelConfig { num_hidden_layers: 2, ..plain }, 1024), (biased, NO_LIMIT)]
    {
        let program = small_program(&config, limit, Dtype::F32);
        let findings = check_model(&gpu, &Allowed::portable(), &program, initial_values).unwrap();
        let steps: usize =
            [RESET, MICRO_STEP, UPDATE].map(|n| program.recordings[program.recording(n)].steps.len()).iter().sum();
        assert!(findings.len() >= steps + 2 * program.moments.len());
        let failures: Vec<String> = findings.into_iter().filter_map(|finding| finding.outcome.err()).collect();
        assert!(failures.is_empty(), "\n{}", failures.join("\n"));
    }
}

#[test]
fn mixed_precision_on_the_adapter_is_that_of_the_cpu() {
    let Some(gpu) = common::gpu().filter(|gpu| gpu.summary.has_f16()) else { return };
    let [plain, biased] = [small_config(), small_biased_config()].map(|c| small_program(&c, 1024, Dtype::F16));
    for program in [plain, biased, wide_program()] {
        let findings = check_model(&gpu, &Allowed::portable(), &program, initial_values).unwrap();
        let failures: Vec<String> = findings.into_iter().filter_map(|finding| finding.outcome.err()).collect();
        assert!(failures.is_empty(), "\n{}", failures.join("\n"));
    }
}

#[test]
fn a_device_with_other_weights_fails_the_check_of_the_whole() {
    let Some(gpu) = common::gpu() else { return };
    let config = ModelConfig { num_hidden_layers: 1, ..small_config() };
    let program = small_program(&config, NO_LIMIT, Dtype::F32);
    let mut calls = 0;
    // The weights are asked for three times: for the steps, for the judge, for the device.
    let findings = check_model(&gpu, &Allowed::portable(), &program, |spec, values| {
        initial_values(spec, values)?;
        calls += 1;
        if calls > 2 * program.weights.all.len() && spec.name == "lm_head.weight" {
            values[0] += 0.1;
        }
        Ok(())
    });
    let failures: Vec<String> = findings.unwrap().into_iter().filter_map(|finding| finding.outcome.err()).collect();
    assert!(failures.iter().any(|f| f.contains("grad.lm_head.weight")), "{failures:?}");
}
