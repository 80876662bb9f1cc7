//! A model's weights: opened and checked against the table of parameters, loaded as f32, written for transformers.

use super::container::{Announced, Container, Entry, write_container};
use super::index::open_files;
use super::tensors::{reals, write_reals};
use crate::config::hf::StoredType;
use crate::error::{Error, Result};
use crate::model::params::{DiskTensor, ParamSpec};
use safetensors::Dtype;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

/// At most this many names of one kind in a message.
const MOST_NAMES: usize = 5;
const EMBEDDING: &str = "model.embed_tokens.weight";
const HEAD: &str = "lm_head.weight";
/// Rotation frequencies, which old files store and every reader computes.
const FREQUENCIES: &str = ".rotary_emb.inv_freq";

/// The weights of one folder, in one file or several.
#[derive(Debug)]
pub struct Weights {
    folder: PathBuf,
    files: Vec<Container>,
    /// Tensor name to the number of its file.
    home: HashMap<String, usize>,
}

impl Weights {
    /// Opens `model.safetensors` of `dir`, or the shards that its index names. Nothing is read but headers.
    pub fn open(dir: &Path) -> Result<Weights> {
        let files = open_files(dir)?;
        let mut home = HashMap::new();
        for (i, file) in files.iter().enumerate() {
            for name in file.entries().keys() {
                if home.insert(name.clone(), i).is_some() {
                    return Err(Error::file(file.path(), format!("holds {name:?}, which another file holds too")));
                }
            }
        }
        Ok(Weights { folder: dir.to_owned(), files, home })
    }

    fn find(&self, name: &str) -> Option<(&Container, &Entry)> {
        let file = &self.files[*self.home.get(name)?];
        Some((file, file.entries().get(name)?))
    }

    fn bytes(&self, name: &str) -> Option<&[u8]> {
        self.find(name).map(|(file, entry)| file.bytes(entry))
    }

    /// Checks that the folder holds exactly the tensors of `specs`. One error names all that are missing, misshaped,
    /// of an unusable number type, or not part of the model. Not-a-numbers are no concern of this check.
    pub fn check(&self, specs: &[ParamSpec]) -> Result<()> {
        let (mut missing, mut misshaped, mut untyped) = (Vec::new(), Vec::new(), Vec::new());
        let mut expected = HashSet::new();
        for tensor in specs.iter().flat_map(|spec| &spec.disk) {
            expected.insert(tensor.name.as_str());
            let name = &tensor.name;
            match self.find(name) {
                None => missing.push(name.clone()),
                Some((_, entry)) if entry.shape != tensor.shape => {
                    misshaped.push(format!("{name} {:?}, expected {:?}", entry.shape, tensor.shape));
                }
                Some((_, entry)) if !is_weight_type(entry.dtype) => untyped.push(format!("{name} {}", entry.dtype)),
                Some(_) => {}
            }
        }
        let extra = self.home.keys().filter(|name| !expected.contains(name.as_str()) && !self.is_redundant(name));
        let mut extra: Vec<String> = extra.map(|name| format!("{name:?}")).collect();
        extra.sort();
        let complaints: Vec<String> = [
            ("missing", missing),
            ("of another shape", misshaped),
            ("of a number type other than F32, F16 and BF16", untyped),
            ("not part of the model", extra),
        ]
        .into_iter()
        .filter(|(_, names)| !names.is_empty())
        .map(|(what, names)| format!("{} tensors are {what}: {}", names.len(), listed(&names)))
        .collect();
        if complaints.is_empty() {
            return Ok(());
        }
        let hint = "check that config.json belongs to these weights";
        Err(Error::file(&self.folder, format!("{}; {hint}", complaints.join("; "))))
    }

    /// Whether a tensor that the model lacks repeats what it has: frequencies, or a copy of the shared embedding.
    fn is_redundant(&self, name: &str) -> bool {
        let copy = name == HEAD && self.bytes(HEAD) == self.bytes(EMBEDDING);
        copy || name.ends_with(FREQUENCIES)
    }

    /// Reads one parameter as f32: its tensors on disk one after the other.
    pub fn load(&self, spec: &ParamSpec) -> Result<Vec<f32>> {
        let mut values = Vec::new();
        for DiskTensor { name, shape } in &spec.disk {
            let refuse = |reason: String| Error::file(&self.folder, reason);
            let Some((file, entry)) = self.find(name) else {
                return Err(refuse(format!("tensor {name} is missing")));
            };
            if entry.shape != *shape {
                return Err(refuse(format!("tensor {name} is {:?}, expected {shape:?}", entry.shape)));
            }
            // The cast is exact: no type that passes has more digits than f32.
            match reals(entry.dtype, file.bytes(entry), |x| x as f32).filter(|_| is_weight_type(entry.dtype)) {
                Some(read) => values.extend(read),
                None => return Err(refuse(format!("tensor {name} is {}; it must be F32, F16 or BF16", entry.dtype))),
            }
        }
        Ok(values)
    }
}

fn is_weight_type(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16)
}

/// The first few of `names`, and how many more there are.
pub(crate) fn listed(names: &[String]) -> String {
    let shown = names.iter().take(MOST_NAMES).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(MOST_NAMES) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// Replaces `path` by the weights of `specs` under their names on disk. `load` is called once per parameter, in order,
/// and appends its elements to an empty vector: no more than one has to be in memory.
///
/// Panics if `load` gives another number of elements than the spec has: a broken invariant of the caller.
pub fn write_weights(
    path: &Path,
    specs: &[ParamSpec],
    stored: StoredType,
    mut load: impl FnMut(&ParamSpec, &mut Vec<f32>) -> Result<()>,
) -> Result<()> {
    let dtype = match stored {
        StoredType::F32 => Dtype::F32,
        StoredType::F16 => Dtype::F16,
        StoredType::Bf16 => Dtype::BF16,
    };
    let announce = |t: &DiskTensor| Announced { name: t.name.clone(), dtype, shape: t.shape.clone() };
    let announced: Vec<Announced> = specs.iter().flat_map(|spec| spec.disk.iter().map(announce)).collect();
    let parts = specs.iter().flat_map(|spec| (0..spec.disk.len()).map(move |part| (spec, part)));
    let parts: Vec<(&ParamSpec, usize)> = parts.collect();
    let mut values = Vec::new();
    write_container(path, &announced, |i, out| {
        let (spec, part) = parts[i];
        if part == 0 {
            values.clear(); // and used again: fresh memory would cost as much time as the copy into it
            load(spec, &mut values)?;
            assert_eq!(values.len(), spec.elements(), "{}: elements given and expected", spec.name);
        }
        // The tensors of a parameter are equal shares of it.
        let share = spec.elements() / spec.disk.len();
        write_reals(out, dtype, &values[part * share..(part + 1) * share]).map_err(|e| Error::io(path, e))
    })
}
