//! Moments of 8 bits: equal bits on every device, parts, files, and the memory that they spare.

mod common;
#[path = "common/models.rs"]
mod models;
#[path = "common/runs.rs"]
mod runs;

use hadal::check::model::{check_model, initial_values, small_config};
use hadal::config::model::ModelConfig;
use hadal::config::train::{OptimizerConfig, OptimizerKind, Recompute};
use hadal::gpu::once::run_once;
use hadal::gpu::pipeline::{Allowed, Pipelines};
use hadal::graph::{Dtype, Role};
use hadal::kernels::Kernel;
use hadal::kernels::adamw8bit::{KERNEL, Params, SMALLEST};
use hadal::kernels::case::{Case, Data, run_reference, uniform};
use hadal::kernels::state;
use hadal::model::inputs::BatchSize;
use hadal::model::moments::Kept;
use hadal::model::params::{parameters, start_values};
use hadal::model::program::{Program, ProgramOptions};
use hadal::reference::adamw8bit::maps;
use hadal::train::checkpoint::{TrainerState, load, save};
use hadal::train::moments::MomentValues;
use hadal::train::session::Session;
use models::{NO_LIMIT, tiny};
use std::path::Path;

/// Numbers of both signs whose sizes spread from below the smallest f32 to 2^20.
fn sizes(seed: u64, n: usize) -> Vec<f64> {
    let exponents = uniform(seed + 1, n).into_iter().map(|x| 80.0 * x - 60.0);
    uniform(seed, n).into_iter().zip(exponents).map(|(x, e)| x.signum() * e.exp2()).collect()
}

/// The case of the `t`-th update of `n` elements with the contents that `before` left.
fn update(t: u64, p: Params, before: Option<&[Data]>) -> Case {
    let (n, blocks) = (p.count as usize, p.count.div_ceil(p.block) as usize);
    let mut words = vec![0; state::STATE_WORDS];
    words[state::STATE_LEARNING_RATE] = 0.01f32.to_bits();
    let mut result = vec![0.0; state::RESULT_WORDS];
    (result[state::RESULT_CLIP], result[state::RESULT_FINITE]) = (0.7, 1.0);
    result[state::RESULT_CORRECTION1] = f64::from(1.0 - p.beta1.powi(t as i32));
    result[state::RESULT_CORRECTION2] = f64::from(1.0 - p.beta2.powi(t as i32));
    let values = maps().into_iter().map(f64::from).collect();
    let case = Case::new(format!("update {t}"), &p).index(words).real(result).real(values);
    let mut case = case
        .uniform(1, n)
        .real(sizes(10 * t, n))
        .index(vec![0; n.div_ceil(4) * 2])
        .real(vec![0.0; 2 * blocks])
        .uniform(2, n);
    if let Some(before) = before {
        for bind in [3, 5, 6] {
            case.data[bind] = before[bind].clone();
        }
    }
    case
}

/// Bits of the codes and factors after a dispatch.
fn coded(after: &[Data]) -> Vec<u32> {
    let (Data::Index(codes), Data::Real(absmax)) = (&after[5], &after[6]) else { panic!("other bindings") };
    codes.iter().copied().chain(absmax.iter().map(|&x| (x as f32).to_bits())).collect()
}

#[test]
fn codes_and_factors_have_the_bits_of_the_reference_after_every_update() {
    let Some(gpu) = common::gpu() else { return };
    let mut pipelines = Pipelines::default();
    for (count, block) in [(40_000, 256), (30_001, 2048), (10_000, 20)] {
        let (beta1, beta2, epsilon, weight_decay) = (0.9, 0.95, 1e-8, 0.1);
        let p = Params { count, block, beta1, beta2, epsilon, weight_decay, copied: 1, zeroed: 1, zero: 0 };
        let mut before: Option<Vec<Data>> = None;
        for t in 1..=4 {
            let case = update(t, p, before.as_deref());
            let found = run_once(&gpu, &mut pipelines, &Allowed::portable(), &KERNEL, &case).unwrap();
            let expected = run_reference(&KERNEL, &case, KERNEL.cpu_f32);
            assert!(coded(&found) == coded(&expected), "{count} in blocks of {block}, {}", case.name);
            assert!(coded(&found) == coded(&run_reference(&KERNEL, &case, KERNEL.cpu_f64)));
            before = Some(expected);
        }
    }
}

