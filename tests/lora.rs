//! Adapters beside frozen weights: what they compute, what their gradients are, and what is left out beside them.

mod common;
#[path = "common/models.rs"]
mod models;

use hadal::check::model::{check_model, initial_values};
use hadal::config::lora::{LoraConfig, LoraTarget};
use hadal::config::model::ModelConfig;
use hadal::config::train::{OptimizerConfig, Recompute};
use hadal::gpu::pipeline::Allowed;
use hadal::graph::run_cpu::CpuExecutor;
use hadal::graph::{Dtype, Executor, Role};
use hadal::kernels::{Access, case::uniform};
use hadal::model::inputs::BatchSize;
use hadal::model::lora::{adapted, is_adapter, merge, names};
use hadal::model::params::ParamSpec;
use hadal::model::program::{FIRST_MICRO_STEP, LOGITS, MICRO_STEP, Program, ProgramOptions, RESET, UPDATE};
use models::{Fixture, NO_LIMIT, SMALL_LIMIT, biased, gradients, relative, run, tiny};
use std::collections::HashMap;

/// A factor that is not 1, with adapters on everything that can have them.
fn everywhere(c: &ModelConfig) -> LoraConfig {
    use LoraTarget::{DownProj, GateProj, KvAProjWithMqa, KvBProj, LmHead, OProj, QAProj, QBProj, QProj, UpProj};
    let mut targets = vec![KvAProjWithMqa, KvBProj, OProj, GateProj, UpProj, DownProj];
    targets.extend(if c.q_lora_rank.is_some() { vec![QAProj, QBProj] } else { vec![QProj] });
    targets.extend((!c.tie_word_embeddings).then_some(LmHead));
    LoraConfig { rank: 3, alpha: Some(4.5), targets: Some(targets) }
}

fn on(targets: &[LoraTarget]) -> LoraConfig {
    LoraConfig { targets: Some(targets.to_vec()), ..everywhere(&tiny()) }
}

fn program(config: &ModelConfig, lora: &LoraConfig, limit: u64, stored: Dtype, recompute: Recompute) -> Program {
    let size = BatchSize { batch: 2, length: 7 };
    let (optimizer, logit_rows) = (Some(OptimizerConfig::default()), Some(size.tokens()));
    let options = ProgramOptions { size, binding_limit: limit, optimizer, logit_rows, stored, recompute };
    Program::new(config, &adapted(config, lora), &options)
}

/// The same in f32, with nothing made again.
fn plain(config: &ModelConfig, lora: &LoraConfig, limit: u64) -> Program {
    program(config, lora, limit, Dtype::F32, Recompute::None)
}

/// Models with every linear layer, whole and in parts, with numbers in all adapters.
fn fixtures() -> Vec<Fixture> {
    let latent = ModelConfig { q_lora_rank: Some(6), ..tiny() };
    let tied = ModelConfig { tie_word_embeddings: true, ..latent.clone() };
    let all = [
        ("queries whole", tiny(), NO_LIMIT),
        ("queries from a latent", latent, NO_LIMIT),
        ("a tied head, in parts", tied, SMALL_LIMIT),
        ("selection biases, in parts", biased(tiny()), SMALL_LIMIT),
    ];
    all.map(|(name, config, limit)| {
        let mut fixture = Fixture::new(name, config, limit);
        let specs = adapted(&fixture.config, &everywhere(&fixture.config));
        for (seed, spec) in (300..).zip(specs.iter().filter(|spec| is_adapter(spec))) {
            let values = uniform(seed, spec.elements()).iter().map(|x| 0.5 * x).collect();
            fixture.params.insert(spec.name.clone(), values);
        }
        fixture
    })
    .into()
}

