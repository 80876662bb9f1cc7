//! Which files a folder's weights are in: `model.safetensors`, or the shards that `model.safetensors.index.json` names.

use super::container::{Container, LONGEST_NAME, MOST_TENSORS};
use super::folder::{inside, inside_if_there, is_plain};
use super::weights::complaint;
use crate::error::{Error, Result};
use crate::input::{self, Bounded, Text, one_line, quoted};
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

/// The file of weights that are in one.
pub(crate) const SINGLE: &str = "model.safetensors";
/// The file that names the others where they are in several.
pub(super) const INDEX: &str = "model.safetensors.index.json";
/// As the limit of a safetensors header, of which an index repeats a part.
const LARGEST_INDEX: u64 = 100_000_000;

/// Opens every file of the weights in `dir`.
pub(super) fn open_files(dir: &Path) -> Result<Vec<Container>> {
    if let Some(single) = inside_if_there(dir, SINGLE)? {
        return Ok(vec![Container::open(&single)?]);
    }
    if let Some(index) = inside_if_there(dir, INDEX)? {
        return open_shards(dir, &index);
    }
    Err(Error::file(dir, format!("holds neither {SINGLE} nor {INDEX}; give a folder with a model's weights")))
}

/// The shards, each with the tensors that an index lists for it.
#[derive(Debug)]
pub struct Index {
    shards: BTreeMap<String, BTreeSet<String>>,
    /// What else it lists.
    complaints: Vec<String>,
}

impl Index {
    /// The index in the text of a file. The reason of a refusal is safe to print.
    pub fn parse(text: &[u8]) -> std::result::Result<Index, String> {
        let mut reader = serde_json::Deserializer::from_slice(text);
        let listed = Top.deserialize(&mut reader).and_then(|listed| reader.end().map(|()| listed));
        let listed = listed.map_err(|e| format!("is no index: {}", one_line(&e)))?;
        let Some(listed) = listed else {
            return Err("has no \"weight_map\" object from tensor to file names".to_owned());
        };
        let (mut shards, mut unmapped) = (BTreeMap::<String, BTreeSet<String>>::new(), Vec::new());
        for (tensor, file) in listed {
            match file {
                Value::String(file) => drop(shards.entry(file).or_default().insert(tensor)),
                _ => unmapped.push(quoted(&tensor)),
            }
        }
        let plain = |file: &String| is_plain(file) && file.ends_with(".safetensors");
        let (sound, odd): (BTreeMap<_, _>, BTreeMap<_, _>) = shards.into_iter().partition(|(file, _)| plain(file));
        let odd: Vec<String> = odd.keys().map(|file| quoted(file)).collect();
        let complaints = [
            complaint("tensors are not mapped to a file name", &unmapped),
            complaint("file names are not plain names that end in .safetensors", &odd),
        ];
        Ok(Index { shards: sound, complaints: complaints.into_iter().flatten().collect() })
    }
}

/// Reads an index's `weight_map`, if it has one, piece by piece: the rest may be anything.
struct Top;

impl<'de> DeserializeSeed<'de> for Top {
    type Value = Option<BTreeMap<String, Value>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Top {
    type Value = Option<BTreeMap<String, Value>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(key) = map.next_key_seed(Text(LONGEST_NAME))? {
            if key != "weight_map" {
                map.next_value::<IgnoredAny>()?;
            } else if found.is_some() {
                return Err(A::Error::custom("\"weight_map\" stands there twice"));
            } else {
                found = Some(map.next_value_seed(WeightMap)?);
            }
        }
        Ok(found)
    }
}

/// Reads the object from tensors to files.
struct WeightMap;

impl<'de> DeserializeSeed<'de> for WeightMap {
    type Value = BTreeMap<String, Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for WeightMap {
    type Value = BTreeMap<String, Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a \"weight_map\" object from tensor to file names")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Self::Value, A::Error> {
        let mut listed = BTreeMap::new();
        while let Some(tensor) = map.next_key_seed(Text(LONGEST_NAME))? {
            let file = map.next_value_seed(Bounded { values: &Cell::new(1), text: LONGEST_NAME })?;
            if listed.len() == MOST_TENSORS {
                return Err(A::Error::custom(format!("more than {MOST_TENSORS} tensors")));
            }
            if listed.contains_key(&tensor) {
                return Err(A::Error::custom(format!("tensor {} stands there twice", quoted(&tensor))));
            }
            listed.insert(tensor, file);
        }
        Ok(listed)
    }
}

/// Opens every shard. One error names all that is wrong with the list of files, another all that is wrong with the
/// list of tensors, which can only be told from the files.
fn open_shards(dir: &Path, index: &Path) -> Result<Vec<Container>> {
    let wrong = |reason| Error::file(index, reason);
    let Index { shards, mut complaints } = Index::parse(&input::read(index, LARGEST_INDEX)?).map_err(wrong)?;
    let unreadable: Vec<String> =
        shards.keys().filter_map(|file| inside(dir, file).err()).map(|e| e.to_string()).collect();
    complaints.extend(complaint("files cannot be opened", &unreadable));
    refuse(complaints).map_err(wrong)?;
    let (mut opened, mut absent, mut unlisted) = (Vec::new(), Vec::new(), Vec::new());
    for (file, tensors) in &shards {
        let shard = Container::open(&dir.join(file))?;
        let held = shard.entries();
        absent
            .extend(tensors.iter().filter(|name| !held.contains_key(*name)).map(|name| format!("{name:?} in {file}")));
        unlisted.extend(held.keys().filter(|name| !tensors.contains(*name)).map(|name| format!("{name:?} in {file}")));
        opened.push(shard);
    }
    let absent = complaint("tensors are listed but not in their file", &absent);
    let unlisted = complaint("tensors are in a file but not listed for it", &unlisted);
    refuse(absent.into_iter().chain(unlisted).collect()).map_err(wrong)?;
    Ok(opened)
}

fn refuse(complaints: Vec<String>) -> std::result::Result<(), String> {
    if complaints.is_empty() { Ok(()) } else { Err(complaints.join("; ")) }
}