#[test]
fn bits_that_differ_in_rounding_alone_are_seen() {
    let Some(gpu) = common::gpu() else { return };
    let p = Params {
        count: 40_000,
        block: 256,
        beta1: 0.9,
        beta2: 0.95,
        epsilon: 1e-8,
        weight_decay: 0.1,
        copied: 1,
        zeroed: 1,
        zero: 0,
    };
    let case = update(2, p, Some(&run_reference(&KERNEL, &update(1, p, None), KERNEL.cpu_f32)));
    let expected = coded(&run_reference(&KERNEL, &case, KERNEL.cpu_f32));
    for (old, new) in [
        ("exact(exact(fade2 * g) * g)", "exact(fade2 * exact(g * g))"),
        ("(bits & vec4(0x7f000000u)) == vec4<u32>()", "vec4<bool>()"),
    ] {
        assert_eq!(KERNEL.shader.matches(old).count(), 1, "{old}");
        let kernel = Kernel { shader: KERNEL.shader.replace(old, new).leak(), ..KERNEL };
        let found = run_once(&gpu, &mut Pipelines::default(), &Allowed::portable(), &kernel, &case).unwrap();
        assert!(coded(&found) != expected, "{new}");
    }
}

/// A model with parameters on both sides of the smallest size that is coded.
fn config() -> ModelConfig {
    ModelConfig { vocab_size: 300, moe_intermediate_size: 70, ..tiny() }
}

fn optimizer(kind: OptimizerKind) -> OptimizerConfig {
    OptimizerConfig { kind, block_size: 64, ..OptimizerConfig::default() }
}

fn program(config: &ModelConfig, kind: OptimizerKind, binding_limit: u64) -> Program {
    let size = BatchSize { batch: 2, length: 13 };
    let (optimizer, recompute) = (Some(optimizer(kind)), Recompute::None);
    let options = ProgramOptions { size, binding_limit, optimizer, logit_rows: None, stored: Dtype::F32, recompute };
    Program::new(config, &parameters(config), &options)
}