/// `W + scale B A` in place of each W that has an adapter.
fn merged(fixture: &Fixture, params: &HashMap<String, Vec<f64>>) -> HashMap<String, Vec<f64>> {
    let lora = everywhere(&fixture.config);
    let mut all = params.clone();
    for spec in adapted(&fixture.config, &lora).iter().filter(|spec| spec.adapter.is_some()) {
        let [a, b] = names(&spec.name).map(|name| &params[&name]);
        let [outputs, inputs] = spec.shape[spec.shape.len() - 2..].try_into().unwrap();
        for (i, w) in all.get_mut(&spec.name).unwrap().iter_mut().enumerate() {
            let (row, column) = (i / inputs, i % inputs);
            let of = |k: usize| b[row * lora.rank + k] * a[(row / outputs * lora.rank + k) * inputs + column];
            *w += 1.5 * (0..lora.rank).map(of).sum::<f64>();
        }
    }
    all
}

#[test]
fn adapters_compute_what_the_judge_computes_with_merged_matrices() {
    for fixture in fixtures() {
        let program = plain(&fixture.config, &everywhere(&fixture.config), fixture.binding_limit);
        let mut cpu = fixture.executor::<f64>(&program);
        run(&program, &mut cpu, &[LOGITS, RESET, MICRO_STEP]);
        let params = merged(&fixture, &fixture.params);
        let expected = hadal::reference::model::logits(&fixture.config, &params, &fixture.judge_batch());
        let logits = cpu.get(program.logits.unwrap().logits);
        assert!(relative(logits, &expected) < 1e-10, "{}: {:e}", fixture.name, relative(logits, &expected));
        let alone = hadal::reference::model::logits(&fixture.config, &fixture.params, &fixture.judge_batch());
        assert!(relative(logits, &alone) > 0.1, "{}: the adapters change nothing", fixture.name);
        let losses = cpu.get(program.inputs.loss.losses);
        let weighted: f64 = losses.iter().zip(&fixture.loss_weights).map(|(l, w)| l * w).sum();
        assert!(relative(&[weighted], &[fixture.judge_loss(&params).main]) < 1e-10, "{}", fixture.name);
    }
}

#[test]
fn merged_weights_give_the_logits_of_unmerged_ones() {
    for fixture in fixtures() {
        let lora = everywhere(&fixture.config);
        let (apart, whole) =
            (plain(&fixture.config, &lora, NO_LIMIT), models::program(&fixture.config, NO_LIMIT, 2, 7));
        let mut together =
            Fixture { params: fixture.params.clone(), ..Fixture::new("", fixture.config.clone(), NO_LIMIT) };
        let narrow = |values: &[f64]| values.iter().map(|&x| x as f32).collect::<Vec<f32>>();
        for spec in adapted(&fixture.config, &lora).iter().filter(|spec| spec.adapter.is_some()) {
            let mut weight = narrow(&fixture.params[&spec.name]);
            let [a, b] = names(&spec.name).map(|name| narrow(&fixture.params[&name]));
            merge(&mut weight, [&a, &b], spec.disk.len(), lora.rank, lora.scale());
            together.params.insert(spec.name.clone(), weight.into_iter().map(f64::from).collect());
        }
        let logits = |fixture: &Fixture, program: &Program| {
            let mut cpu = fixture.executor::<f32>(program);
            run(program, &mut cpu, &[LOGITS]);
            cpu.get(program.logits.unwrap().logits).iter().map(|&x| f64::from(x)).collect::<Vec<_>>()
        };
        let error = relative(&logits(&fixture, &apart), &logits(&together, &whole));
        println!("{}: {error:.2e}", fixture.name);
        assert!(error < 1e-5, "{}: {error:e}", fixture.name);
    }
}

