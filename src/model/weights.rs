//! The model's weights as tensors, split where an adapter limits the size of a binding.

use super::lora;
use super::params::ParamSpec;
use crate::error::Result;
use crate::graph::op::{Adapter, Linear, Weight};
use crate::graph::{Dtype, Executor, Role, Tensor, Tensors};
use std::collections::HashMap;
use std::sync::mpsc::channel;

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
    /// and with copies of type `stored` for products if that is f16. Of what stays as it is while others train, as
    /// weights beside adapters do, products need no second copy: it is `stored` alone. Parts hold multiples of as many
    /// elements as `whole` says of a parameter, if it says anything.
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
                let alone = training && !spec.trained && spec.factor;
                let dtype = if alone { stored } else { Dtype::F32 };
                let mut weight = split(t, spec, binding_limit, dtype, training, whole(spec).unwrap_or(1));
                if stored == Dtype::F16 && spec.factor && !alone {
                    weight.copies = Some(weight.parts.iter().map(|part| copy(t, part.1)).collect());
                }
                Parameter { weight, spec: spec.clone() }
            })
            .collect();
        Weights::of(all)
    }

    /// Weights that are read alone: those that products may read as f16 are kept in `stored` and nothing else. In a
    /// table that has other weights too, the names of these tensors begin with `prefix`; that of a parameter stays.
    pub fn frozen(t: &mut Tensors, specs: &[ParamSpec], binding_limit: u64, stored: Dtype, prefix: &str) -> Self {
        let parameter = |spec: &ParamSpec| {
            let dtype = if spec.factor { stored } else { Dtype::F32 };
            let named = ParamSpec { name: format!("{prefix}{}", spec.name), ..spec.clone() };
            Parameter { weight: split(t, &named, binding_limit, dtype, false, 1), spec: spec.clone() }
        };
        Weights::of(specs.iter().map(parameter).collect())
    }

    /// The weights that adapters stand beside, as if there were none.
    pub fn without_adapters(&self) -> Self {
        let bare = |parameter: &Parameter| {
            let spec = ParamSpec { adapter: None, ..parameter.spec.clone() };
            Parameter { spec, weight: parameter.weight.clone() }
        };
        Weights::of(self.all.iter().filter(|parameter| !lora::is_adapter(&parameter.spec)).map(bare).collect())
    }

    /// The same tensors as a decoder reads them: what has copies in f16 through these alone, everything else as it is.
    /// They hold what training has made of them, with nothing to copy.
    pub fn read(&self) -> Self {
        let through = |parameter: &Parameter| {
            let Weight { parts, rows, .. } = &parameter.weight;
            let firsts = parts.iter().map(|&(first, _)| first);
            let parts = firsts.zip(parameter.weight.factors()).collect();
            Parameter { weight: Weight { parts, copies: None, rows: *rows }, spec: parameter.spec.clone() }
        };
        Weights::of(self.all.iter().map(through).collect())
    }

    /// Numbers of the parameters that are no adapters.
    pub fn whole(&self) -> Vec<usize> {
        (0..self.all.len()).filter(|&i| !lora::is_adapter(&self.all[i].spec)).collect()
    }

    /// Whether adapters stand beside matrices.
    pub fn adapted(&self) -> bool {
        self.all.iter().any(|parameter| parameter.spec.adapter.is_some())
    }

    fn of(all: Vec<Parameter>) -> Self {
        let by_name = all.iter().enumerate().map(|(i, p)| (p.spec.name.clone(), i)).collect();
        Weights { all, by_name }
    }

    /// Fills all parameters, in order. `fill` gives every element of one; it runs on a thread of its own, one
    /// parameter ahead of the upload. Two buffers go to and fro between them: fresh memory for each parameter would
    /// cost about as much time as drawing its start values.
    pub fn load(
        &self,
        executor: &mut dyn Executor,
        mut fill: impl FnMut(&ParamSpec, &mut [f32]) -> Result<()> + Send,
    ) -> Result<()> {
        let largest = self.all.iter().map(|parameter| parameter.spec.elements()).max().unwrap_or(0);
        std::thread::scope(|scope| {
            let ((give, take), (give_back, take_back)) = (channel(), channel());
            for _ in 0..2 {
                // The memory comes when it is first written: by the threads that fill it, not by this one.
                let _ = give_back.send(vec![0.0; largest]); // the other end is in this scope
            }
            scope.spawn(move || {
                // Ends early where the other side has stopped at an error.
                self.all.iter().map(|parameter| &parameter.spec).try_for_each(|spec| {
                    let mut buffer: Vec<f32> = take_back.recv().ok()?;
                    let filled = fill(spec, &mut buffer[..spec.elements()]);
                    give.send(filled.map(|()| (spec.elements(), buffer))).ok()
                })
            });
            take.iter().enumerate().try_for_each(|(i, filled)| {
                let (elements, buffer) = filled?;
                self.load_parameter(executor, i, &buffer[..elements])?;
                let _ = give_back.send(buffer); // the last ones find nobody who needs them
                Ok(())
            })
        })
    }

    /// Overwrites parameter number `i`.
    pub fn load_parameter(&self, executor: &mut dyn Executor, i: usize, values: &[f32]) -> Result<()> {
        let weight = &self.all[i].weight;
        let row = values.len() / weight.rows;
        weight
            .spans()
            .try_for_each(|(first, rows, part)| executor.upload(part, &values[first * row..(first + rows) * row]))
    }

    /// The parameter called `name`; panics if the table has none, which is a slip in model code.
    pub fn get(&self, name: &str) -> &Weight {
        let at = self.by_name.get(name).unwrap_or_else(|| panic!("no parameter {name}"));
        &self.all[*at].weight
    }

    /// The linear layer whose matrix is called `name`, with its adapter if it has one.
    pub fn linear(&self, name: &str) -> Linear<'_> {
        let weight = self.get(name);
        let scale = self.by_name.get(name).and_then(|&at| self.all[at].spec.adapter);
        let adapter = scale.map(|scale| {
            let [a, b] = lora::names(name);
            Adapter { a: self.get(&a), b: self.get(&b), scale: scale as f32 }
        });
        Linear { weight, adapter }
    }

    /// Numbers of the parameters that a checkpoint keeps: all of them, or where there are adapters those alone.
    pub fn kept(&self) -> Vec<usize> {
        let adapted = self.adapted();
        let kept = |&i: &usize| !adapted || self.all[i].spec.trained;
        (0..self.all.len()).filter(kept).collect()
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

fn split(t: &mut Tensors, spec: &ParamSpec, binding_limit: u64, dtype: Dtype, training: bool, whole: usize) -> Weight {
    let rows = spec.shape[0];
    let row = spec.shape[1..].iter().product::<usize>();
    let row_bytes = dtype.bytes() * row as u64;
    // Vectors stay whole: no operation takes one in parts, and none comes near a limit. Nor does the up-projection of
    // keys and values, which attention over the cache takes in one tensor; a plan where it does is refused.
    let stays_whole = spec.shape.len() == 1 || spec.name.ends_with("kv_b_proj.weight");
    let binding_limit = if stays_whole { u64::MAX } else { binding_limit };
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
        let tensor = if training && spec.trained {
            t.parameter(name, &shape)
        } else {
            t.add(name, &shape, dtype, Role::Parameter)
        };
        (first, tensor)
    });
    Weight { parts: parts.collect(), copies: None, rows }
}

/// A tensor for the copy of `part` in f16.
fn copy(t: &mut Tensors, part: Tensor) -> Tensor {
    let info = t.info(part).clone();
    t.add(format!("half.{}", info.name), &info.shape, Dtype::F16, Role::Copy)
}
