//! The safetensors container: eight bytes of header length, a JSON header, then the tensors without gaps.
//!
//! The header is parsed here, in bounded memory, and checked by the `safetensors` crate: offsets without gaps or
//! overlap, sizes that agree with shapes, no overflow. The file must end where the last tensor ends.

use super::draft::Target;
use super::mmap::map;
use crate::error::{Error, Result};
use crate::input::{Bounded, IS_POINTER, Text, is_pointer, one_line, quoted};
use memmap2::Mmap;
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};
use serde::Deserialize;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value, json};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

/// The format's own limit on the header, in bytes.
const LARGEST_HEADER: u64 = 100_000_000;
/// More tensors than any model that could be trained here has.
pub(super) const MOST_TENSORS: usize = 100_000;
/// More axes than any tensor has.
const MOST_AXES: usize = 8;
/// Bytes of a tensor's name, several times the longest published one.
pub(super) const LONGEST_NAME: usize = 512;
/// JSON values of a tensor's description with [`MOST_AXES`], and bytes of the longest word in it.
const DESCRIBED: (usize, usize) = (MOST_AXES + 6, 16);

/// Where a tensor stands in its file.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Element type.
    pub dtype: Dtype,
    /// Shape, row-major.
    pub shape: Vec<usize>,
    /// First byte and the byte after the last, counted from the start of the file.
    range: (usize, usize),
}

impl Entry {
    /// The part of this tensor that begins with the element `first`, as a tensor of `shape`; it must lie inside.
    pub(super) fn part(&self, first: usize, shape: Vec<usize>) -> Entry {
        let bytes = |elements: usize| elements * self.dtype.bitsize() / 8;
        let start = self.range.0 + bytes(first);
        let end = start + bytes(shape.iter().product());
        Entry { dtype: self.dtype, shape, range: (start, end) }
    }
}

/// An open file whose header has passed every check.
#[derive(Debug)]
pub struct Container {
    path: PathBuf,
    bytes: Mmap,
    entries: BTreeMap<String, Entry>,
}

