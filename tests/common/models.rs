//! Small models with one batch, as the graph records them and as the independent judge reads them.
#![allow(dead_code, reason = "each test file uses a part of this")]

use hadal::config::model::{ModelConfig, RouterWeights, ScoringFunc, TopkMethod};
use hadal::config::rope::{RopeScaling, RopeType, YarnVariant};
use hadal::config::train::{OptimizerConfig, Recompute};
use hadal::data::batch::{Batch, IGNORED};
use hadal::graph::op::Weight;
use hadal::graph::run_cpu::{CpuExecutor, CpuReal};
use hadal::graph::{Dtype, Executor, Tensor};
use hadal::kernels::case::indices;
use hadal::kernels::state;
use hadal::model::inputs::BatchSize;
use hadal::model::params::{Init, ParamSpec, initial, parameters};
use hadal::model::positions;
use hadal::model::program::{Program, ProgramOptions};
use hadal::reference::model as judge;
use hadal::train::session::feed;

/// A limit that no weight here reaches.
pub const NO_LIMIT: u64 = 1 << 30;
/// A limit that every matrix here exceeds and no vector does; four rows of logits fit.
pub const SMALL_LIMIT: u64 = 300;

/// A model of some thousand parameters in which every term matters. Whatever the recording rounds to f32 (the scale of
/// the scores, alpha, epsilon) is a power of two, so that the judge sees the same numbers.
pub fn tiny() -> ModelConfig {
    ModelConfig {
        vocab_size: 17,
        hidden_size: 16,
        num_hidden_layers: 2,
        num_attention_heads: 2,
        kv_lora_rank: 8,
        qk_nope_head_dim: 12,
        qk_rope_head_dim: 4,
        v_head_dim: 4,
        intermediate_size: 24,
        moe_intermediate_size: 8,
        n_routed_experts: 4,
        max_position_embeddings: 16,
        rms_norm_eps: 1.0 / f64::from(1 << 20),
        initializer_range: 0.3,
        aux_loss_alpha: 0.5,
        ..ModelConfig::default()
    }
}

/// Sigmoid scores and selection biases, over pairs of experts.
pub fn biased(c: ModelConfig) -> ModelConfig {
    let (scoring_func, topk_method) = (ScoringFunc::Sigmoid, TopkMethod::NoauxTc);
    ModelConfig { scoring_func, topk_method, n_routed_experts: 8, n_group: 4, topk_group: 2, ..c }
}

/// A model, a batch, and how its weights are split.
pub struct Fixture {
    pub name: &'static str,
    pub config: ModelConfig,
    pub binding_limit: u64,
    pub batch: Batch,
    /// Weight of each position's loss, not all equal.
    pub loss_weights: Vec<f64>,
    pub params: judge::Params<f64>,
}

