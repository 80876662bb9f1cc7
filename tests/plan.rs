//! The memory plan of programs of random small models: tensors that live at the same time never share a buffer.

use hadal::config::Config;
use hadal::config::lora::{LoraConfig, LoraTarget};
use hadal::config::model::{ModelConfig, RouterWeights, ScoringFunc, TopkMethod};
use hadal::config::train::{OptimizerConfig, Recompute};
use hadal::gpu::pipeline::Allowed;
use hadal::graph::plan::Plan;
use hadal::graph::{Dtype, Recording, Role, Step, Tensor, Tensors};
use hadal::kernels::{Access, matmul, matmul_experts, sum_slices};
use hadal::model::decoder::{Decoder, DecoderOptions};
use hadal::model::inputs::BatchSize;
use hadal::model::lora::adapted;
use hadal::model::params::parameters;
use hadal::model::program::{MICRO_STEP, Program, ProgramOptions};
use hadal::model::weights::Weights;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::{HashMap, HashSet};

/// A program of a random model that the configuration's own rules accept.
fn random_program(seed: u64) -> Program {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut up_to = |end: usize| rng.next_u32() as usize % (end + 1);
    let rate = |on: usize| if on == 0 { 0.0 } else { 0.25 };
    let heads = 1 + up_to(2);
    let group = 1 + up_to(2);
    let mut config = ModelConfig {
        vocab_size: 5 + up_to(60),
        hidden_size: heads * (4 + up_to(12)),
        num_hidden_layers: 1 + up_to(3),
        num_attention_heads: heads,
        q_lora_rank: [None, Some(3 + up_to(6))][up_to(1)],
        kv_lora_rank: 3 + up_to(12),
        qk_nope_head_dim: 1 + up_to(9),
        qk_rope_head_dim: 2 + 2 * up_to(3),
        v_head_dim: 1 + up_to(9),
        intermediate_size: 1 + up_to(40),
        moe_intermediate_size: 1 + up_to(20),
        n_routed_experts: 2 * group,
        n_shared_experts: up_to(2),
        num_experts_per_tok: 1 + up_to(group - 1),
        first_k_dense_replace: up_to(4),
        topk_method: [TopkMethod::Greedy, TopkMethod::GroupLimitedGreedy][up_to(1)],
        n_group: 2,
        router_weights: [RouterWeights::Hf, RouterWeights::NormScale][up_to(1)],
        aux_loss_alpha: rate(up_to(1)),
        tie_word_embeddings: up_to(1) == 1,
        attention_dropout: rate(up_to(1)),
        embed_dropout: rate(up_to(1)),
        resid_dropout: rate(up_to(1)),
        ..ModelConfig::default()
    };
    if group > 1 && up_to(2) == 0 {
        (config.scoring_func, config.topk_method) = (ScoringFunc::Sigmoid, TopkMethod::NoauxTc);
        config.router_weights = RouterWeights::Hf;
    }
    config.validate().unwrap_or_else(|e| panic!("{e}"));
    let size = BatchSize { batch: 1 + up_to(2), length: 1 + up_to(20) };
    let binding_limit = [1 << 30, 4 * 64 + up_to(4000) as u64][up_to(1)];
    let logit_rows = [None, Some(1 + up_to(size.tokens() - 1))][up_to(1)];
    let optimizer = Some(OptimizerConfig::default());
    let stored = [Dtype::F32, Dtype::F16][up_to(1)];
    let recompute = [Recompute::None, Recompute::Ffn, Recompute::Block][up_to(2)];
    let targets = [None, Some(vec![LoraTarget::OProj, LoraTarget::DownProj])][up_to(1)].clone();
    let lora = LoraConfig { rank: up_to(2), alpha: None, targets };
    let options = ProgramOptions { size, binding_limit, optimizer, logit_rows, stored, recompute };
    let mut program = Program::new(&config, &adapted(&config, &lora), &options);
    if up_to(2) == 0 {
        let (slots, known) = (1 + up_to(9), config.vocab_size);
        draws(&mut program, DecoderOptions { slots, capacity: 8, chunk: 1 + up_to(5), known, binding_limit, stored });
    }
    program
}

