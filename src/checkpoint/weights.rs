//! A model's weights: opened and checked against the table of parameters, loaded as f32, written for transformers.

use super::adapters::{ADAPTERS, Adapters};
use super::container::{Announced, Container, Entry, MOST_TENSORS, write_container};
use super::draft::Target;
use super::folder::inside;
use super::fused::apart;
use super::index::open_files;
use super::tensors::{reals, write_reals};
use crate::config::hf::StoredType;
use crate::error::{Error, Result};
use crate::model::goal::VALUE;
use crate::model::lora::{self, adapt, is_adapter};
use crate::model::params::{DiskTensor, ParamSpec};
use safetensors::Dtype;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

/// At most this many names of one kind in a message.
const MOST_NAMES: usize = 5;
/// Bytes that are turned into f32 at a time.
const PIECE: usize = 1 << 18;
const EMBEDDING: &str = "model.embed_tokens.weight";
const HEAD: &str = "lm_head.weight";
/// Rotation frequencies, which old files store and every reader computes.
const FREQUENCIES: &str = ".rotary_emb.inv_freq";

/// The weights of one folder, in one file or several.
#[derive(Debug)]
pub struct Weights {
    folder: PathBuf,
    files: Vec<Container>,
    /// Tensor name to the number of its file, and where it stands there.
    home: HashMap<String, (usize, Entry)>,
    /// What stands beside them where the folder holds adapters; they themselves are in its base.
    beside: Option<Box<Beside>>,
}

/// Adapters beside weights.
#[derive(Debug)]
struct Beside {
    adapters: Adapters,
    pairs: Weights,
    /// Whether they are added to the weights, or kept apart.
    merge: bool,
}

impl Weights {
    /// Opens `model.safetensors` of `dir`, or the shards that its index names. Nothing is read but headers. Experts
    /// that are one tensor are taken apart. Of adapters the base is opened, and they are added to it: as f32 each
    /// matrix is `W + scale B A`, rounded once.
    ///
    /// Errors: the files are not sound; the base of adapters is gone or not what it was, for which it is read.
    pub fn open(dir: &Path) -> Result<Weights> {
        let Some(adapters) = Adapters::beside(dir)? else { return Weights::of(dir, open_files(dir)?) };
        adapters.check_base()?;
        let pairs = Weights::of(dir, vec![Container::open(&inside(dir, ADAPTERS)?)?])?;
        let base = Weights::of(&adapters.base, open_files(&adapters.base)?)?;
        Ok(Weights { beside: Some(Box::new(Beside { adapters, pairs, merge: true })), ..base })
    }

    /// The same with adapters, if there are some, apart: tensors under their own names.
    pub fn apart(mut self) -> Weights {
        self.beside.iter_mut().for_each(|beside| beside.merge = false);
        self
    }

    /// The adapters that stand beside them.
    pub fn adapters(&self) -> Option<&Adapters> {
        self.beside.as_ref().map(|beside| &beside.adapters)
    }

    fn of(dir: &Path, files: Vec<Container>) -> Result<Weights> {
        let mut home = HashMap::new();
        let mut twice = Vec::new();
        for (i, file) in files.iter().enumerate() {
            for (name, entry) in file.entries().iter().flat_map(|(name, entry)| apart(name, entry)) {
                if home.len() == MOST_TENSORS {
                    return Err(Error::file(
                        dir,
                        format!("holds more than {MOST_TENSORS} tensors, experts by themselves"),
                    ));
                }
                if home.contains_key(&name) {
                    twice.push(format!("{name:?}"));
                }
                home.insert(name, (i, entry));
            }
        }
        match complaint("tensors stand there twice", &twice) {
            None => Ok(Weights { folder: dir.to_owned(), files, home, beside: None }),
            Some(reason) => Err(Error::file(dir, reason)),
        }
    }

