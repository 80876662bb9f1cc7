//! Low-rank adapters (LoRA, arXiv 2106.09685): parameters beside frozen ones, and what both are together.

use super::params::{DiskTensor, Init, ParamSpec, parameters};
use crate::config::lora::LoraConfig;
use crate::config::model::ModelConfig;
use rayon::prelude::*;

/// Before the name of an adapter's tensor on disk, as PEFT writes it.
pub const PREFIX: &str = "base_model.model.";

/// The parameters of a configuration, with adapters if it says so: see [`adapt`].
pub fn adapted(c: &ModelConfig, lora: &LoraConfig) -> Vec<ParamSpec> {
    let specs = parameters(c);
    if lora.is_on() { adapt(specs, lora) } else { specs }
}

/// The same parameters, none of them trained, each target of `lora` followed by the pair that learns beside it:
/// `...q_proj.lora_A.weight` (rank, in) and `...q_proj.lora_B.weight` (out, rank), of fused experts (E, rank, in) and
/// (E, out, rank). A starts as torch starts a linear layer, uniform between -1 / sqrt(in) and 1 / sqrt(in), B as zeros.
pub fn adapt(specs: Vec<ParamSpec>, lora: &LoraConfig) -> Vec<ParamSpec> {
    let targets = lora.targets();
    let mut all = Vec::with_capacity(specs.len());
    for mut spec in specs {
        spec.trained = false;
        let module = module_of(&spec.name).rsplit('.').next().unwrap_or_default();
        let pair = targets.iter().any(|target| target.name() == module).then(|| pair(&spec, lora.rank));
        spec.adapter = pair.is_some().then(|| lora.scale());
        all.push(spec);
        all.extend(pair.into_iter().flatten());
    }
    all
}

/// Whether a parameter is a matrix of an adapter.
pub fn is_adapter(spec: &ParamSpec) -> bool {
    spec.disk.iter().any(|tensor| tensor.name.starts_with(PREFIX))
}

/// A matrix's name without its last word.
fn module_of(name: &str) -> &str {
    name.strip_suffix(".weight").unwrap_or(name)
}

/// The names of A and B of the adapter beside the matrix called `name`.
pub fn names(name: &str) -> [String; 2] {
    ["lora_A", "lora_B"].map(|part| format!("{}.{part}.weight", module_of(name)))
}

/// Both matrices of the adapter of `spec`.
fn pair(spec: &ParamSpec, rank: usize) -> [ParamSpec; 2] {
    let inputs = spec.shape.last().copied().unwrap_or(1);
    let inits = [Init::Uniform(1.0 / (inputs as f64).sqrt()), Init::Zeros];
    [0, 1].map(|i| {
        // A has `rank` rows and B as many columns; the expert comes before, if there are several.
        let narrowed = |shape: &[usize]| {
            let mut shape = shape.to_vec();
            let at = shape.len() - 2 + i;
            shape[at] = rank;
            shape
        };
        let on_disk = |tensor: &DiskTensor| DiskTensor {
            name: format!("{PREFIX}{}", names(&tensor.name)[i]),
            shape: narrowed(&tensor.shape),
        };
        ParamSpec {
            name: names(&spec.name)[i].clone(),
            shape: narrowed(&spec.shape),
            init: inits[i],
            trained: true,
            adapter: None,
            disk: spec.disk.iter().map(on_disk).collect(),
            ..spec.clone()
        }
    })
}

