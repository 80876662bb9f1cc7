//! Models and tensor files, sound and broken.

use super::shared;
use hadal::checkpoint::container::{Announced, Container, write_container};
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

/// A copy of the shared checkpoint, called `model`, in a folder of its own; without the manifest, to be changed.
pub fn model() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model");
    copy(&shared().join(CHECKPOINT), &model);
    fs::remove_file(model.join("manifest.json")).unwrap();
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

/// The tensors of a file, in the order of their names.
pub type Tensors = Vec<(Announced, Vec<u8>)>;

pub fn read_raw(path: &Path) -> Tensors {
    let file = Container::open(path).unwrap();
    let tensor = |(name, entry): (&String, &hadal::checkpoint::container::Entry)| {
        let announced = Announced { name: name.clone(), dtype: entry.dtype, shape: entry.shape.clone() };
        (announced, file.bytes(entry).to_vec())
    };
    file.entries().iter().map(tensor).collect()
}

pub fn write_raw(path: &Path, tensors: &Tensors) {
    let announced: Vec<Announced> = tensors.iter().map(|(announced, _)| announced.clone()).collect();
    write_container(path, &announced, |i, out| {
        out.write_all(&tensors[i].1).unwrap();
        Ok(())
    })
    .unwrap();
}

/// Changes the tensors of a file.
pub fn rewrite(path: &Path, change: impl FnOnce(&mut Tensors)) {
    let mut tensors = read_raw(path);
    change(&mut tensors);
    write_raw(path, &tensors);
}

/// A copy, called `model`, of a golden case's model in a folder of its own.
pub fn golden(case: &str) -> (tempfile::TempDir, PathBuf) {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(case);
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model");
    copy(&from, &model);
    (folder, model)
}

/// Joins a layer's experts into the two tensors that transformers keeps in memory.
pub fn fuse(tensors: &mut Tensors, experts: usize) {
    let prefixes: Vec<String> =
        tensors.iter().filter_map(|(t, _)| Some(t.name.strip_suffix(".0.gate_proj.weight")?.to_owned())).collect();
    for prefix in prefixes {
        for (fused, parts) in [("gate_up_proj", &["gate_proj", "up_proj"][..]), ("down_proj", &["down_proj"])] {
            let (mut shape, mut bytes) = (Vec::new(), Vec::new());
            for expert in 0..experts {
                for part in parts {
                    let name = format!("{prefix}.{expert}.{part}.weight");
                    let at = tensors.iter().position(|(t, _)| t.name == name).unwrap();
                    let (tensor, data) = tensors.remove(at);
                    shape = vec![experts, parts.len() * tensor.shape[0], tensor.shape[1]];
                    bytes.extend(data);
                }
            }
            let name = format!("{prefix}.{fused}");
            tensors.push((Announced { name, dtype: safetensors::Dtype::F32, shape }, bytes));
        }
    }
}
