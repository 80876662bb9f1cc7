//! Folders made with transformers in float64, and what the judge must agree on with them.

use hadal::checkpoint::tensors::{Tensor, Values, read_tensors};
use hadal::checkpoint::weights::Weights;
use hadal::config::hf::read_config;
use hadal::config::model::ModelConfig;
use hadal::model::params::{ParamSpec, parameters};
use hadal::reference::model::{Batch, IGNORED, Params, Targets, logits, loss, selections};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use std::collections::BTreeMap;
use std::path::Path;

/// A model with one batch and what transformers computed from them.
pub struct Case {
    pub name: String,
    pub config: ModelConfig,
    pub specs: Vec<ParamSpec>,
    pub params: Params<f64>,
    pub batch: usize,
    pub length: usize,
    pub ids: Vec<u32>,
    pub targets: Vec<u32>,
    weights: Vec<f64>,
    expected: BTreeMap<String, Tensor>,
}

impl Case {
    /// Reads `config.json`, the weights and `expected.safetensors`.
    pub fn read(folder: &Path) -> Case {
        let (config, warnings) = read_config(folder).unwrap_or_else(|e| panic!("{e}"));
        assert!(warnings.is_empty(), "{warnings:?}");
        let specs = parameters(&config);
        let weights = Weights::open(folder).unwrap_or_else(|e| panic!("{e}"));
        weights.check(&specs).unwrap_or_else(|e| panic!("{e}"));
        let load = |spec: &ParamSpec| {
            let mut values = vec![f32::NAN; spec.elements()];
            weights.load(spec, &mut values).unwrap();
            values.into_iter().map(f64::from).collect()
        };
        let params = specs.iter().map(|spec| (spec.name.clone(), load(spec))).collect();
        let expected = read_tensors(&folder.join("expected.safetensors")).unwrap_or_else(|e| panic!("{e}"));
        let shape = expected["input_ids"].shape.clone();
        let targets: Vec<u32> = indices(&expected["labels"]).map(|y| u32::try_from(y).unwrap_or(IGNORED)).collect();
        let counted = targets.iter().filter(|&&y| y != IGNORED).count() as f64;
        Case {
            name: folder.file_name().unwrap().to_string_lossy().into_owned(),
            weights: vec![1.0 / counted; targets.len()],
            ids: indices(&expected["input_ids"]).map(|id| id as u32).collect(),
            batch: shape[0],
            length: shape[1],
            config,
            specs,
            params,
            targets,
            expected,
        }
    }