/// Adds a decoder of what is trained, or of a frozen copy beside adapters.
fn draws(program: &mut Program, options: DecoderOptions) {
    let Program { config, tensors, recordings, weights, .. } = program;
    let read = if weights.adapted() {
        Weights::frozen(tensors, &parameters(config), options.binding_limit, options.stored, "frozen.")
    } else {
        weights.read()
    };
    Decoder::add(tensors, recordings, config, read, options);
}

/// Steps of the first and last use of each activation of a recording.
fn lives(tensors: &Tensors, recording: &Recording) -> HashMap<Tensor, (usize, usize)> {
    let mut lives: HashMap<Tensor, (usize, usize)> = HashMap::new();
    for (i, step) in recording.steps.iter().enumerate() {
        for &tensor in step.tensors.iter().filter(|t| tensors.info(**t).role == Role::Activation) {
            lives.entry(tensor).or_insert((i, i)).1 = i;
        }
    }
    lives
}

/// The first broken promise of `slot`, which says where each tensor lives.
fn broken(program: &Program, plan: &Plan, slot: impl Fn(Tensor) -> Option<usize>) -> Result<(), String> {
    let tensors = &program.tensors;
    for recording in &program.recordings {
        let name = |t: Tensor| format!("{} of {}", tensors.info(t).name, recording.name);
        let lives = lives(tensors, recording);
        let mut by_slot: HashMap<usize, Vec<(usize, usize, Tensor)>> = HashMap::new();
        for (&tensor, &(first, last)) in &lives {
            let at = slot(tensor).ok_or_else(|| format!("{} has no slot", name(tensor)))?;
            by_slot.entry(at).or_default().push((first, last, tensor));
            if plan.slots[at].role != Role::Activation {
                return Err(format!("{} lies in a buffer that outlives a replay", name(tensor)));
            }
        }
        for lives in by_slot.values_mut() {
            lives.sort();
            if let Some(pair) = lives.windows(2).find(|pair| pair[1].0 <= pair[0].1) {
                return Err(format!("{} and {} share a slot", name(pair[0].2), name(pair[1].2)));
            }
        }
        for step in &recording.steps {
            let mut at: HashMap<usize, (Tensor, Access)> = HashMap::new();
            for (tensor, access) in step.uses() {
                let place = slot(tensor).ok_or_else(|| format!("{} has no slot", name(tensor)))?;
                let info = tensors.info(tensor);
                let slot = &plan.slots[place];
                let alike = (slot.dtype == Dtype::U32) == (info.dtype == Dtype::U32);
                if slot.bytes < info.bytes() || !alike || slot.dtype.bytes() > info.dtype.bytes() {
                    return Err(format!("{} does not fit its slot", name(tensor)));
                }
                let other = at.insert(place, (tensor, access));
                if other.is_some_and(|(_, other)| access != Access::Read || other != Access::Read) {
                    return Err(format!("{}: {} shares its slot within the step", step.kernel.stem, name(tensor)));
                }
            }
        }
    }
    Ok(())
}

/// Whether a step adds to what its product's tensor holds. The other kernels that update an activation write a share of
/// its rows or columns.
fn adds(step: &Step) -> bool {
    match step.kernel.stem {
        "matmul" => bytemuck::pod_read_unaligned::<matmul::Params>(&step.params).accumulate == matmul::ADD,
        "matmul_experts" => {
            bytemuck::pod_read_unaligned::<matmul_experts::Params>(&step.params).accumulate == matmul::ADD
        }
        "sum_slices" => bytemuck::pod_read_unaligned::<sum_slices::Params>(&step.params).accumulate == matmul::ADD,
        _ => false,
    }
}

