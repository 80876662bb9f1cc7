//! Weights from one folder into another, of another number type and in other files. No tensor is ever in memory as a
//! whole: pieces of a mapped file are converted on their way into the new one.

use super::container::{Announced, write_container};
use super::disk::replace_text;
use super::index::{INDEX, SINGLE};
use super::tensors::write_reals;
use super::weights::{Weights, complaint, dtype_of};
use crate::config::hf::StoredType;
use crate::error::{Error, Result};
use crate::model::params::{DiskTensor, ParamSpec};
use serde_json::{Map, Value, json};
use std::ops::Range;
use std::path::Path;

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copied {
    /// Tensors.
    pub tensors: usize,
    /// Files of weights.
    pub files: usize,
    /// Bytes of the tensors.
    pub bytes: u64,
}

/// Writes the tensors of `specs` from `weights` into `dir` as `stored`: `model.safetensors`, or files of at most
/// `largest` bytes (more where one tensor has more) and the index that names them.
///
/// Errors: a tensor is missing or misshaped; elements are not finite, or too large for `stored`. The last two are found
/// on the way, after which all such tensors are named and `dir` is of no use.
pub fn copy_weights(
    weights: &Weights,
    specs: &[ParamSpec],
    stored: StoredType,
    largest: u64,
    dir: &Path,
) -> Result<Copied> {
    let dtype = dtype_of(stored);
    let tensors: Vec<&DiskTensor> = specs.iter().flat_map(|spec| &spec.disk).collect();
    let announce = |t: &&DiskTensor| Announced { name: t.name.clone(), dtype, shape: t.shape.clone() };
    let announced: Vec<Announced> = tensors.iter().map(announce).collect();
    let shards = shards(&announced, largest);
    let (mut odd, mut large) = (Vec::new(), Vec::new());
    let mut weight_map = Map::new();
    for (number, range) in shards.iter().enumerate() {
        let file = match shards.len() {
            1 => SINGLE.to_owned(),
            all => format!("model-{:05}-of-{all:05}.safetensors", number + 1),
        };
        let path = dir.join(&file);
        write_container(&path, &announced[range.clone()], |i, out| {
            let tensor = tensors[range.start + i];
            let (mut finite, mut largest) = (true, 0.0f32);
            weights.stream(tensor, |piece| {
                finite &= piece.iter().all(|x| x.is_finite());
                largest = piece.iter().fold(largest, |largest, x| largest.max(x.abs()));
                write_reals(out, dtype, piece).map_err(|e| Error::io(&path, e))
            })?;
            if !finite {
                odd.push(tensor.name.clone());
            } else if largest >= stored.overflow() {
                large.push(format!("{} up to {largest:e}", tensor.name));
            }
            Ok(())
        })?;
        weight_map.extend(tensors[range.clone()].iter().map(|t| (t.name.clone(), Value::from(file.as_str()))));
    }
    weights.refuse_not_finite(&odd)?;
    if let Some(reason) = complaint(&format!("tensors hold numbers too large for {}", stored.name()), &large) {
        return Err(Error::file(weights.folder(), format!("{reason}; choose another --dtype")));
    }
    let bytes = announced.iter().map(|t| t.bytes() as u64).sum();
    if shards.len() > 1 {
        let index = json!({"metadata": {"total_size": bytes}, "weight_map": weight_map});
        replace_text(&dir.join(INDEX), &format!("{index:#}\n"))?;
    }
    Ok(Copied { tensors: tensors.len(), files: shards.len(), bytes })
}

/// Which tensors go into which file.
fn shards(tensors: &[Announced], largest: u64) -> Vec<Range<usize>> {
    let (mut shards, mut first, mut bytes) = (Vec::new(), 0, 0);
    for (i, tensor) in tensors.iter().enumerate() {
        if i > first && bytes + tensor.bytes() as u64 > largest {
            shards.push(first..i);
            (first, bytes) = (i, 0);
        }
        bytes += tensor.bytes() as u64;
    }
    shards.push(first..tensors.len());
    shards
}

#[cfg(test)]
mod tests {
    use super::*;
    use safetensors::Dtype;

    #[test]
    fn files_hold_as_many_tensors_as_fit_and_at_least_one() {
        let tensors: Vec<Announced> =
            [4, 4, 9, 1, 1, 1].map(|n| Announced { name: String::new(), dtype: Dtype::F32, shape: vec![n] }).to_vec();
        assert_eq!(shards(&tensors, 32), [0..2, 2..3, 3..6]);
        assert_eq!(shards(&tensors, 1), [0..1, 1..2, 2..3, 3..4, 4..5, 5..6]);
        assert_eq!(shards(&tensors, u64::MAX), [Range { start: 0, end: 6 }]);
    }
}