/// Every kind of query, embedding, router, feed-forward and mask.
pub fn fixtures() -> Vec<Fixture> {
    let grouped = ModelConfig { topk_method: TopkMethod::GroupLimitedGreedy, n_group: 2, topk_group: 1, ..tiny() };
    let scaled = ModelConfig { routed_scaling_factor: 1.75, ..tiny() };
    let mode = |router_weights, norm_topk_prob| ModelConfig { router_weights, norm_topk_prob, ..scaled.clone() };
    let latent = ModelConfig { q_lora_rank: Some(6), tie_word_embeddings: true, ..tiny() };
    let sparse = ModelConfig { first_k_dense_replace: 0, n_shared_experts: 0, ..tiny() };
    // The recorded balance loss counts rows, the judge's documents: they differ where a row holds two.
    let packed = ModelConfig { aux_loss_alpha: 0.0, ..tiny() };
    let sigmoid = ModelConfig { scoring_func: ScoringFunc::Sigmoid, ..scaled.clone() };
    let noaux = biased(ModelConfig { norm_topk_prob: true, ..scaled.clone() });
    let mut all = vec![
        Fixture::new("plain", tiny(), NO_LIMIT),
        Fixture::new("query latent, tied", latent.clone(), NO_LIMIT),
        Fixture::new("query latent, untied", ModelConfig { tie_word_embeddings: false, ..latent.clone() }, NO_LIMIT),
        Fixture::new("hf weights, scaled", scaled.clone(), NO_LIMIT),
        Fixture::new("deepseek weights, normalised", mode(RouterWeights::Deepseek, true), NO_LIMIT),
        Fixture::new("deepseek weights, scaled", mode(RouterWeights::Deepseek, false), NO_LIMIT),
        Fixture::new("seed weights, normalised", mode(RouterWeights::Seed, true), NO_LIMIT),
        Fixture::new("seed weights", mode(RouterWeights::Seed, false), NO_LIMIT),
        Fixture::new("norm_scale weights", mode(RouterWeights::NormScale, false), NO_LIMIT),
        Fixture::new("groups, two shared experts", ModelConfig { n_shared_experts: 2, ..grouped }, NO_LIMIT),
        Fixture::new("sigmoid scores", sigmoid.clone(), NO_LIMIT),
        Fixture::new("sigmoid scores, normalised", ModelConfig { norm_topk_prob: true, ..sigmoid }, NO_LIMIT),
        Fixture::new("selection biases", noaux.clone(), NO_LIMIT),
        Fixture::new(
            "selection biases, no groups",
            ModelConfig { n_group: 1, topk_group: 1, ..noaux.clone() },
            NO_LIMIT,
        ),
        Fixture::new(
            "selection biases, balance of the whole batch",
            ModelConfig { seq_aux: false, ..noaux.clone() },
            NO_LIMIT,
        ),
        Fixture::new("selection biases, in parts", noaux, SMALL_LIMIT),
        Fixture::new("experts everywhere, none shared", sparse.clone(), NO_LIMIT),
        Fixture::new("balance of the whole batch", ModelConfig { seq_aux: false, ..sparse.clone() }, NO_LIMIT),
        Fixture::new("dense everywhere", ModelConfig { first_k_dense_replace: 2, ..tiny() }, NO_LIMIT),
        Fixture::new("weights in parts", sparse, SMALL_LIMIT),
        Fixture::new("tied weights in parts", latent, SMALL_LIMIT),
    ];
    all.extend(scaled_positions());
    let mut documents = Fixture::new("two documents in a row", packed, NO_LIMIT);
    for (place, (position, start)) in
        documents.batch.positions.iter_mut().zip(&mut documents.batch.document_start).enumerate()
    {
        let second = [3, 5][place / LENGTH];
        if place % LENGTH >= second {
            *position -= second as u32;
            *start = second as u32;
        }
    }
    all.push(documents);
    all
}

/// Every kind of position scaling. A `mscale_all_dim` of 10 / ln 4 doubles both factors that it enters into.
fn scaled_positions() -> Vec<Fixture> {
    let of = |kind, factor| RopeScaling { kind, factor: Some(factor), ..RopeScaling::default() };
    let yarn = RopeScaling { original_max_position_embeddings: Some(200), ..of(RopeType::Yarn, 4.0) };
    let doubling = Some(10.0 / 4f64.ln());
    let literal = RopeScaling { yarn_variant: Some(YarnVariant::SeedLiteral), ..yarn.clone() };
    let fixture = |name, rope_scaling, limit| {
        // Four rotated pairs and a low base, so that YaRN keeps the first and slows the others more and more.
        let (qk_rope_head_dim, qk_nope_head_dim, rope_theta) = (8, 8, 100.0);
        let widths = ModelConfig { qk_rope_head_dim, qk_nope_head_dim, rope_theta, ..tiny() };
        Fixture::new(name, ModelConfig { rope_scaling, max_position_embeddings: limit, ..widths }, NO_LIMIT)
    };
    vec![
        fixture("linear", of(RopeType::Linear, 2.5), 16),
        fixture("ntk", of(RopeType::Ntk, 2.5), 16),
        fixture("dynamic", of(RopeType::Dynamic, 2.0), 4),
        fixture("yarn", yarn.clone(), 16),
        fixture("yarn, mscale_all_dim", RopeScaling { mscale_all_dim: doubling, ..yarn.clone() }, 16),
        fixture("yarn, both", RopeScaling { mscale_all_dim: doubling, mscale: Some(0.5), ..yarn }, 16),
        fixture("yarn, literal", literal, 16),
    ]
}