/// The largest error of the gradients of adapters beside central differences of the judge's loss with merged matrices,
/// along one direction each, as a share of a typical derivative.
fn worst(fixture: &Fixture, specs: &[&ParamSpec], gradients: &[Vec<f64>]) -> (f64, String) {
    let mut worst = (0.0, String::new());
    for (spec, gradient) in specs.iter().zip(gradients) {
        let typical = (gradient.iter().map(|g| g * g).sum::<f64>() / gradient.len() as f64).sqrt();
        assert!(typical > 1e-5, "{}, {}: a gradient of {typical:e} shows nothing", fixture.name, spec.name);
        let chosen = fixture.choices(&merged(fixture, &fixture.params));
        let numeric = (0..8).find_map(|seed| {
            let direction = uniform(900 + seed, gradient.len());
            let length = direction.iter().map(|x| x * x).sum::<f64>().sqrt();
            let mut sum = 0.0;
            for (steps, factor) in [(-2.0, 1.0), (-1.0, -8.0), (1.0, 8.0), (2.0, -1.0)] {
                let mut params = fixture.params.clone();
                let values = params.get_mut(&spec.name)?;
                values.iter_mut().zip(&direction).for_each(|(x, v)| *x += steps * 1e-3 * v / length);
                let params = merged(fixture, &params);
                if fixture.choices(&params) != chosen {
                    return None; // the direction crosses a tie of a router
                }
                sum += factor * fixture.judge_loss(&params).total();
            }
            let exact: f64 = gradient.iter().zip(&direction).map(|(g, v)| g * v / length).sum();
            Some((sum / 12e-3 - exact).abs() / typical)
        });
        let error = numeric.unwrap_or_else(|| panic!("{}: every direction crosses a tie", spec.name));
        if error > worst.0 {
            worst = (error, spec.name.clone());
        }
    }
    worst
}

#[test]
fn the_gradient_of_every_adapter_is_the_slope_of_the_judge_s_loss_and_a_planted_error_shows() {
    for fixture in fixtures() {
        let lora = everywhere(&fixture.config);
        let program = plain(&fixture.config, &lora, fixture.binding_limit);
        let mut cpu = fixture.executor::<f64>(&program);
        run(&program, &mut cpu, &[RESET, MICRO_STEP]);
        let specs = adapted(&fixture.config, &lora);
        let specs: Vec<&ParamSpec> = specs.iter().filter(|spec| spec.trained).collect();
        let mut gradients = gradients(&program, &cpu);
        let (error, at) = worst(&fixture, &specs, &gradients);
        println!("{}: {error:.2e} ({at})", fixture.name);
        assert!(error < 1e-7, "{}, {at}: {error:e}", fixture.name);
        gradients[3].iter_mut().for_each(|g| *g *= 1.0 + 1e-4);
        assert_eq!(worst(&fixture, &specs[3..4], &gradients[3..4]).1, specs[3].name);
        assert!(worst(&fixture, &specs[3..4], &gradients[3..4]).0 > 1e-6);
    }
}

/// Kernels of a pass, with how often each runs.
fn calls(program: &Program) -> HashMap<&'static str, usize> {
    let mut calls = HashMap::new();
    let steps = &program.recordings[program.recording(MICRO_STEP)].steps;
    steps.iter().for_each(|step| *calls.entry(step.kernel.stem).or_default() += 1);
    calls
}

