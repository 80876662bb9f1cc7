//! Small files of named tensors, whole in memory: batches and results of the parity commands, and the golden files.

use super::container::{Announced, Container, write_container};
use crate::error::{Error, Result};
use crate::input::quoted;
use half::{bf16, f16};
use safetensors::Dtype;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

/// The elements of a tensor.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// Any float type, widened.
    Real(Vec<f64>),
    /// Any signed integer type, widened.
    Index(Vec<i64>),
}

/// A tensor in memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Shape, row-major.
    pub shape: Vec<usize>,
    /// Elements, row-major.
    pub values: Values,
}

/// Largest file that is read whole: widened, it is up to four times as large.
const LARGEST: u64 = 64 << 20;

/// Reads every tensor of a safetensors file of at most 64 MiB. Floats of 16 to 64 bits and integers of 32 and 64 bits
/// are understood.
pub fn read_tensors(path: &Path) -> Result<BTreeMap<String, Tensor>> {
    let container = Container::open(path)?;
    if container.length() as u64 > LARGEST {
        return Err(Error::file(
            path,
            format!("is larger than {LARGEST} bytes, more than a batch or a result can need"),
        ));
    }
    let mut tensors = BTreeMap::new();
    for (name, entry) in container.entries() {
        let bytes = container.bytes(entry);
        let values = match (reals(entry.dtype, bytes, |x| x), entry.dtype) {
            (Some(values), _) => Values::Real(values),
            (None, Dtype::I32) => Values::Index(words(bytes, |b| i64::from(i32::from_le_bytes(b)))),
            (None, Dtype::I64) => Values::Index(words(bytes, i64::from_le_bytes)),
            (None, other) => {
                return Err(Error::file(path, format!("tensor {} is {other}, which is not understood", quoted(name))));
            }
        };
        tensors.insert(name.clone(), Tensor { shape: entry.shape.clone(), values });
    }
    Ok(tensors)
}

/// Replaces `path` by a file of f32 tensors: name, shape, elements.
///
/// Panics if a shape and its elements disagree: a broken invariant of the caller.
pub fn write_tensors(path: &Path, tensors: &[(String, Vec<usize>, Vec<f32>)]) -> Result<()> {
    let announce = |(name, shape, _): &(String, Vec<usize>, _)| Announced {
        name: name.clone(),
        dtype: Dtype::F32,
        shape: shape.clone(),
    };
    let announced: Vec<Announced> = tensors.iter().map(announce).collect();
    write_container(path, &announced, |i, out| {
        write_reals(out, Dtype::F32, &tensors[i].2).map_err(|e| Error::io(path, e))
    })
}

/// Little-endian words of `N` bytes.
fn words<const N: usize, T>(bytes: &[u8], read: impl Fn([u8; N]) -> T) -> Vec<T> {
    let (words, _) = bytes.as_chunks::<N>();
    words.iter().map(|&word| read(word)).collect()
}

/// Elements of a float type, widened and then given to `cast`; nothing where `dtype` is none.
pub(crate) fn reals<T>(dtype: Dtype, bytes: &[u8], cast: impl Fn(f64) -> T) -> Option<Vec<T>> {
    Some(match dtype {
        Dtype::F16 => words(bytes, |b| cast(f16::from_le_bytes(b).to_f64())),
        Dtype::BF16 => words(bytes, |b| cast(bf16::from_le_bytes(b).to_f64())),
        Dtype::F32 => words(bytes, |b| cast(f64::from(f32::from_le_bytes(b)))),
        Dtype::F64 => words(bytes, |b| cast(f64::from_le_bytes(b))),
        _ => return None,
    })
}

/// Writes `values` as F32, F16 or BF16, rounded to nearest.
pub(crate) fn write_reals(out: &mut dyn Write, dtype: Dtype, values: &[f32]) -> io::Result<()> {
    if dtype == Dtype::F32 && cfg!(target_endian = "little") {
        return out.write_all(bytemuck::cast_slice(values));
    }
    let mut buffer = Vec::new();
    for part in values.chunks(1 << 14) {
        buffer.clear();
        for &x in part {
            match dtype {
                Dtype::F16 => buffer.extend(f16::from_f32(x).to_le_bytes()),
                Dtype::BF16 => buffer.extend(bf16::from_f32(x).to_le_bytes()),
                _ => buffer.extend(x.to_le_bytes()),
            }
        }
        out.write_all(&buffer)?;
    }
    Ok(())
}