const SEQUENCES: usize = 2;
const LENGTH: usize = 7;

impl Fixture {
    /// Weights with norms that are not all ones, and two rows; the second ends in padding, and some targets are absent.
    pub fn new(name: &'static str, config: ModelConfig, binding_limit: u64) -> Self {
        let draw = |mut spec: ParamSpec| {
            let mean = if spec.init == Init::Ones { 1.0 } else { 0.0 };
            spec.init = Init::Normal(config.initializer_range);
            let values = initial(&spec, 5).into_iter().map(|x| mean + f64::from(x)).collect();
            (spec.name, values)
        };
        let params = parameters(&config).into_iter().map(draw).collect();
        let (n, end) = (SEQUENCES * LENGTH, config.vocab_size as u32);
        let mut targets = indices(12, n, end);
        targets.iter_mut().step_by(5).for_each(|target| *target = IGNORED);
        let mut batch = Batch::new(indices(11, n, end), targets, SEQUENCES, LENGTH);
        batch.real[n - 2..].fill(0);
        batch.targets[n - 2..].fill(IGNORED);
        let loss_weights = (0..n).map(|t| (1 + t % 3) as f64 / batch.counted() as f64).collect();
        Fixture { name, config, binding_limit, batch, loss_weights, params }
    }

    /// All recordings, with logits of every row.
    pub fn program(&self) -> Program {
        program(&self.config, self.binding_limit, SEQUENCES, LENGTH)
    }

    /// An executor of `program` with weights, batch and rotation table in the precision of `F`.
    pub fn executor<F: CpuReal>(&self, program: &Program) -> CpuExecutor<F> {
        let mut cpu = CpuExecutor::new(&program.tensors, &program.recordings);
        for parameter in &program.weights.all {
            let values = &self.params[&parameter.spec.name];
            let row = values.len() / parameter.weight.rows;
            for (first, rows, part) in parameter.weight.spans() {
                cpu.set(part, &rounded(&values[first * row..(first + rows) * row]));
            }
        }
        feed(&mut cpu, &program.inputs, &self.batch).expect("main memory takes a batch");
        cpu.set(program.inputs.loss.loss_weights, &rounded(&self.loss_weights));
        cpu.set(program.inputs.rope_table, &rounded(&rope_table(&self.config)));
        cpu.upload_indices(program.inputs.state, &state_words(SEQUENCES)).expect("main memory takes integers");
        cpu.upload(program.inputs.loss.result, &state::first_result(1.0)).expect("main memory takes floats");
        if let Some(slots) = program.logits {
            let rows: Vec<u32> = (0..(SEQUENCES * LENGTH) as u32).collect();
            cpu.upload_indices(slots.rows, &rows).expect("main memory takes integers");
        }
        cpu
    }

    /// The batch as the judge takes it.
    pub fn judge_batch(&self) -> judge::Batch<'_> {
        let (starts, real) = (Some(&self.batch.document_start[..]), Some(&self.batch.real[..]));
        judge::Batch { document_start: starts, real, ..judge::Batch::of(&self.batch.ids, SEQUENCES, LENGTH) }
    }

    /// The judge's loss with `params`.
    pub fn judge_loss(&self, params: &judge::Params<f64>) -> judge::Loss<f64> {
        let targets =
            judge::Targets { targets: &self.batch.targets, weights: &self.loss_weights, sequences: SEQUENCES };
        judge::loss(&self.config, params, &self.judge_batch(), &targets)
    }

    /// The routers' choices with `params`.
    pub fn choices(&self, params: &judge::Params<f64>) -> Vec<Vec<Vec<usize>>> {
        judge::selections(&self.config, params, &self.judge_batch())
    }
}