#[test]
fn nothing_writes_a_gradient_of_a_frozen_weight_and_none_is_made_before_the_first_adapter() {
    let config = ModelConfig { aux_loss_alpha: 0.0, ..tiny() };
    let specs = adapted(&config, &everywhere(&config));
    let adapters: Vec<String> = specs.iter().filter(|s| s.trained).map(|s| s.name.clone()).collect();
    let program = plain(&config, &everywhere(&config), NO_LIMIT);
    let named = |role| -> Vec<String> {
        let of = program.tensors.iter().filter(|(_, info)| info.role == role);
        of.map(|(_, info)| info.name.split_once('.').unwrap().1.to_owned()).collect()
    };
    assert_eq!(named(Role::Gradient), adapters);
    assert_eq!(named(Role::Moment).len(), 2 * adapters.len());
    for name in [FIRST_MICRO_STEP, UPDATE] {
        for (tensor, access) in program.recordings[program.recording(name)].steps.iter().flat_map(|s| s.uses()) {
            let info = program.tensors.info(tensor);
            if access != Access::Read && matches!(info.role, Role::Parameter | Role::Gradient) {
                assert!(info.name.contains(".lora_"), "{name} writes {}", info.name);
            }
        }
    }
    let calls_of = calls(&program);
    assert!(!calls_of.contains_key("embed_backward") && !calls_of.contains_key("rms_norm_weight_grad"));
    // Of the first layer's input no gradient is of use: one norm less on the way back than in front, the last included.
    let norms =
        |calls: &HashMap<&str, usize>| (calls["rms_norm"], calls.get("rms_norm_backward").copied().unwrap_or(0));
    assert_eq!(norms(&calls_of), (7, 6));
    // With an adapter at the head alone, the way back ends there.
    let head = calls(&plain(&config, &on(&[LoraTarget::LmHead]), NO_LIMIT));
    assert_eq!(norms(&head), (7, 0));
    assert!(head.keys().all(|stem| !stem.contains("attention_") && !stem.contains("swiglu_b")), "{head:?}");
    // With queries alone, the first layer wants no gradient of keys and values.
    let queries = calls(&plain(&config, &on(&[LoraTarget::QProj]), NO_LIMIT));
    assert_eq!((queries["attention_backward_q"], queries["attention_backward_kv"]), (2, 1));
}

#[test]
fn the_plan_has_the_bytes_of_a_count_by_hand() {
    let config = ModelConfig { first_k_dense_replace: 2, ..tiny() };
    let lora = LoraConfig { rank: 4, ..LoraConfig::default() };
    // 16 wide; 2 heads of 12 + 4 query and 12 + 4 key and value columns; a latent of 8.
    let pairs = 2 * 4 * ((16 + 32) + (16 + 12) + (8 + 32) + (8 + 16));
    let matrices = 2 * (16 * 32 + 16 * 12 + 8 * 32 + 8 * 16 + 3 * 16 * 24) + 17 * 16;
    let (embedding, norms) = (17 * 16, 2 * (16 + 16 + 8) + 16);
    let whole = plain(&config, &lora, NO_LIMIT).plan();
    let bytes = |plan: &hadal::graph::plan::Plan, role| plan.bytes_of(role);
    assert_eq!(bytes(&whole, Role::Parameter), 4 * (pairs + matrices + embedding + norms));
    assert_eq!((bytes(&whole, Role::Gradient), bytes(&whole, Role::Moment)), (4 * pairs, 8 * pairs));
    // Frozen matrices are f16 and nothing else, adapters f32 with a copy.
    let half = program(&config, &lora, NO_LIMIT, Dtype::F16, Recompute::None).plan();
    assert_eq!(bytes(&half, Role::Parameter), 4 * (pairs + embedding + norms) + 2 * matrices);
    assert_eq!(bytes(&half, Role::Copy), 2 * pairs);
}

#[test]
fn recomputed_and_overwritten_gradients_are_the_same_bits() {
    for fixture in fixtures() {
        let lora = everywhere(&fixture.config);
        let outcome = |recompute, names: &[&str]| {
            let program = program(&fixture.config, &lora, fixture.binding_limit, Dtype::F32, recompute);
            let mut cpu = fixture.executor::<f32>(&program);
            run(&program, &mut cpu, names);
            gradients(&program, &cpu)
        };
        let usual = outcome(Recompute::None, &[MICRO_STEP, MICRO_STEP]);
        assert!(usual.iter().flatten().any(|&g| g != 0.0));
        for recompute in [Recompute::None, Recompute::Ffn, Recompute::Block] {
            let found = outcome(recompute, &[FIRST_MICRO_STEP, MICRO_STEP]);
            assert_eq!(found, usual, "{}, {recompute:?}", fixture.name);
        }
    }
}

