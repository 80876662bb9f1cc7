//! The model's weights as tensors, split where an adapter limits the size of a binding.

use super::params::ParamSpec;
use crate::graph::op::Weight;
use crate::graph::{Dtype, Role, Tensor, Tensors};
use std::collections::HashMap;

/// One named parameter and the tensors that hold it.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// Name, shape, initial values, weight decay.
    pub spec: ParamSpec,
    /// Its rows.
    pub weight: Weight,
}

/// All parameters, in the order of the model.
#[derive(Clone, Debug)]
pub struct Weights {
    /// The parameters.
    pub all: Vec<Parameter>,
    by_name: HashMap<String, usize>,
}

impl Weights {
    /// Adds a tensor, or several of at most `binding_limit` bytes, for each parameter; with gradients if `training`
    /// (parameters that are never trained excepted),
    /// and with copies of type `stored` for products if that is f16. Parts hold multiples of as many elements as
    /// `whole` says of a parameter, if it says anything.
    pub fn new(
        t: &mut Tensors,
        specs: &[ParamSpec],
        binding_limit: u64,
        training: bool,
        stored: Dtype,
        whole: impl Fn(&ParamSpec) -> Option<usize>,
    ) -> Self {
        let all: Vec<Parameter> = specs
            .iter()
            .map(|spec| {
                let mut weight = split(t, spec, binding_limit, training, whole(spec).unwrap_or(1));
                if stored == Dtype::F16 && spec.factor {
                    weight.copies = Some(weight.parts.iter().map(|part| copy(t, part.1)).collect());
                }
                Parameter { weight, spec: spec.clone() }
            })
            .collect();
        let by_name = all.iter().enumerate().map(|(i, p)| (p.spec.name.clone(), i)).collect();
        Weights { all, by_name }
    }

    /// The parameter called `name`; panics if the table has none, which is a slip in model code.
    pub fn get(&self, name: &str) -> &Weight {
        let at = self.by_name.get(name).unwrap_or_else(|| panic!("no parameter {name}"));
        &self.all[*at].weight
    }

    /// Whether the table has `name`.
    pub fn has(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    /// The one tensor of a parameter that is never split: a vector. Panics if it was, as at a limit of a few bytes.
    pub fn vector(&self, name: &str) -> Tensor {
        let parts = &self.get(name).parts;
        assert_eq!(parts.len(), 1, "{name} is in parts, and no operation takes a vector in parts");
        parts[0].1
    }
}

/// Rows of the largest tile of a product.
const TILE: usize = 128;

fn split(t: &mut Tensors, spec: &ParamSpec, binding_limit: u64, training: bool, whole: usize) -> Weight {
    let rows = spec.shape[0];
    let row = spec.shape[1..].iter().product::<usize>();
    let row_bytes = 4 * row as u64;
    // Vectors stay whole: no operation takes one in parts, and none comes near a limit.
    let binding_limit = if spec.shape.len() == 1 { u64::MAX } else { binding_limit };
    // The fewest rows that are a multiple of `whole` elements; parts have at least these, whatever the limit.
    let unit = (1..=whole).find(|rows| (rows * row).is_multiple_of(whole)).unwrap_or(1);
    let rows_a_part = (binding_limit / row_bytes.max(1)).clamp(1, rows as u64) as usize;
    // Whole tiles of products, where a part has several: ragged ones keep large products off their best form.
    let tiles = (1..=TILE).map(|n| n * unit).find(|rows| rows.is_multiple_of(TILE)).unwrap_or(unit);
    let unit = if spec.shape.len() == 2 && rows_a_part >= 2 * tiles { tiles } else { unit };
    let rows_a_part = if rows_a_part < rows { (rows_a_part / unit * unit).max(unit) } else { rows };
    let firsts: Vec<usize> = (0..rows).step_by(rows_a_part).collect();
    let parts = firsts.iter().map(|&first| {
        let mut shape = spec.shape.clone();
        shape[0] = rows_a_part.min(rows - first);
        let name = if firsts.len() == 1 { spec.name.clone() } else { format!("{}[{first}..]", spec.name) };
        let tensor =
            if training && spec.trained { t.parameter(name, &shape) } else { t.real(name, &shape, Role::Parameter) };
        (first, tensor)
    });
    Weight { parts: parts.collect(), copies: None, rows }
}

/// A tensor for the copy of `part` in f16.
fn copy(t: &mut Tensors, part: Tensor) -> Tensor {
    let info = t.info(part).clone();
    t.add(format!("half.{}", info.name), &info.shape, Dtype::F16, Role::Copy)
}
