//! Adapters on disk: in PEFT's files as far as it can place them, and `lora.json` says which base they belong to.

use super::folder::inside_if_there;
use super::index::open_files;
use crate::config::lora::LoraConfig;
use crate::error::{Error, Result};
use crate::input;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};
use std::fs;
use std::path::{Path, PathBuf};

/// PEFT's file of adapters.
pub const ADAPTERS: &str = "adapter_model.safetensors";
/// PEFT's description of them.
const PEFT: &str = "adapter_config.json";
/// The program's own.
const LORA: &str = "lora.json";
/// Largest accepted `lora.json`: it holds a path and a few words.
const LARGEST: u64 = 1 << 20;

/// What adapters are, and what they stand beside.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Adapters {
    /// Folder of the frozen weights: absolute, or seen from the folder of the adapters.
    pub base: PathBuf,
    /// SHA-256 of the bytes of the base's weights, file after file.
    pub sha256: String,
    /// Rank, factor and targets, spelt out.
    pub lora: LoraConfig,
}

impl Adapters {
    /// Adapters beside the weights in the folder `base`, which are read for their hash.
    pub fn new(base: &Path, lora: &LoraConfig) -> Result<Adapters> {
        Ok(Adapters { base: real(base), sha256: hash(base)?, lora: lora.clone() })
    }

    /// What stands in `folder`, if it holds adapters rather than weights; `base` is then a path from anywhere.
    pub fn beside(folder: &Path) -> Result<Option<Adapters>> {
        let Some(path) = inside_if_there(folder, LORA)? else { return Ok(None) };
        let object = input::json_object(&input::read(&path, LARGEST)?).map_err(|reason| Error::file(&path, reason))?;
        let read: Adapters = serde_json::from_value(object.into())
            .map_err(|e| Error::file(&path, format!("does not say what adapters are: {}", input::one_line(&e))))?;
        if !read.lora.is_on() {
            return Err(Error::file(&path, "says that the rank is 0; it must be at least 1"));
        }
        Ok(Some(Adapters { base: real(&folder.join(&read.base)), ..read }))
    }

    /// Refuses a base that is not there, or not what it was.
    pub fn check_base(&self) -> Result<()> {
        let what = match self.base.is_dir() {
            false => "gone",
            true if hash(&self.base)? != self.sha256 => "not what they were",
            true => return Ok(()),
        };
        let base = self.base.display();
        Err(Error::Usage(format!("the adapters belong to the weights in {base}, which are {what}; put them back")))
    }

    /// The files that say it in the checkpoint `folder`, which may move together with a base in the same run folder.
    pub fn texts(&self, folder: &Path) -> Result<Vec<(&'static str, String)>> {
        let run = folder.parent().and_then(Path::parent).map(real);
        let inside = run.and_then(|run| self.base.strip_prefix(run).ok().map(Path::to_owned));
        let base = inside.map_or(self.base.clone(), |inside| Path::new("../..").join(inside));
        let text = serde_json::to_string_pretty(&Adapters { base, ..self.clone() });
        let text = text.map_err(|e| Error::file(LORA, e.to_string()))? + "\n";
        Ok([(LORA, text)].into_iter().chain(self.peft()).collect())
    }

    /// PEFT's description; nothing for adapters of feed-forward layers. Beside transformers from version 5 on, which
    /// keeps the routed experts of a layer in fused tensors, it takes the names of these layers for those of the
    /// experts and leaves adapters of dense layers and shared experts out without a word (0.21,
    /// `_convert_peft_config_moe`).
    pub fn peft(&self) -> Option<(&'static str, String)> {
        if self.lora.targets().iter().any(|target| target.is_feed_forward()) {
            return None;
        }
        let keys = json!({
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": self.base,
            "r": self.lora.rank,
            "lora_alpha": self.lora.alpha(),
            "target_modules": self.lora.targets().iter().map(|target| target.name()).collect::<Vec<_>>(),
            "lora_dropout": 0.0,
            "bias": "none",
            "fan_in_fan_out": false,
            "inference_mode": true,
        });
        Some((PEFT, format!("{keys:#}\n")))
    }
}

/// The path from the root, without links; as it is where nothing is there.
fn real(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or(path.to_owned())
}

/// SHA-256 of all bytes of a folder's weights, in the order of the files' names.
fn hash(folder: &Path) -> Result<String> {
    if inside_if_there(folder, LORA)?.is_some() {
        return Err(Error::file(folder, "holds adapters, which cannot be the base of others"));
    }
    let mut files = open_files(folder)?;
    files.sort_by(|a, b| a.path().cmp(b.path()));
    let mut hash = Sha256::new();
    files.iter().for_each(|file| hash.update(file.all()));
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}