impl Container {
    /// Maps `path` and checks its header.
    pub fn open(path: &Path) -> Result<Container> {
        let bytes = map(path)?;
        if is_pointer(&bytes) {
            return Err(Error::file(path, IS_POINTER));
        }
        let unsound = |reason: String| Error::file(path, format!("is not a sound safetensors file: {reason}"));
        let entries = parse(&bytes).map_err(unsound)?;
        Ok(Container { path: path.to_owned(), bytes, entries })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of the file.
    pub(super) fn length(&self) -> usize {
        self.bytes.len()
    }

    /// The whole file.
    pub(super) fn all(&self) -> &[u8] {
        &self.bytes
    }

    /// All tensors by name.
    pub fn entries(&self) -> &BTreeMap<String, Entry> {
        &self.entries
    }

    /// The bytes of one of this container's entries.
    pub fn bytes(&self, entry: &Entry) -> &[u8] {
        &self.bytes[entry.range.0..entry.range.1]
    }
}

/// Checks the header of a whole file. The reason of a refusal is safe to print.
pub fn parse(bytes: &[u8]) -> std::result::Result<BTreeMap<String, Entry>, String> {
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else {
        return Err(format!("it has {} bytes and no room for a header; copy it again", bytes.len()));
    };
    let length = u64::from_le_bytes(*length);
    if length > LARGEST_HEADER {
        return Err(format!("it announces a header of {length} bytes, more than {LARGEST_HEADER}"));
    }
    let length = length as usize;
    let Some(header) = rest.get(..length) else {
        return Err(format!(
            "it announces a header of {length} bytes but has {} after that; copy it again",
            rest.len()
        ));
    };
    let mut reader = serde_json::Deserializer::from_slice(header);
    let named = Header.deserialize(&mut reader).and_then(|named| reader.end().map(|()| named));
    let named = named.map_err(|e| format!("its header: {}", one_line(&e)))?;
    let mut named: Vec<(String, TensorInfo)> = named.into_iter().collect();
    named.sort_by_key(|(_, info)| info.data_offsets);
    let infos: Vec<(String, TensorInfo)> = named.clone();
    let metadata = Metadata::new(None, named).map_err(|e| one_line(&e))?;
    let (held, start) = (rest.len() - length, 8 + length);
    if metadata.data_len() != held {
        let needed = metadata.data_len();
        return Err(format!("its tensors need {needed} bytes but it holds {held}; copy it again"));
    }
    let entry = |info: TensorInfo| {
        let range = (start + info.data_offsets.0, start + info.data_offsets.1);
        Entry { dtype: info.dtype, shape: info.shape, range }
    };
    Ok(infos.into_iter().map(|(name, info)| (name, entry(info))).collect())
}

/// Reads the header's JSON object, piece by piece, so that a hostile one costs little more memory than its text.
struct Header;

impl<'de> DeserializeSeed<'de> for Header {
    type Value = BTreeMap<String, TensorInfo>;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> std::result::Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Header {
    type Value = BTreeMap<String, TensorInfo>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Self::Value, A::Error> {
        use serde::de::Error as _;
        let mut tensors = BTreeMap::new();
        while let Some(name) = map.next_key_seed(Text(LONGEST_NAME))? {
            if name == "__metadata__" {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let (values, text) = DESCRIBED;
            let described = map.next_value_seed(Bounded { values: &Cell::new(values), text })?;
            let wrong = |e: serde_json::Error| A::Error::custom(format!("tensor {}: {}", quoted(&name), one_line(&e)));
            let Described { dtype, shape, data_offsets } = Described::deserialize(described).map_err(wrong)?;
            if tensors.len() == MOST_TENSORS {
                return Err(A::Error::custom(format!("more than {MOST_TENSORS} tensors")));
            }
            if tensors.contains_key(&name) {
                return Err(A::Error::custom(format!("tensor {} stands there twice", quoted(&name))));
            }
            tensors.insert(name, TensorInfo { dtype, shape, data_offsets });
        }
        Ok(tensors)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Described {
    dtype: Dtype,
    shape: Vec<usize>,
    data_offsets: (usize, usize),
}

/// A tensor to be written.
#[derive(Clone, Debug)]
pub struct Announced {
    /// Name in the file; no other tensor of the file may have it.
    pub name: String,
    /// Element type.
    pub dtype: Dtype,
    /// Shape, row-major.
    pub shape: Vec<usize>,
}

impl Announced {
    /// Length in the file.
    pub(crate) fn bytes(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype.bitsize() / 8
    }
}

/// Replaces `path` by a file of `tensors`. `fill` is called once per tensor, in order, and writes exactly its bytes,
/// little-endian: no more than one tensor has to be in memory.
///
/// Panics if `fill` writes another number of bytes than it announced, or names repeat: broken invariants of the caller.
pub fn write_container(
    target: impl Target,
    tensors: &[Announced],
    mut fill: impl FnMut(usize, &mut dyn Write) -> Result<()>,
) -> Result<()> {
    let (header, path) = (header_of(tensors), target.path());
    target.write(|out| {
        let io = |e| Error::io(&path, e);
        out.write_all(&(header.len() as u64).to_le_bytes()).map_err(io)?;
        out.write_all(header.as_bytes()).map_err(io)?;
        for (i, tensor) in tensors.iter().enumerate() {
            let mut counted = Counted { out: &mut *out, bytes: 0 };
            fill(i, &mut counted)?;
            assert_eq!(counted.bytes, tensor.bytes(), "{}: bytes written and announced", tensor.name);
        }
        Ok(())
    })
}

/// The header's text, padded with spaces so that the tensors start at a multiple of 8 bytes.
fn header_of(tensors: &[Announced]) -> String {
    let mut header = Map::new();
    // What transformers writes; some older readers insist on it.
    header.insert("__metadata__".to_owned(), json!({"format": "pt"}));
    let mut start = 0;
    for tensor in tensors {
        let end = start + tensor.bytes();
        let described: Value = json!({"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [start, end]});
        let old = header.insert(tensor.name.clone(), described);
        assert!(old.is_none(), "{}: written twice", tensor.name);
        start = end;
    }
    let mut text = Value::Object(header).to_string();
    text.push_str(&" ".repeat(text.len().next_multiple_of(8) - text.len()));
    text
}

struct Counted<'a> {
    out: &'a mut dyn Write,
    bytes: usize,
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.bytes += written;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}