    fn batch(&self) -> Batch<'_> {
        Batch::of(&self.ids, self.batch, self.length)
    }

    /// The judge's logits.
    pub fn logits(&self) -> Vec<f64> {
        logits(&self.config, &self.params, &self.batch())
    }

    /// The judge's cross-entropy with `params`. Transformers has no balance loss.
    pub fn loss(&self, params: &Params<f64>) -> f64 {
        let targets = Targets { targets: &self.targets, weights: &self.weights, sequences: self.batch };
        loss(&self.config, params, &self.batch(), &targets).main
    }

    /// Floats of `expected.safetensors`.
    pub fn expected(&self, name: &str) -> &[f64] {
        match &self.expected.get(name).unwrap_or_else(|| panic!("{}: no {name} in the file", self.name)).values {
            Values::Real(values) => values,
            Values::Index(_) => panic!("{name} holds integers"),
        }
    }

    /// The parameters that have gradients.
    pub fn trained(&self) -> impl Iterator<Item = &ParamSpec> {
        self.specs.iter().filter(|spec| spec.trained)
    }

    /// The expected gradient of a parameter as it stands in memory. The file has it under the names on disk, or for
    /// experts under the fused names that transformers uses in memory.
    pub fn gradient(&self, spec: &ParamSpec) -> Vec<f64> {
        if spec.disk.iter().all(|t| self.expected.contains_key(&format!("grad.{}", t.name))) {
            return spec.disk.iter().flat_map(|t| self.expected(&format!("grad.{}", t.name))).copied().collect();
        }
        let (prefix, part) = spec.name.trim_end_matches(".weight").rsplit_once('.').unwrap();
        if part == "down_proj" {
            return self.expected(&format!("grad.{prefix}.down_proj")).to_vec();
        }
        // Gate rows come first, then those of up, expert by expert.
        let both = self.expected(&format!("grad.{prefix}.gate_up_proj"));
        let one = spec.shape[1] * spec.shape[2];
        both.chunks(one).skip(usize::from(part == "up_proj")).step_by(2).flatten().copied().collect()
    }

    /// Compares derivatives along a random direction inside one parameter at a time and inside all at once: central
    /// differences of the judge's loss beside the file's gradients. Returns the worst error, as a share of the length
    /// of the gradient, which is the typical size of such a derivative.
    pub fn worst_derivative(&self) -> (f64, String) {
        let mut rng = ChaCha8Rng::seed_from_u64(11);
        let specs: Vec<&ParamSpec> = self.trained().collect();
        let gradients: Vec<Vec<f64>> = specs.iter().map(|spec| self.gradient(spec)).collect();
        let mut worst = (0.0, String::new());
        let (each, all) = ((0..specs.len()).map(|i| i..i + 1), std::iter::once(0..specs.len()));
        for range in each.chain(all) {
            let (mut up, mut down) = (self.params.clone(), self.params.clone());
            let (mut exact, mut square) = (0.0, 0.0);
            for i in range.clone() {
                let name = &specs[i].name;
                let (up, down) = (up.get_mut(name).unwrap(), down.get_mut(name).unwrap());
                assert_eq!(up.len(), gradients[i].len(), "{name}");
                for ((up, down), &g) in up.iter_mut().zip(down).zip(&gradients[i]) {
                    let v: f64 = StandardNormal.sample(&mut rng);
                    *up += STEP * v;
                    *down -= STEP * v;
                    exact += g * v;
                    square += g * g;
                }
            }
            let choices = |p: &Params<f64>| selections(&self.config, p, &self.batch());
            let what = if range.len() == 1 { specs[range.start].name.as_str() } else { "all together" };
            assert_eq!(choices(&up), choices(&down), "{what}: the step crosses a tie of the router; take another seed");
            let numeric = (self.loss(&up) - self.loss(&down)) / (2.0 * STEP);
            let error = (numeric - exact).abs() / square.sqrt();
            assert!(error.is_finite(), "{what}: {numeric} {exact}");
            if error > worst.0 {
                worst = (error, what.to_owned());
            }
        }
        worst
    }
}

/// Largest errors that the judge may show, each relative to the largest expected value.
pub struct Allowed {
    pub loss: f64,
    pub logits: f64,
    /// Of derivatives, as a share of the gradient's length.
    pub derivative: f64,
}

/// Judges a case; prints its errors.
pub fn the_judge_agrees_on(case: &Case, allowed: &Allowed) {
    let loss = relative(&[case.loss(&case.params)], case.expected("loss"));
    let logits = relative(&case.logits(), case.expected("logits"));
    let (derivative, at) = case.worst_derivative();
    let errors = format!("{}: loss {loss:.2e}, logits {logits:.2e}, derivatives {derivative:.2e} ({at})", case.name);
    println!("{errors}");
    assert!(loss <= allowed.loss && logits <= allowed.logits && derivative <= allowed.derivative, "{errors}");
}

/// Half the distance of a central difference. Its rounding error is about 1e-15 / STEP = 1e-9, far below what is asked.
const STEP: f64 = 1e-6;

fn indices(tensor: &Tensor) -> impl Iterator<Item = i64> {
    match &tensor.values {
        Values::Index(values) => values.iter().copied(),
        Values::Real(_) => panic!("expected integers"),
    }
}

/// The largest difference as a share of the largest expected value.
pub fn relative(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(0.0f64, |m, x| m.max(x.abs()));
    let worst = found.iter().zip(expected).map(|(f, e)| (f - e).abs());
    // A NaN is the worst of all.
    worst.fold(0.0f64, |m, x| if x <= m || m.is_nan() { m } else { x }) / largest
}