/// `W + scale B A` in f64, rounded once: `weight` (out, in), `a` (rank, in), `b` (out, rank); of `experts` each by
/// itself.
pub fn merge(weight: &mut [f32], [a, b]: [&[f32]; 2], experts: usize, rank: usize, scale: f64) {
    let inputs = a.len() / (experts * rank);
    let outputs = b.len() / (experts * rank);
    weight.par_chunks_mut(inputs).zip(b.par_chunks(rank)).enumerate().for_each(|(row, (weight, b))| {
        let a = &a[row / outputs * rank * inputs..][..rank * inputs];
        for (column, w) in weight.iter_mut().enumerate() {
            let along = a.iter().skip(column).step_by(inputs);
            let product: f64 = b.iter().zip(along).map(|(&b, &a)| f64::from(b) * f64::from(a)).sum();
            *w = (f64::from(*w) + scale * product) as f32;
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::lora::LoraTarget::{GateProj, KvBProj, LmHead, QProj};
    use crate::model::params::initial;

    fn lora(targets: &[crate::config::lora::LoraTarget]) -> LoraConfig {
        LoraConfig { rank: 3, alpha: Some(4.5), targets: Some(targets.to_vec()) }
    }

    #[test]
    fn adapters_stand_behind_their_matrices_and_nothing_else_is_trained() {
        let specs = adapted(&ModelConfig::default(), &lora(&[KvBProj, GateProj, LmHead]));
        let at = |name: &str| specs.iter().position(|spec| spec.name == name).unwrap();
        let matrix = at("model.layers.1.mlp.experts.gate_proj.weight");
        let (a, b) = (&specs[matrix + 1], &specs[matrix + 2]);
        assert_eq!((specs[matrix].adapter, specs[matrix].trained), (Some(1.5), false));
        assert_eq!(
            (a.name.as_str(), &a.shape[..]),
            ("model.layers.1.mlp.experts.gate_proj.lora_A.weight", &[8, 3, 128][..])
        );
        assert_eq!(
            (b.name.as_str(), &b.shape[..]),
            ("model.layers.1.mlp.experts.gate_proj.lora_B.weight", &[8, 64, 3][..])
        );
        assert_eq!(a.disk[7].name, "base_model.model.model.layers.1.mlp.experts.7.gate_proj.lora_A.weight");
        assert_eq!((&a.disk[7].shape[..], &b.disk[7].shape[..]), (&[3, 128][..], &[64, 3][..]));
        assert_eq!(specs.last().unwrap().disk[0].name, "base_model.model.lm_head.lora_B.weight");
        assert!(specs.iter().all(|spec| spec.trained == is_adapter(spec)));
        // One a layer of attention, one in the dense layer, two (shared and routed) in each of two others, the head.
        assert_eq!(specs.iter().filter(|spec| spec.adapter.is_some()).count(), 3 + 1 + 2 * 2 + 1);
        let bound = 1.0 / 128f32.sqrt();
        let values = initial(a, 1);
        assert!(values.iter().all(|x| x.abs() <= bound) && values.iter().any(|x| x.abs() > 0.99 * bound));
        assert!(initial(b, 1).iter().all(|&x| x == 0.0));
    }

    #[test]
    fn the_trained_share_is_that_of_a_count_by_hand() {
        // 128 wide, 4 heads of 16 + 8 columns of queries and 16 + 16 of keys and values, a latent of 32.
        let (q, down, up, out) = (128 + 4 * 24, 128 + 32 + 8, 32 + 4 * 32, 4 * 16 + 128);
        let specs = adapted(&ModelConfig::default(), &LoraConfig { rank: 8, ..LoraConfig::default() });
        let trained: usize = specs.iter().filter(|spec| spec.trained).map(ParamSpec::elements).sum();
        assert_eq!(trained, 3 * 8 * (q + down + up + out));
    }

    #[test]
    fn merged_is_the_matrix_and_the_scaled_product_expert_by_expert() {
        let (a, b) = ([1.0, 2.0, 3.0, 10.0, 20.0, 30.0], [1.0, -1.0, 0.5, 2.0]); // two experts, rank 1, 3 in, 2 out
        let mut weight = [100.0f32; 12];
        merge(&mut weight, [&a, &b], 2, 1, 2.0);
        assert_eq!(weight, [102.0, 104.0, 106.0, 98.0, 96.0, 94.0, 110.0, 120.0, 130.0, 140.0, 180.0, 220.0]);
        let (a, b) = ([1.0, 2.0, 3.0, 4.0], [5.0, 6.0]); // rank 2, 2 in, 1 out
        let mut weight = [0.0f32; 2];
        merge(&mut weight, [&a, &b], 1, 2, 1.0);
        assert_eq!(weight, [5.0 + 18.0, 10.0 + 24.0]);
    }

    #[test]
    fn without_adapters_the_table_is_as_it_was() {
        let c = ModelConfig::default();
        assert_eq!(adapted(&c, &LoraConfig::default()), parameters(&c));
        assert!(adapted(&c, &lora(&[QProj])).iter().any(is_adapter));
    }
}
