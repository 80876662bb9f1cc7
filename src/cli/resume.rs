//! What `--resume` takes over from a run folder, and what may change on the way.

use crate::config::Config;
use crate::config::hf::{is_reward_model, read_config};
use crate::config::model::ModelConfig;
use crate::config::train::OptimizerKind;
use crate::data::fingerprint::{self, Fingerprint};
use crate::error::{Error, Result};
use crate::terminal::note;
use crate::train::checkpoint;
use crate::train::journal::CONFIG;
use crate::train::recorded::Recorded;
use crate::train::schedule;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// Keys under `[model]` that only training looks at, or that only say which tokens are marks; the others make another
/// network of the same weights.
const FREE_MODEL_KEYS: [&str; 7] = [
    "aux_loss_alpha",
    "attention_dropout",
    "embed_dropout",
    "resid_dropout",
    "initializer_range",
    "bos_token_id",
    "eos_token_id",
];

/// Keys that say in other words where the learning rate turns.
const TURNING_KEYS: [&str; 3] = ["warmup_steps", "decay_steps", "cooldown_steps"];

/// Keys that decide what is reported, drawn and kept, or where activations stay, and no bit of what is learnt.
const FREE_TRAIN_KEYS: [&str; 12] = [
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
    "on_disk_full",
];

/// The run's own configuration, which a resumed run starts from unless it names another.
pub(super) fn own_config(out: &Path) -> Option<String> {
    let file = out.join(CONFIG);
    file.is_file().then(|| file.to_string_lossy().into_owned())
}

/// The same, or where that file is gone, the one in the newest checkpoint; none where the run has none either.
///
/// Errors: its checkpoints are of an older version, which kept no configuration there.
pub(super) fn base(out: &Path) -> Result<Option<String>> {
    if let Some(own) = own_config(out) {
        return Ok(Some(own));
    }
    let Some(recorded) = Recorded::newest(out)? else { return Ok(None) };
    let Some(file) = recorded.file() else {
        let hint = "and its checkpoints hold no configuration; name the run's as CONFIG";
        return Err(Error::file(out.join(CONFIG), format!("is missing, {hint}")));
    };
    note(format_args!("{CONFIG} is missing in {}: {} takes its place", out.display(), file.display()));
    Ok(Some(file.to_string_lossy().into_owned()))
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

/// A line for each key whose value is not that of the run so far: of its newest checkpoint, whatever its config.toml
/// has come to say since.
///
/// Errors: the network or the optimizer's state would be another one than the checkpoints'; without `allowed`, anything
/// else that decides what is learnt.
pub(super) fn changes(out: &Path, config: &Config, allowed: bool) -> Result<Vec<String>> {
    let Some(recorded) = Recorded::newest(out)? else { return Ok(Vec::new()) };
    let old = match recorded.config {
        Some(config) => config,
        None => of_older_version(out, &recorded.folder, config)?,
    };
    let (mut lines, mut weighty, mut keeping) = (Vec::new(), Vec::new(), String::new());
    // Older versions kept relative paths.
    let old = old.located()?;
    if let Some((moves, keeps)) = schedule::moved(&old, config) {
        lines.push(format!("the schedule follows train.steps: {moves}"));
        weighty.push(format!("a schedule that follows train.steps: {moves}"));
        keeping = format!(", keep the schedule by {keeps}");
    }
    let same_turns = old.schedule.turns(old.train.steps) == config.schedule.turns(config.train.steps);
    for Difference { section, key, was, is } in differences(&old, config)? {
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
        let free = match section.as_str() {
            "log" => true,
            "train" => FREE_TRAIN_KEYS.contains(&key.as_str()),
            // Other words for the same rates.
            "schedule" => same_turns && TURNING_KEYS.contains(&key.as_str()),
            _ => false,
        };
        if !free {
            weighty.push(format!("{path} from {was} to {is}"));
        }
        if path != "train.steps" {
            lines.push(format!("{path} changes from {was} to {is}"));
        }
    }
    if !weighty.is_empty() && !allowed {
        return Err(Error::Usage(format!(
            "the run in {} would go on with other settings ({}); leave them out{keeping}, or add --allow-changes",
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

/// What is known of the configuration of a checkpoint that does not hold it: the run's own file where there is one,
/// else what is asked for, with the network that stands beside the weights.
fn of_older_version(out: &Path, checkpoint: &Path, config: &Config) -> Result<Config> {
    let own = own_config(out).map(|own| Config::resolve(Some(&own), &[])).transpose()?;
    let mut old = own.unwrap_or_else(|| config.clone());
    // A checkpoint that is not sound is passed over when it is loaded, and a reward model has another form.
    let described = if is_reward_model(checkpoint).unwrap_or(true) { None } else { read_config(checkpoint).ok() };
    if let Some((model, _)) = described {
        let known = old.model;
        old.model = ModelConfig {
            // No config.json has these rates, and these tokens follow from the tokenizer.
            embed_dropout: known.embed_dropout,
            resid_dropout: known.resid_dropout,
            bos_token_id: config.model.bos_token_id,
            eos_token_id: config.model.eos_token_id,
            ..model
        };
    }
    Ok(old)
}

fn sections(config: &Config) -> Result<Table> {
    Table::try_from(config).map_err(|e| Error::config("config", e.to_string()))
}

fn shown(value: Option<&Value>) -> String {
    value.map_or("absent".to_owned(), Value::to_string)
}
