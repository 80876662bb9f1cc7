//! The table of named parameters: shapes, start values, weight decay, and where each stands on disk.
//!
//! Names and shapes are those of transformers' `DeepseekV2ForCausalLM`, but for one thing: the experts of a layer are
//! three fused tensors in memory, `mlp.experts.gate_proj.weight` and its two siblings, with the expert as the first
//! axis; on disk every expert has tensors of its own.

use super::moe::bias_name;
use super::normal::normal;
use crate::config::model::ModelConfig;
use crate::error::Result;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// What a parameter holds before the first step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// Independent normal numbers with mean 0 and this standard deviation.
    Normal(f64),
    /// Independent numbers, uniform between minus and plus this.
    Uniform(f64),
    /// Ones, as every norm's weight.
    Ones,
    /// Zeros.
    Zeros,
}

/// One tensor of a checkpoint file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskTensor {
    /// Full name in the file.
    pub name: String,
    /// Shape in the file, row-major.
    pub shape: Vec<usize>,
}

/// One tensor of the model.
#[derive(Clone, Debug, PartialEq)]
pub struct ParamSpec {
    /// Name in memory; also the name on disk where [`ParamSpec::disk`] holds one tensor.
    pub name: String,
    /// Shape in memory, row-major: (out, in) for a matrix, (experts, out, in) for fused experts.
    pub shape: Vec<usize>,
    /// Start values.
    pub init: Init,
    /// Whether it has a gradient, which the optimizer follows. The selection biases of experts have none: they move
    /// against the loads. Nor have weights beside adapters.
    pub trained: bool,
    /// The factor on the product of the two parameters that stand beside this matrix under `lora_B` and `lora_A`, where
    /// it has these.
    pub adapter: Option<f64>,
    /// Whether weight decay applies: to everything of two or more dimensions.
    pub decay: bool,
    /// Whether products may read it as f16: every matrix but the router's, and the embedding where the head shares it.
    pub factor: bool,
    /// The tensors on disk that make this one, one after the other.
    pub disk: Vec<DiskTensor>,
}

impl ParamSpec {
    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// Collects specs under a name prefix.
struct Table {
    sigma: f64,
    specs: Vec<ParamSpec>,
}

impl Table {
    fn push(&mut self, name: String, shape: Vec<usize>, init: Init, disk: Vec<DiskTensor>) {
        let decay = shape.len() >= 2;
        self.specs.push(ParamSpec { name, shape, init, trained: true, adapter: None, decay, factor: decay, disk });
    }

    /// A matrix `[out, in]` of normal numbers.
    fn matrix(&mut self, name: String, rows: usize, columns: usize) {
        let shape = vec![rows, columns];
        let disk = vec![DiskTensor { name: name.clone(), shape: shape.clone() }];
        self.push(name, shape, Init::Normal(self.sigma), disk);
    }

    /// The last matrix is read in f32 alone.
    fn keep_wide(&mut self) {
        if let Some(spec) = self.specs.last_mut() {
            spec.factor = false;
        }
    }

    /// A norm's weight.
    fn norm(&mut self, name: String, width: usize) {
        let disk = vec![DiskTensor { name: name.clone(), shape: vec![width] }];
        self.push(name, vec![width], Init::Ones, disk);
    }

    /// A vector of zeros that no gradient reaches.
    fn untrained(&mut self, name: String, width: usize) {
        let disk = vec![DiskTensor { name: name.clone(), shape: vec![width] }];
        self.push(name, vec![width], Init::Zeros, disk);
        if let Some(spec) = self.specs.last_mut() {
            spec.trained = false;
        }
    }

    /// The same matrix of every expert of the layer with this prefix.
    fn experts(&mut self, prefix: &str, part: &str, experts: usize, rows: usize, columns: usize) {
        let one = |e| DiskTensor { name: format!("{prefix}.{e}.{part}.weight"), shape: vec![rows, columns] };
        let disk = (0..experts).map(one).collect();
        let shape = vec![experts, rows, columns];
        self.push(format!("{prefix}.{part}.weight"), shape, Init::Normal(self.sigma), disk);
    }

    /// A feed-forward of two projections up and one down.
    fn feed_forward(&mut self, prefix: &str, d: usize, width: usize) {
        self.matrix(format!("{prefix}.gate_proj.weight"), width, d);
        self.matrix(format!("{prefix}.up_proj.weight"), width, d);
        self.matrix(format!("{prefix}.down_proj.weight"), d, width);
    }