/// The first activation that a step reads, or adds to, before any step of the recording has written it.
fn read_before_written(tensors: &Tensors, recording: &Recording) -> Result<(), String> {
    let mut written = HashSet::new();
    for step in &recording.steps {
        for (tensor, access) in step.uses().filter(|(t, _)| tensors.info(*t).role == Role::Activation) {
            let reads = access == Access::Read || adds(step);
            if reads && !written.contains(&tensor) {
                let what = &tensors.info(tensor).name;
                return Err(format!("{}: {what} is read by {} before it is written", recording.name, step.kernel.stem));
            }
            if access != Access::Read {
                written.insert(tensor);
            }
        }
    }
    Ok(())
}

const PROGRAMS: u64 = 300;

#[test]
fn every_product_of_the_loss_head_of_a_large_model_runs_on_matrix_units() {
    let config = Config::resolve(Some("seed"), &[]).unwrap();
    let allowed = Allowed::with(&["coop16"]);
    for batch in [8, 48, 64, 66, 116] {
        let size = BatchSize { batch, length: 512 };
        let (optimizer, recompute) = (Some(config.optimizer.clone()), config.train.recompute);
        let options =
            ProgramOptions { size, binding_limit: 2 << 30, optimizer, logit_rows: None, stored: Dtype::F16, recompute };
        let program = Program::new(&config.model, &parameters(&config.model), &options);
        let is_logits = |step: &&Step| step.tensors.iter().any(|&t| program.tensors.info(t).name == "logits");
        let micro_step = &program.recordings[program.recording(MICRO_STEP)];
        let products = micro_step.steps.iter().filter(is_logits).filter(|step| step.kernel.stem == "matmul");
        let forms: Vec<_> =
            products.map(|step| allowed.choose(step.kernel, &step.params, step.halves).suffix).collect();
        assert!(forms.len() >= 3 && forms.iter().all(|suffix| *suffix == "coop16"), "{batch}: {forms:?}");
    }
}

#[test]
fn tensors_of_random_programs_share_no_buffer_while_both_live() {
    for seed in 0..PROGRAMS {
        let program = random_program(seed);
        let plan = program.plan();
        broken(&program, &plan, |t| plan.slot(t)).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
    }
}

#[test]
fn random_programs_read_nothing_that_they_have_not_written() {
    for seed in 0..PROGRAMS {
        let program = random_program(seed);
        for recording in &program.recordings {
            read_before_written(&program.tensors, recording).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        }
    }
}

#[test]
fn sharing_pays_and_a_planted_overlap_is_found() {
    let program = random_program(1);
    let plan = program.plan();
    let own: u64 = program
        .tensors
        .iter()
        .filter(|(t, i)| i.role == Role::Activation && plan.slot(*t).is_some())
        .map(|(_, i)| i.bytes())
        .sum();
    assert!(2 * plan.bytes_of(Role::Activation) < own, "{} of {own}", plan.bytes_of(Role::Activation));
    let lives = lives(&program.tensors, &program.recordings[program.recording(MICRO_STEP)]);
    let mut all: Vec<_> = lives.into_iter().collect();
    all.sort();
    let meet = |a: &(usize, usize), b: &(usize, usize)| a.0 < b.0 && b.0 <= a.1;
    let pairs = all.iter().flat_map(|a| all.iter().map(move |b| (a, b)));
    let ((a, _), (b, _)) = pairs.into_iter().find(|(a, b)| meet(&a.1, &b.1)).unwrap();
    let planted = |t: Tensor| plan.slot(if t == *b { *a } else { t });
    assert!(broken(&program, &plan, planted).unwrap_err().contains("share"));
}

#[test]
fn a_recording_that_lost_a_step_reads_what_is_not_written() {
    let program = random_program(1);
    let whole = &program.recordings[program.recording(MICRO_STEP)];
    for stem in ["embed", "attention", "attention_delta", "expert_scan", "cross_entropy", "swiglu_backward"] {
        let mut recording = whole.clone();
        recording.steps.retain(|step| step.kernel.stem != stem);
        let lost = recording.steps.len() < whole.steps.len();
        // Cross-entropy works in place on logits that are there.
        let found = read_before_written(&program.tensors, &recording).is_err();
        assert_eq!(found, lost && stem != "cross_entropy", "{stem}");
    }
}
