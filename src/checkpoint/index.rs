//! Which files a folder's weights are in: `model.safetensors`, or the shards that `model.safetensors.index.json` names.

use super::container::Container;
use super::disk::read_json_object;
use super::folder::{inside, inside_if_there};
use super::weights::complaint;
use crate::error::{Error, Result};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The file of weights that are in one.
pub(super) const SINGLE: &str = "model.safetensors";
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

/// Opens every shard. One error names all that is wrong with the list of files, another all that is wrong with the
/// list of tensors, which can only be told from the files.
fn open_shards(dir: &Path, index: &Path) -> Result<Vec<Container>> {
    let map = read_json_object(index, LARGEST_INDEX)?;
    let Some(Value::Object(weight_map)) = map.get("weight_map") else {
        return Err(Error::file(index, "has no \"weight_map\" object from tensor to file names"));
    };
    let mut unmapped = Vec::new();
    let mut shards: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (tensor, file) in weight_map {
        match file.as_str() {
            Some(file) => drop(shards.entry(file).or_default().insert(tensor)),
            None => unmapped.push(format!("{tensor:?}")),
        }
    }
    let shown = |file: &&str| format!("{file:?}");
    let odd: Vec<String> = shards.keys().filter(|file| !is_plain(file)).map(shown).collect();
    let sound = shards.keys().filter(|file| is_plain(file));
    let unreadable: Vec<String> = sound.filter_map(|file| inside(dir, file).err()).map(|e| e.to_string()).collect();
    refuse(
        index,
        [
            complaint("tensors are not mapped to a file name", &unmapped),
            complaint("file names are not plain names that end in .safetensors", &odd),
            complaint("files cannot be opened", &unreadable),
        ],
    )?;
    let (mut opened, mut absent, mut unlisted) = (Vec::new(), Vec::new(), Vec::new());
    for (file, tensors) in shards {
        let shard = Container::open(&dir.join(file))?;
        let held: BTreeSet<&str> = shard.entries().keys().map(String::as_str).collect();
        absent.extend(tensors.difference(&held).map(|name| format!("{name:?} in {file}")));
        unlisted.extend(held.difference(&tensors).map(|name| format!("{name:?} in {file}")));
        opened.push(shard);
    }
    refuse(
        index,
        [
            complaint("tensors are listed but not in their file", &absent),
            complaint("tensors are in a file but not listed for it", &unlisted),
        ],
    )?;
    Ok(opened)
}

fn refuse<const N: usize>(index: &Path, complaints: [Option<String>; N]) -> Result<()> {
    let complaints: Vec<String> = complaints.into_iter().flatten().collect();
    match complaints.is_empty() {
        true => Ok(()),
        false => Err(Error::file(index, complaints.join("; "))),
    }
}

/// Whether a shard's name is a file name and no path.
fn is_plain(file: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    file.ends_with(".safetensors") && !file.starts_with('.') && file.chars().all(plain)
}