    fn attention(&mut self, c: &ModelConfig, prefix: &str) {
        let (d, heads, r) = (c.hidden_size, c.num_attention_heads, c.kv_lora_rank);
        let q_width = heads * c.qk_head_dim();
        match c.q_lora_rank {
            None => self.matrix(format!("{prefix}.q_proj.weight"), q_width, d),
            Some(rank) => {
                self.matrix(format!("{prefix}.q_a_proj.weight"), rank, d);
                self.norm(format!("{prefix}.q_a_layernorm.weight"), rank);
                self.matrix(format!("{prefix}.q_b_proj.weight"), q_width, rank);
            }
        }
        self.matrix(format!("{prefix}.kv_a_proj_with_mqa.weight"), r + c.qk_rope_head_dim, d);
        self.norm(format!("{prefix}.kv_a_layernorm.weight"), r);
        self.matrix(format!("{prefix}.kv_b_proj.weight"), heads * (c.qk_nope_head_dim + c.v_head_dim), r);
        self.matrix(format!("{prefix}.o_proj.weight"), d, heads * c.v_head_dim);
    }

    fn moe(&mut self, c: &ModelConfig, layer: usize, prefix: &str) {
        let (d, experts, width) = (c.hidden_size, c.n_routed_experts, c.moe_intermediate_size);
        self.matrix(format!("{prefix}.gate.weight"), experts, d);
        self.keep_wide();
        if c.has_expert_bias() {
            self.untrained(bias_name(layer), experts);
        }
        let fused = format!("{prefix}.experts");
        self.experts(&fused, "gate_proj", experts, width, d);
        self.experts(&fused, "up_proj", experts, width, d);
        self.experts(&fused, "down_proj", experts, d, width);
        if c.n_shared_experts > 0 {
            self.feed_forward(&format!("{prefix}.shared_experts"), d, c.n_shared_experts * width);
        }
    }
}

/// Every parameter of a validated configuration, in the order in which the network uses them. The head is absent where
/// it shares the embedding's matrix.
pub fn parameters(c: &ModelConfig) -> Vec<ParamSpec> {
    let (v, d) = (c.vocab_size, c.hidden_size);
    let mut table = Table { sigma: c.initializer_range, specs: Vec::new() };
    table.matrix("model.embed_tokens.weight".to_owned(), v, d);
    if !c.tie_word_embeddings {
        table.keep_wide();
    }
    for i in 0..c.num_hidden_layers {
        let layer = format!("model.layers.{i}");
        table.norm(format!("{layer}.input_layernorm.weight"), d);
        table.attention(c, &format!("{layer}.self_attn"));
        table.norm(format!("{layer}.post_attention_layernorm.weight"), d);
        let mlp = format!("{layer}.mlp");
        if c.is_moe(i) { table.moe(c, i, &mlp) } else { table.feed_forward(&mlp, d, c.intermediate_size) }
    }
    table.norm("model.norm.weight".to_owned(), d);
    if !c.tie_word_embeddings {
        table.matrix("lm_head.weight".to_owned(), v, d);
    }
    table.specs
}

/// Start values of one parameter. They depend on the seed, the name and the shape alone: adding a layer or drawing in
/// another order changes no other tensor. All threads draw them; their number changes nothing.
pub fn initial(spec: &ParamSpec, seed: u64) -> Vec<f32> {
    let mut values = vec![0.0; spec.elements()];
    initialise(spec, seed, &mut values);
    values
}

/// Fills any parameter with its start values, as many as `values` has room for.
pub fn start_values(seed: u64) -> impl Fn(&ParamSpec, &mut [f32]) -> Result<()> + Send {
    move |spec, values| {
        initialise(spec, seed, values);
        Ok(())
    }
}

fn initialise(spec: &ParamSpec, seed: u64, values: &mut [f32]) {
    match spec.init {
        Init::Ones => values.fill(1.0),
        Init::Zeros => values.fill(0.0),
        Init::Normal(sigma) => normal(&generator(spec, seed), sigma, values),
        Init::Uniform(bound) => {
            let mut rng = generator(spec, seed);
            let unit = |word: u32| f64::from(word) / f64::from(u32::MAX); // from 0 to 1
            values.iter_mut().for_each(|x| *x = (bound * (2.0 * unit(rng.next_u32()) - 1.0)) as f32);
        }
    }
}

/// What the numbers of one parameter are drawn from.
fn generator(spec: &ParamSpec, seed: u64) -> ChaCha8Rng {
    let mut key = [0u8; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&fnv1a(spec.name.as_bytes()).to_le_bytes());
    ChaCha8Rng::from_seed(key)
}

/// The 64-bit FNV-1a hash: names of one model are told apart, and the value is the same on every machine.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &b| (hash ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::{ScoringFunc, TopkMethod};
    use std::collections::HashSet;

