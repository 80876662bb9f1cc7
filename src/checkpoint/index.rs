//! Which files a folder's weights are in: `model.safetensors`, or the shards that `model.safetensors.index.json` names.

use super::container::Container;
use super::disk::read_json_object;
use crate::error::{Error, Result};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
/// As the limit of a safetensors header, of which an index repeats a part.
const LARGEST_INDEX: u64 = 100_000_000;

/// Opens every file of the weights in `dir`.
pub(super) fn open_files(dir: &Path) -> Result<Vec<Container>> {
    let (single, index) = (dir.join(SINGLE), dir.join(INDEX));
    if exists(&single)? {
        return Ok(vec![Container::open(&single)?]);
    }
    if exists(&index)? {
        return open_shards(dir, &index);
    }
    Err(Error::file(dir, format!("holds neither {SINGLE} nor {INDEX}; give a folder with a model's weights")))
}

fn exists(path: &Path) -> Result<bool> {
    path.try_exists().map_err(|e| Error::io(path, e))
}

fn open_shards(dir: &Path, index: &Path) -> Result<Vec<Container>> {
    let map = read_json_object(index, LARGEST_INDEX)?;
    let Some(Value::Object(weight_map)) = map.get("weight_map") else {
        return Err(Error::file(index, "has no \"weight_map\" object from tensor to file names"));
    };
    let mut listed: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (tensor, file) in weight_map {
        match file.as_str() {
            Some(file) => listed.entry(file).or_default().insert(tensor),
            None => return Err(Error::file(index, format!("{tensor:?} is not mapped to a file name"))),
        };
    }
    let mut shards = Vec::new();
    for (file, tensors) in listed {
        let shard = Container::open(&shard_path(dir, index, file)?)?;
        let held: BTreeSet<&str> = shard.entries().keys().map(String::as_str).collect();
        if let Some(name) = tensors.symmetric_difference(&held).next() {
            let reason = format!("{name:?} is either listed for {file} and not in it, or in it and not listed");
            return Err(Error::file(index, reason));
        }
        shards.push(shard);
    }
    Ok(shards)
}

/// The path of a shard, which must be a plain file name and lead to a file of the same folder.
fn shard_path(dir: &Path, index: &Path, file: &str) -> Result<PathBuf> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if !file.ends_with(".safetensors") || file.starts_with('.') || !file.chars().all(plain) {
        let reason = format!("names the file {file:?}; only plain names that end in .safetensors are opened");
        return Err(Error::file(index, reason));
    }
    let path = dir.join(file);
    let real = |path: &Path| fs::canonicalize(path).map_err(|e| Error::io(path, e));
    let (folder, target) = (real(dir)?, real(&path)?);
    let allowed = [Some(folder.clone()), blobs_beside(&folder)];
    if !allowed.iter().any(|folder| folder.is_some() && target.parent() == folder.as_deref()) {
        return Err(Error::file(&path, "is a link that leaves its folder; replace it by the file itself"));
    }
    Ok(path)
}

/// In the Hub's download cache `snapshots/REVISION` holds links into `blobs`, two folders up.
fn blobs_beside(folder: &Path) -> Option<PathBuf> {
    let snapshots = folder.parent().filter(|parent| parent.file_name().is_some_and(|name| name == "snapshots"))?;
    Some(snapshots.parent()?.join("blobs"))
}