/// Every recording of a model on batches of `sequences` rows.
pub fn program(config: &ModelConfig, binding_limit: u64, sequences: usize, length: usize) -> Program {
    recomputing(config, binding_limit, sequences, length, Recompute::None)
}

/// The same where backward makes activations again.
pub fn recomputing(
    config: &ModelConfig,
    binding_limit: u64,
    sequences: usize,
    length: usize,
    recompute: Recompute,
) -> Program {
    let size = BatchSize { batch: sequences, length };
    let optimizer = Some(OptimizerConfig::default());
    let logit_rows = Some(size.tokens());
    let options = ProgramOptions { size, binding_limit, optimizer, logit_rows, stored: Dtype::F32, recompute };
    Program::new(config, &parameters(config), &options)
}

/// What the host writes before a micro-step of a window of `sequences` rows.
pub fn state_words(sequences: usize) -> [u32; state::STATE_WORDS] {
    let mut words = [0; state::STATE_WORDS];
    words[state::STATE_KEY0] = 5;
    words[state::STATE_KEY1] = 6;
    words[state::STATE_INVERSE_SEQUENCES] = (1.0 / sequences as f32).to_bits();
    words[state::STATE_LEARNING_RATE] = 1e-2f32.to_bits();
    words
}

/// The rotation table without the rounding to f32 that the shipped one has.
fn rope_table(config: &ModelConfig) -> Vec<f64> {
    positions::turns(config, LENGTH, LENGTH).collect()
}

/// Numbers in the precision of `F`.
pub fn rounded<F: CpuReal>(values: &[f64]) -> Vec<F> {
    values.iter().map(|&x| F::of(x)).collect()
}

/// The parts of a weight, or what `of` maps each to, as one.
pub fn gather<F: CpuReal>(cpu: &CpuExecutor<F>, weight: &Weight, of: impl Fn(Tensor) -> Tensor) -> Vec<f64> {
    weight.spans().flat_map(|(_, _, part)| cpu.get(of(part)).iter().map(|x| x.wide())).collect()
}

/// The gradient of every trained parameter, in their order.
pub fn gradients<F: CpuReal>(program: &Program, cpu: &CpuExecutor<F>) -> Vec<Vec<f64>> {
    let of = |part: Tensor| program.tensors.gradient_of(part).expect("a trained part has a gradient");
    let trained = program.weights.all.iter().filter(|parameter| parameter.spec.trained);
    trained.map(|parameter| gather(cpu, &parameter.weight, of)).collect()
}

/// Runs the recordings called `names`, one after the other.
pub fn run(program: &Program, executor: &mut dyn Executor, names: &[&str]) {
    for name in names {
        executor.run(program.recording(name)).expect("the recording runs");
    }
}

/// The largest difference, as a share of the largest expected value; NaN is the worst of all.
pub fn relative(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(0.0f64, |m, x| m.max(x.abs()));
    let errors = found.iter().zip(expected).map(|(f, e)| (f - e).abs());
    let worst = errors.fold(0.0f64, |m, x| if x <= m || m.is_nan() { m } else { x });
    if worst == 0.0 { 0.0 } else { worst / largest }
}

/// The length of the difference, as a share of the expected length.
pub fn relative_l2(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let error: f64 = found.iter().zip(expected).map(|(f, e)| (f - e).powi(2)).sum();
    (error / expected.iter().map(|e| e.powi(2)).sum::<f64>()).sqrt()
}