    /// The folder that they are in.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    fn find(&self, name: &str) -> Option<(&Container, &Entry)> {
        if let Some(beside) = self.beside.as_ref().filter(|_| name.starts_with(lora::PREFIX)) {
            return beside.pairs.find(name);
        }
        let (file, entry) = self.home.get(name)?;
        Some((&self.files[*file], entry))
    }

    fn bytes(&self, name: &str) -> Option<&[u8]> {
        self.find(name).map(|(file, entry)| file.bytes(entry))
    }

    /// Checks that the folder holds exactly the tensors of `specs`, and beside them the adapters that it says. One
    /// error names all that are missing, misshaped, of an unusable number type, or not part of the model.
    /// Not-a-numbers are a concern of this check in adapters alone.
    pub fn check(&self, specs: &[ParamSpec]) -> Result<()> {
        let Some(beside) = &self.beside else { return self.check_all(specs) };
        let base: Vec<ParamSpec> = specs.iter().filter(|spec| !is_adapter(spec)).cloned().collect();
        self.check_all(&base)?;
        let pairs: Vec<ParamSpec> = adapt(base, &beside.adapters.lora).into_iter().filter(is_adapter).collect();
        beside.pairs.check_all(&pairs)?;
        let mut odd = Vec::new();
        for spec in &pairs {
            let mut values = vec![0.0; spec.elements()];
            beside.pairs.load(spec, &mut values)?;
            odd.extend(not_finite(spec, &values));
        }
        beside.pairs.refuse_not_finite(&odd)
    }

    fn check_all(&self, specs: &[ParamSpec]) -> Result<()> {
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
        let complaints = [
            complaint("tensors are missing", &missing),
            complaint("tensors are of another shape", &misshaped),
            complaint("tensors are of a number type other than F32, F16 and BF16", &untyped),
            complaint("tensors are not part of the model", &extra),
        ];
        let complaints: Vec<String> = complaints.into_iter().flatten().collect();
        if complaints.is_empty() {
            return Ok(());
        }
        let hint = "check that config.json belongs to these weights";
        Err(Error::file(&self.folder, format!("{}; {hint}", complaints.join("; "))))
    }

    /// Whether a tensor that the model lacks repeats what it has: frequencies, or a copy of the shared embedding; or is
    /// a value head, which training alone needs.
    fn is_redundant(&self, name: &str) -> bool {
        let copy = name == HEAD && self.bytes(HEAD) == self.bytes(EMBEDDING);
        copy || name == VALUE || name.ends_with(FREQUENCIES)
    }

    /// Reads one parameter as f32 into `values`, as many as it has elements: its tensors on disk one after the other.
    pub fn load(&self, spec: &ParamSpec, values: &mut [f32]) -> Result<()> {
        let mut rest = values;
        for tensor in &spec.disk {
            self.stream(tensor, |piece| {
                let (target, after) = std::mem::take(&mut rest).split_at_mut(piece.len());
                target.copy_from_slice(piece);
                rest = after;
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Hands one tensor, merged with its adapter if that is wanted, to `take` as f32, a piece at a time.
    pub(super) fn stream(&self, tensor: &DiskTensor, mut take: impl FnMut(&[f32]) -> Result<()>) -> Result<()> {
        match self.merged(tensor)? {
            Some(values) => values.chunks(PIECE / 4).try_for_each(take),
            None => self.stream_alone(tensor, &mut take),
        }
    }

    /// A tensor with its adapter added to it; nothing if it has none, or they are kept apart.
    fn merged(&self, tensor: &DiskTensor) -> Result<Option<Vec<f32>>> {
        let Some(beside) = self.beside.as_ref().filter(|beside| beside.merge) else { return Ok(None) };
        let names = lora::names(&tensor.name).map(|name| format!("{}{name}", lora::PREFIX));
        let (rank, &[outputs, inputs]) = (beside.adapters.lora.rank, &tensor.shape[..]) else { return Ok(None) };
        if beside.pairs.find(&names[0]).is_none() {
            return Ok(None);
        }
        let [a, b] = names;
        let a = beside.pairs.whole(&DiskTensor { name: a, shape: vec![rank, inputs] })?;
        let b = beside.pairs.whole(&DiskTensor { name: b, shape: vec![outputs, rank] })?;
        let mut values = self.whole(tensor)?;
        lora::merge(&mut values, [&a, &b], 1, rank, beside.adapters.lora.scale());
        Ok(Some(values))
    }

    /// All elements of one tensor, without its adapter.
    fn whole(&self, tensor: &DiskTensor) -> Result<Vec<f32>> {
        let mut values = Vec::new();
        self.stream_alone(tensor, &mut |piece| {
            values.extend_from_slice(piece);
            Ok(())
        })?;
        Ok(values)
    }

    fn stream_alone(&self, tensor: &DiskTensor, take: &mut dyn FnMut(&[f32]) -> Result<()>) -> Result<()> {
        let DiskTensor { name, shape } = tensor;
        let refuse = |reason: String| Error::file(&self.folder, reason);
        let Some((file, entry)) = self.find(name) else {
            return Err(refuse(format!("tensor {name} is missing")));
        };
        if entry.shape != *shape {
            return Err(refuse(format!("tensor {name} is {:?}, expected {shape:?}", entry.shape)));
        }
        // A multiple of every number's bytes.
        for piece in file.bytes(entry).chunks(PIECE) {
            // The cast is exact: no type that passes has more digits than f32.
            match reals(entry.dtype, piece, |x| x as f32).filter(|_| is_weight_type(entry.dtype)) {
                Some(values) => take(&values)?,
                None => return Err(refuse(format!("tensor {name} is {}; it must be F32, F16 or BF16", entry.dtype))),
            }
        }
        Ok(())
    }

    /// Hands what fills a parameter to `load`, which fills all of them.
    ///
    /// Errors: those of `load`; in the end, that numbers are not finite.
    pub fn load_all(&self, load: impl FnOnce(&mut Fill<'_>) -> Result<()>) -> Result<()> {
        let mut odd = Vec::new();
        load(&mut |spec, values| {
            self.load(spec, values)?;
            odd.extend(not_finite(spec, values));
            Ok(())
        })?;
        self.refuse_not_finite(&odd)
    }

    /// Refuses these weights if `names`, of tensors with elements that are infinite or not a number, has any.
    pub(super) fn refuse_not_finite(&self, names: &[String]) -> Result<()> {
        match complaint("tensors hold numbers that are not finite", names) {
            None => Ok(()),
            Some(reason) => Err(Error::file(&self.folder, reason)),
        }
    }
}

/// What fills a parameter's elements.
pub type Fill<'a> = dyn FnMut(&ParamSpec, &mut [f32]) -> Result<()> + Send + 'a;

/// Names of the tensors on disk of a parameter in whose share of `values` some are infinite or not a number.
pub(super) fn not_finite<'a>(spec: &'a ParamSpec, values: &'a [f32]) -> impl Iterator<Item = String> + 'a {
    let odd = |values: &[f32]| !values.iter().all(|x| x.is_finite());
    tensors_of(spec, values).filter(move |(_, values)| odd(values)).map(|(tensor, _)| tensor.name.clone())
}

/// The tensors on disk of a parameter, each by its name and its share of the parameter's elements.
pub fn tensors_of<'a>(spec: &'a ParamSpec, values: &'a [f32]) -> impl Iterator<Item = (&'a DiskTensor, &'a [f32])> {
    let share = (spec.elements() / spec.disk.len()).max(1);
    spec.disk.iter().zip(values.chunks(share))
}

fn is_weight_type(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16)
}

/// How many `names` there are of a kind, what is wrong with them, and the first few; nothing where there are none.
pub(super) fn complaint(what: &str, names: &[String]) -> Option<String> {
    if names.is_empty() {
        return None;
    }
    Some(format!("{} {what}: {}", names.len(), listed(names)))
}

/// The first few of `names`, and how many more there are.
pub(crate) fn listed(names: &[String]) -> String {
    let shown = names.iter().take(MOST_NAMES).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(MOST_NAMES) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// The container's word for a number type.
pub(super) fn dtype_of(stored: StoredType) -> Dtype {
    match stored {
        StoredType::F32 => Dtype::F32,
        StoredType::F16 => Dtype::F16,
        StoredType::Bf16 => Dtype::BF16,
    }
}

/// Replaces `target` by the weights of `specs` under their names on disk. `load` is called once per parameter, in
/// order, and appends its elements to an empty vector: no more than one has to be in memory.
///
/// Panics if `load` gives another number of elements than the spec has: a broken invariant of the caller.
pub fn write_weights(
    target: impl Target,
    specs: &[ParamSpec],
    stored: StoredType,
    mut load: impl FnMut(&ParamSpec, &mut Vec<f32>) -> Result<()>,
) -> Result<()> {
    let (dtype, path) = (dtype_of(stored), target.path());
    let announce = |t: &DiskTensor| Announced { name: t.name.clone(), dtype, shape: t.shape.clone() };
    let announced: Vec<Announced> = specs.iter().flat_map(|spec| spec.disk.iter().map(announce)).collect();
    let parts = specs.iter().flat_map(|spec| (0..spec.disk.len()).map(move |part| (spec, part)));
    let parts: Vec<(&ParamSpec, usize)> = parts.collect();
    let mut values = Vec::new();
    write_container(target, &announced, |i, out| {
        let (spec, part) = parts[i];
        if part == 0 {
            values.clear(); // and used again: fresh memory would cost as much time as the copy into it
            load(spec, &mut values)?;
            assert_eq!(values.len(), spec.elements(), "{}: elements given and expected", spec.name);
        }
        // The tensors of a parameter are equal shares of it.
        let share = spec.elements() / spec.disk.len();
        write_reals(out, dtype, &values[part * share..(part + 1) * share]).map_err(|e| Error::io(&path, e))
    })
}