#[test]
fn a_product_that_is_needed_for_a_frozen_matrix_alone_is_not_made_again() {
    let products = |lora: &LoraConfig, recompute| {
        let config = ModelConfig { num_hidden_layers: 3, first_k_dense_replace: 3, ..tiny() };
        calls(&program(&config, lora, NO_LIMIT, Dtype::F32, recompute))
    };
    let more = |lora: &LoraConfig, stem| products(lora, Recompute::Block)[stem] - products(lora, Recompute::None)[stem];
    let attention = LoraConfig { rank: 3, ..LoraConfig::default() };
    // In each of two layers: gate and up, but not the gated product, which the frozen matrix down does not want; the
    // four frozen products of attention but the last, and of each pair the two where its result is wanted again.
    assert_eq!(more(&attention, "swiglu"), 0);
    assert_eq!(more(&everywhere(&tiny()), "swiglu"), 2);
    // At the head alone nothing is made again.
    assert_eq!(more(&on(&[LoraTarget::LmHead]), "matmul"), 0);
}

#[test]
fn selection_biases_stay_as_they_are_beside_adapters() {
    let config = biased(ModelConfig { bias_update_speed: 0.25, ..tiny() });
    let stems = |program: Program| {
        let update = &program.recordings[program.recording(UPDATE)];
        update.steps.iter().filter(|step| step.kernel.stem == "expert_bias").count()
    };
    assert_eq!(stems(plain(&config, &LoraConfig::default(), NO_LIMIT)), 1);
    assert_eq!(stems(plain(&config, &everywhere(&config), NO_LIMIT)), 0);
}

/// Start values, but numbers in B, too.
fn values(spec: &ParamSpec, values: &mut [f32]) -> hadal::error::Result<()> {
    initial_values(&ParamSpec { trained: true, ..spec.clone() }, values)?;
    if spec.name.contains(".lora_B") || spec.name.contains("correction_bias") {
        values.iter_mut().zip(uniform(3, spec.elements())).for_each(|(value, x)| *value = 0.25 * x as f32);
    }
    Ok(())
}

#[test]
fn an_adapter_of_the_machine_computes_them_in_f32_and_f16() {
    let Some(gpu) = common::gpu() else { return };
    let formats = [Dtype::F32, Dtype::F16].into_iter().filter(|&d| d == Dtype::F32 || gpu.summary.has_f16());
    let tied = ModelConfig { tie_word_embeddings: true, ..tiny() };
    let configs = [tiny(), biased(tiny()), tied];
    for (stored, config) in formats.flat_map(|stored| configs.clone().map(|config| (stored, config))) {
        let program = program(&config, &everywhere(&config), 1024, stored, Recompute::Ffn);
        let findings = check_model(&gpu, &Allowed::portable(), &program, values).unwrap();
        let failed: Vec<&String> = findings.iter().filter_map(|finding| finding.outcome.as_ref().err()).collect();
        assert!(failed.is_empty(), "{stored:?}: {failed:#?}");
    }
}

#[test]
fn a_narrow_program_s_frozen_matrices_are_those_of_the_wide_one_rounded() {
    let (config, lora) = (tiny(), everywhere(&tiny()));
    let loss = |stored| {
        let program = program(&config, &lora, NO_LIMIT, stored, Recompute::None);
        let mut cpu = CpuExecutor::<f32>::new(&program.tensors, &program.recordings);
        hadal::check::model::fill(&program, &mut cpu, values).unwrap();
        cpu.run(program.recording("refresh")).unwrap();
        run(&program, &mut cpu, &[RESET, FIRST_MICRO_STEP]);
        let losses = cpu.get(program.inputs.loss.losses).iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
        (losses, gradients(&program, &cpu).concat())
    };
    let (wide, narrow) = (loss(Dtype::F32), loss(Dtype::F16));
    assert!(relative(&narrow.0, &wide.0) < 5e-3, "{:e}", relative(&narrow.0, &wide.0));
    assert!(models::relative_l2(&narrow.1, &wide.1) < 2e-2, "{:e}", models::relative_l2(&narrow.1, &wide.1));
    assert_ne!(narrow.0, wide.0);
}