#[test]
fn a_model_with_8_bit_moments_runs_on_the_adapter_as_in_the_judge() {
    let Some(gpu) = common::gpu() else { return };
    let config = ModelConfig { vocab_size: 180, num_hidden_layers: 1, ..small_config() };
    let program = program(&config, OptimizerKind::Adamw8bit, 1 << 30);
    assert!(program.maps.is_some());
    let findings = check_model(&gpu, &Allowed::portable(), &program, initial_values).unwrap();
    assert!(findings.iter().any(|finding| finding.what.starts_with("adamw8bit")));
    let failures: Vec<String> = findings.into_iter().filter_map(|finding| finding.outcome.err()).collect();
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

#[test]
fn the_plan_counts_a_byte_a_moment_and_a_factor_a_block() {
    let config = config();
    let mut expected = 0;
    for spec in parameters(&config) {
        let n = spec.elements() as u64;
        let coded = 8 * n.div_ceil(4) + 8 * n.div_ceil(64);
        expected += if n < SMALLEST as u64 { 8 * n } else { coded };
    }
    let bytes = |kind| program(&config, kind, NO_LIMIT).plan().bytes_of(Role::Moment);
    assert_eq!(bytes(OptimizerKind::Adamw8bit), expected);
    assert_eq!(bytes(OptimizerKind::Adamw), 8 * config.total_parameters());
    assert!(program(&tiny(), OptimizerKind::Adamw8bit, NO_LIMIT).maps.is_none(), "every parameter is small");
}

#[test]
fn parts_of_a_parameter_hold_whole_blocks() {
    let config = ModelConfig { hidden_size: 18, num_attention_heads: 3, ..config() }; // 32 rows are 9 blocks
    let program = program(&config, OptimizerKind::Adamw8bit, 1000);
    let (mut coded, mut parts) = (0, 0);
    for parameter in &program.weights.all {
        let spans: Vec<_> = parameter.weight.spans().collect();
        let last = spans.len() - 1;
        for (_, _, part) in &spans[..last] {
            let kept = program.moments.iter().find(|moments| moments.parameter == *part).unwrap().kept;
            if let Kept::Coded { .. } = kept {
                assert!(program.tensors.elements(*part).is_multiple_of(64), "{}", parameter.spec.name);
                coded += 1;
            }
        }
        parts += last;
    }
    assert!(coded > 4 && parts > coded, "{coded} of {parts}");
}

/// A session with weights and moments that are no zeros.
fn session(kind: OptimizerKind, binding_limit: u64) -> Session {
    let config = config();
    let mut session = Session::new(program(&config, kind, binding_limit), &runs::cpu(), None).unwrap();
    session.load(start_values(3)).unwrap();
    for i in 0..session.program.weights.all.len() {
        let n = session.program.weights.all[i].spec.elements();
        let values = |seed| uniform(seed, n).into_iter().map(|x| x as f32).collect::<Vec<f32>>();
        let bytes = |seed| values(seed).into_iter().map(|x| (128.0 + 127.0 * x) as u8).collect();
        let factors = |seed| values(seed)[..n.div_ceil(64)].iter().map(|x| x.abs()).collect();
        let moments = if kind == OptimizerKind::Adamw8bit && n >= SMALLEST {
            MomentValues::Coded { codes: [bytes(1), bytes(2)], absmax: [factors(3), factors(4)] }
        } else {
            MomentValues::Whole([values(1), values(2)])
        };
        session.load_moments(i, &moments).unwrap();
        assert!(session.moments(i).unwrap() == moments, "moment {i}");
    }
    session
}

/// A checkpoint of `session` in `run`.
fn checkpoint(run: &Path, session: &mut Session) -> std::path::PathBuf {
    let tokenizer = hadal::tokenizer::Tokenizer::load("byte").unwrap();
    let state = TrainerState::first(1);
    save(run, session, &tokenizer, &state).unwrap()
}

#[test]
fn moments_read_back_bit_for_bit_also_into_parts() {
    let run = tempfile::tempdir().unwrap();
    let mut written = session(OptimizerKind::Adamw8bit, NO_LIMIT);
    let folder = checkpoint(run.path(), &mut written);
    for limit in [NO_LIMIT, 1000] {
        let mut read = Session::new(program(&config(), OptimizerKind::Adamw8bit, limit), &runs::cpu(), None).unwrap();
        load(&folder, &mut read).unwrap();
        for i in 0..read.program.weights.all.len() {
            assert!(read.moments(i).unwrap() == written.moments(i).unwrap(), "moment {i}");
        }
    }
}

#[test]
fn files_of_other_moments_are_refused_in_words() {
    let run = tempfile::tempdir().unwrap();
    let mut whole = session(OptimizerKind::Adamw, NO_LIMIT);
    let mut coded = session(OptimizerKind::Adamw8bit, NO_LIMIT);
    let [of_whole, of_coded] = [("whole", &mut whole), ("coded", &mut coded)]
        .map(|(name, session)| checkpoint(&run.path().join(name), session));
    let refusal = |folder: &Path, session: &mut Session, words: &[&str]| {
        let error = load(folder, session).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        for word in words {
            assert!(error.to_string().contains(word), "{word}: {error}");
        }
    };
    refusal(&of_whole, &mut coded, &["optimizer.kind", "m.model.embed_tokens.weight U8 [300, 16]"]);
    refusal(&of_coded, &mut whole, &["optimizer.kind", "m.model.embed_tokens.weight F32 [300, 16]"]);
    let path = of_coded.join("optimizer.safetensors");
    let sound = std::fs::read(&path).unwrap();
    let header = 8 + u64::from_le_bytes(sound[..8].try_into().unwrap()) as usize;
    let text = String::from_utf8(sound[8..header].to_vec()).unwrap();
    let forge = |text: &str| [&(text.len() as u64).to_le_bytes(), text.as_bytes(), &sound[header..]].concat();
    for (old, new, word) in [
        ("\"m.model.embed_tokens.weight.absmax\"", "\"other\"", "missing or different"),
        ("\"shape\":[300,16]", "\"shape\":[16,300]", "embed_tokens"),
        ("\"dtype\":\"U8\"", "\"dtype\":\"I8\"", "U8"),
        ("\"shape\":[75]", "\"shape\":[74]", "sound"),
        (
            "\"__metadata__\":{",
            "\"extra\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]},\"__metadata__\":{",
            "not part",
        ),
    ] {
        assert!(text.contains(old), "{old} in {text}");
        std::fs::write(&path, forge(&text.replace(old, new))).unwrap();
        refusal(&of_coded, &mut coded, &[word]);
    }
    for wrong in [-1.0, f32::NAN, f32::INFINITY] {
        let mut other = session(OptimizerKind::Adamw8bit, NO_LIMIT);
        let mut moments = other.moments(0).unwrap();
        let MomentValues::Coded { absmax, .. } = &mut moments else { panic!("of 8 bits") };
        absmax[1][3] = wrong;
        other.load_moments(0, &moments).unwrap();
        let folder = checkpoint(&run.path().join("factor"), &mut other);
        refusal(&folder, &mut coded, &["embed_tokens", "negative or not finite"]);
    }
}
