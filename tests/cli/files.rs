//! Models and tensor files, sound and broken.

use super::shared;
use serde_json::{Map, Value, json};
use std::fs;
use std::path::{Path, PathBuf};

/// Name of the shared run's checkpoint.
pub const CHECKPOINT: &str = "run/checkpoints/step-00000002";

/// Copies a folder with all that is in it.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// A copy of the shared checkpoint, called `model`, in a folder of its own.
pub fn model() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model");
    copy(&shared().join(CHECKPOINT), &model);
    (folder, model)
}

/// Changes the text of a file.
pub fn edit(path: &Path, change: impl FnOnce(String) -> String) {
    fs::write(path, change(fs::read_to_string(path).unwrap())).unwrap();
}

/// Cuts a file to a share of its length.
pub fn truncate(path: &Path, numerator: u64, denominator: u64) {
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(file.metadata().unwrap().len() * numerator / denominator).unwrap();
}

/// A tensor of a file to be written.
pub struct Raw {
    pub name: &'static str,
    pub dtype: &'static str,
    pub shape: Vec<usize>,
    pub bytes: Vec<u8>,
}

pub fn integers(name: &'static str, shape: &[usize], values: &[i64]) -> Raw {
    let bytes = values.iter().flat_map(|x| x.to_le_bytes()).collect();
    Raw { name, dtype: "I64", shape: shape.to_vec(), bytes }
}

/// Writes a safetensors file whose header `lie` has changed.
pub fn write(path: &Path, tensors: &[Raw], lie: impl FnOnce(&mut Map<String, Value>)) {
    let (mut header, mut data) = (Map::new(), Vec::new());
    for tensor in tensors {
        let start = data.len();
        data.extend(&tensor.bytes);
        let described = json!({"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [start, data.len()]});
        header.insert(tensor.name.to_owned(), described);
    }
    lie(&mut header);
    let header = Value::Object(header).to_string();
    let length = (header.len() as u64).to_le_bytes();
    fs::write(path, [&length[..], header.as_bytes(), &data].concat()).unwrap();
}

/// A batch of one sequence of four tokens, as `dump` reads it.
pub fn batch() -> Vec<Raw> {
    vec![integers("input_ids", &[1, 4], &[1, 2, 3, 4]), integers("labels", &[1, 4], &[2, 3, 4, -100])]
}
