//! What `--resume` takes over from a run folder, and what may change on the way.

use crate::config::Config;
use crate::config::train::OptimizerKind;
use crate::data::fingerprint::{self, Fingerprint};
use crate::error::{Error, Result};
use crate::train::checkpoint;
use crate::train::journal::CONFIG;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// Keys under `[model]` that only training looks at; the others make another network of the same weights.
const FREE_MODEL_KEYS: [&str; 5] =
    ["aux_loss_alpha", "attention_dropout", "embed_dropout", "resid_dropout", "initializer_range"];

/// Keys that decide what is reported, drawn and kept, or where activations stay, and no bit of what is learnt.
const FREE_TRAIN_KEYS: [&str; 11] = [
    "steps",
    "recompute",
    "eval_interval",
    "eval_batches",
    "checkpoint_interval",
    "keep",
    "keep_best",
    "milestone_interval",
    "sample_interval",
    "sample_prompt",
    "device_retries",
];

/// The run's own configuration, which a resumed run starts from unless it names another.
pub(super) fn own_config(out: &Path) -> Option<String> {
    let file = out.join(CONFIG);
    file.is_file().then(|| file.to_string_lossy().into_owned())
}

/// A key of which two configurations have different values, and these in words.
pub(super) struct Difference {
    pub section: String,
    pub key: String,
    pub was: String,
    pub is: String,
}

/// Every key that differs between two configurations.
pub(super) fn differences(old: &Config, new: &Config) -> Result<Vec<Difference>> {
    let (old, new) = (sections(old)?, sections(new)?);
    let mut found = Vec::new();
    for (section, new) in &new {
        let empty = Value::Table(Table::new());
        let (Value::Table(old), Value::Table(new)) = (old.get(section).unwrap_or(&empty), new) else { continue };
        let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
        for key in keys.into_iter().filter(|key| old.get(*key) != new.get(*key)) {
            let (section, key, was, is) = (section.clone(), key.clone(), shown(old.get(key)), shown(new.get(key)));
            found.push(Difference { section, key, was, is });
        }
    }
    Ok(found)
}

/// A line for each key whose value is not that of the run so far.
///
/// Errors: the network or the optimizer's state would be another one than the checkpoints'; without `allowed`, anything
/// else that decides what is learnt.
pub(super) fn changes(out: &Path, config: &Config, allowed: bool) -> Result<Vec<String>> {
    let Some(own) = own_config(out) else { return Ok(Vec::new()) };
    let (mut lines, mut weighty) = (Vec::new(), Vec::new());
    // Older versions kept relative paths.
    let own = Config::resolve(Some(&own), &[])?.located()?;
    for Difference { section, key, was, is } in differences(&own, config)? {
        let path = format!("{section}.{key}");
        let another_state = match path.as_str() {
            "optimizer.kind" => true,
            "optimizer.block_size" => config.optimizer.kind == OptimizerKind::Adamw8bit,
            _ if section == "lora" => true,
            _ => section == "model" && !FREE_MODEL_KEYS.contains(&key.as_str()),
        };
        if another_state {
            let reason = format!("is {is}, but the run in {} was begun with {was}", out.display());
            return Err(Error::config(path, format!("{reason}; set it back, or choose another --out")));
        }
        if section != "log" && !(section == "train" && FREE_TRAIN_KEYS.contains(&key.as_str())) {
            weighty.push(format!("{path} from {was} to {is}"));
        }
        if path != "train.steps" {
            lines.push(format!("{path} changes from {was} to {is}"));
        }
    }
    if !weighty.is_empty() && !allowed {
        return Err(Error::Usage(format!(
            "the run in {} would go on with other settings ({}); leave them out, or add --allow-changes",
            out.display(),
            weighty.join(", ")
        )));
    }
    Ok(lines)
}

/// A line for each input that is not what the newest checkpoint in `out` has learnt from.
///
/// Errors: there is one, and that is not `allowed`.
pub(super) fn changed_inputs(out: &Path, config: &Config, now: &[Fingerprint], allowed: bool) -> Result<Vec<String>> {
    let path = |key: &str, number: usize| match key {
        "data.path" => config.data.path.get(number).map(PathBuf::as_path),
        "data.val_path" => config.data.val_path.get(number).map(PathBuf::as_path),
        _ => config.sft.as_ref().and_then(|sft| sft.chat_template.as_deref()),
    };
    let lines = fingerprint::changes(&checkpoint::inputs(out)?, now, path);
    if !lines.is_empty() && !allowed {
        let (out, lines) = (out.display(), lines.join(", "));
        let reason = format!("the run in {out} would go on with other data ({lines}); put them back");
        return Err(Error::Usage(format!("{reason}, or add --allow-changes")));
    }
    Ok(lines)
}

fn sections(config: &Config) -> Result<Table> {
    Table::try_from(config).map_err(|e| Error::config("config", e.to_string()))
}

fn shown(value: Option<&Value>) -> String {
    value.map_or("absent".to_owned(), Value::to_string)
}