    fn variants() -> Vec<ModelConfig> {
        let base = ModelConfig::default();
        vec![
            base.clone(),
            ModelConfig { q_lora_rank: Some(24), tie_word_embeddings: true, ..base.clone() },
            ModelConfig { n_shared_experts: 0, first_k_dense_replace: 0, ..base.clone() },
            ModelConfig { first_k_dense_replace: 3, ..base.clone() },
            ModelConfig { num_hidden_layers: 5, moe_layer_freq: 2, ..base.clone() },
            biased(base),
        ]
    }

    fn biased(c: ModelConfig) -> ModelConfig {
        ModelConfig { scoring_func: ScoringFunc::Sigmoid, topk_method: TopkMethod::NoauxTc, ..c }
    }

    #[test]
    fn selection_biases_stand_beside_the_routers_under_deepseek_s_name_and_are_not_trained() {
        let specs = parameters(&biased(ModelConfig::default()));
        let biases: Vec<_> = specs.iter().filter(|spec| !spec.trained).collect();
        let names: Vec<_> = biases.iter().map(|spec| spec.name.as_str()).collect();
        assert_eq!(names, [1, 2].map(|i| format!("model.layers.{i}.mlp.gate.e_score_correction_bias")));
        for spec in biases {
            assert!(spec.shape == [8] && !spec.decay && !spec.factor && initial(spec, 1) == [0.0; 8]);
        }
        assert!(parameters(&ModelConfig::default()).iter().all(|spec| spec.trained));
    }

    #[test]
    fn the_table_holds_as_many_numbers_as_the_closed_form_counts() {
        for c in variants() {
            let total: usize = parameters(&c).iter().filter(|spec| spec.trained).map(ParamSpec::elements).sum();
            assert_eq!(total as u64, c.total_parameters());
        }
    }

    #[test]
    fn tensors_on_disk_make_up_each_parameter_and_no_name_repeats() {
        for c in variants() {
            let specs = parameters(&c);
            let mut names = HashSet::new();
            for spec in &specs {
                let on_disk: usize = spec.disk.iter().map(|t| t.shape.iter().product::<usize>()).sum();
                assert_eq!(on_disk, spec.elements(), "{}", spec.name);
                assert_eq!(spec.decay, spec.shape.len() >= 2);
                assert!(spec.disk.iter().all(|t| names.insert(t.name.clone())), "{}", spec.name);
            }
        }
    }

    #[test]
    fn experts_are_fused_in_memory_and_apart_on_disk() {
        let specs = parameters(&ModelConfig::default());
        let name = "model.layers.1.mlp.experts.down_proj.weight";
        let down = specs.iter().find(|s| s.name == name).unwrap();
        assert_eq!(down.shape, [8, 128, 64]);
        assert_eq!(down.disk.len(), 8);
        assert_eq!(down.disk[7].name, "model.layers.1.mlp.experts.7.down_proj.weight");
        assert_eq!(down.disk[7].shape, [128, 64]);
    }

    #[test]
    fn start_values_depend_on_seed_and_name_alone() {
        let specs = parameters(&ModelConfig::default());
        let head = specs.last().unwrap();
        let a = initial(head, 1);
        assert_eq!(
            a,
            initial(&parameters(&ModelConfig { num_hidden_layers: 9, ..Default::default() }).pop().unwrap(), 1)
        );
        assert_ne!(a, initial(head, 2));
        assert_ne!(a, initial(&specs[0], 1));
        assert!(initial(&specs[1], 1).iter().all(|&x| x == 1.0));
    }

    #[test]
    fn start_values_have_the_mean_and_spread_they_should() {
        let values = initial(&parameters(&ModelConfig::default())[0], 7);
        let n = values.len() as f64;
        let mean = values.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
        let spread = (values.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / n).sqrt();
        // Four standard errors of 65,536 draws.
        assert!(mean.abs() < 4.0 * 0.02 / n.sqrt(), "{mean}");
        assert!((spread / 0.02 - 1.0).abs() < 4.0 / (2.0 * n).sqrt(), "{spread}");
    }
}
